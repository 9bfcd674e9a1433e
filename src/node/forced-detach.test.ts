import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { silentLogger } from "../base/index.ts";
import { eraseRegion, isInMemory } from "../media/index.ts";
import { ForcedDetach } from "./forced-detach.ts";
import { StageRecords } from "./stage-records.ts";
import { eventually, newVolume, openDevices, openStore, scratchDirectory } from "./testing/fixtures.ts";
import { VolumeJobs } from "./volume-jobs.ts";
import { VolumeWatch } from "./volume-watch.ts";

/** Node a has v1 mounted, which is in the memory. */
async function setUp(t: TestContext) {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const devices = await openDevices(t, store, `file://${join(directory, "pool0")}?size=128Mi`);
  const deviceUuid = (await store.list("devices"))[0]?.uuid ?? "";
  await store.create("volumes", "v1", newVolume(deviceUuid));
  {
    await using jobs = new VolumeJobs({
      store,
      nodeId: "a",
      device: (uuid) => devices.require(uuid),
      logger: silentLogger,
    });
    using _watch = VolumeWatch.start(store, silentLogger, [jobs]);
    await eventually("it is formatted", async () => (await store.get("volumes", "v1"))?.phase === "Ready");
  }
  const records = await StageRecords.open(join(directory, "stage"));
  const staged = { accessMode: "MULTI_NODE_MULTI_WRITER", readOnly: false, mountGroup: 0, seLinuxContext: "" } as const;
  await records.put({ volumeId: "v1", stagingPath: join(directory, "s"), ...staged, pods: {}, targets: [] });
  const givenUp: string[] = [];
  const detach = new ForcedDetach({
    node: { nodeId: "a", bootId: "boot" },
    store,
    records,
    serves: () => true,
    isInMemory: async ({ uuid, regionGeneration: generation, regions: [region] }) =>
      region !== undefined && isInMemory(await devices.require(deviceUuid), region, { uuid, generation }),
    whyFrozen: async () => undefined,
    giveUp: async (_volumeId, reason) => {
      givenUp.push(reason);
      return true;
    },
    logger: silentLogger,
  });
  t.after(() => detach[Symbol.asyncDispose]());
  const seen = await store.get("volumes", "v1");
  assert.ok(seen);
  detach.consider({
    ...seen,
    published: { a: { accessMode: "x", readonly: false } },
    staged: { a: { bootId: "boot" } },
  });
  await store.delete("volumes", "v1", seen.resourceVersion);
  const erase = async () => {
    const [region] = seen.regions;
    const { uuid, regionGeneration: generation } = seen;
    if (region) await eraseRegion(await devices.require(deviceUuid), region, { uuid, generation });
  };
  return { detach, givenUp, erase };
}

test("after an outage a volume whose record is missing is kept as long as the memory has it", async (t) => {
  const { detach, givenUp, erase } = await setUp(t);
  await detach.lookAtAll();
  assert.deepEqual(givenUp, []);
  await erase();
  await detach.lookAtAll();
  assert.deepEqual(givenUp, ["this node had been declared gone, and the volume was deleted"]);
});
