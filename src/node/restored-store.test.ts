import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { silentLogger } from "../base/index.ts";
import { rememberedRevision, scanDevices } from "../media/index.ts";
import { type DriverEvent, type FamfsDevice, type Store, updateRecord } from "../state/index.ts";
import { ForcedDetach } from "./forced-detach.ts";
import { planRebuild, rebuild } from "./rebuild.ts";
import { RestoredStore } from "./restored-store.ts";
import { StageRecords } from "./stage-records.ts";
import { eventually, newVolume, openDevices, openStore, scratchDirectory } from "./testing/fixtures.ts";
import { VolumeConditions } from "./volume-conditions.ts";
import { VolumeJobs } from "./volume-jobs.ts";
import { VolumeWatch } from "./volume-watch.ts";

const NODE = { nodeId: "a", bootId: "boot" };
const UUID = "22222222-2222-3333-4444-555555555555";

async function setUp(t: TestContext) {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "pool0");
  const devices = await openDevices(t, store, `file://${path}?size=128Mi`);
  const uuid = (await store.list("devices"))[0]?.uuid ?? "";
  const events: DriverEvent[] = [];
  const recorder = { record: (event: DriverEvent) => void events.push(event) };
  const options = { store, nodeId: "a", devices: () => devices.all(), events: recorder, logger: silentLogger };
  const restored = new RestoredStore(options);
  return { directory, store, path, devices, uuid, events, restored, another: () => new RestoredStore(options) };
}

function set(store: Store, uuid: string, change: Partial<FamfsDevice>): Promise<unknown> {
  return updateRecord(store, "devices", uuid, (device) => ({ ...device, ...change }));
}

/** Formats what is to be formatted, and returns when it is. */
async function formatted({ store, devices }: Awaited<ReturnType<typeof setUp>>, name: string): Promise<void> {
  const jobs = new VolumeJobs({ store, nodeId: "a", device: (uuid) => devices.require(uuid), logger: silentLogger });
  using _watch = VolumeWatch.start(store, silentLogger, [jobs]);
  await eventually("it is formatted", async () => (await store.get("volumes", name))?.phase === "Ready");
  await jobs[Symbol.asyncDispose]();
}

test("a store that went back is noticed, told and latched, also by who has just started", async (t) => {
  const at = await setUp(t);
  const { store, devices, uuid, events, restored, another } = at;
  const device = await devices.require(uuid);
  await set(store, uuid, { revision: 40 });
  assert.equal(await restored.whyFrozen(), undefined);
  assert.equal(await rememberedRevision(device), 40);
  await set(store, uuid, { revision: 39 });
  assert.match((await another().whyFrozen()) ?? "", /node a found revision 39 in it, and the memory remembers 40/);
  const frozen = (await store.get("devices", uuid))?.frozen;
  assert.match(frozen?.reason ?? "", /restored from a backup/);
  assert.deepEqual(
    events.map(({ reason }) => reason),
    ["StoreRestored"],
  );
  // The controllers catch up with what the memory remembers: what was lost is lost all the same.
  await set(store, uuid, { revision: 50 });
  assert.equal(await restored.whyFrozen(uuid), frozen?.reason);
  assert.deepEqual((await store.get("devices", uuid))?.frozen, frozen);
});

test("volumes are read anew at once when the store went back: the watch may wait for versions that are none", async (t) => {
  const at = await setUp(t);
  const { store, uuid, restored } = at;
  const resync = t.mock.method(store.informer("volumes"), "resync");
  await set(store, uuid, { revision: 40 });
  await restored.look();
  assert.equal(resync.mock.callCount(), 0);
  await set(store, uuid, { revision: 39 });
  await restored.look();
  await restored.look();
  assert.equal(resync.mock.callCount(), 1, "once");
});

test("nothing is erased or given up before the records are made again; then both go on", async (t) => {
  const at = await setUp(t);
  const { directory, store, path, devices, uuid, restored } = at;
  const { devices: scanned } = await scanDevices([path]);
  await set(store, uuid, { revision: 40 });
  await restored.look();
  // The backup has v1 deleted, and two volumes as they were before node b wrote to one and this node had the other.
  const half = { offset: 34 * 2 ** 20, length: 32 * 2 ** 20 };
  const first = { offset: 2 * 2 ** 20, length: 32 * 2 ** 20 };
  const place = (region: typeof half) => ({ regions: [{ deviceUuid: uuid, ...region }], capacityBytes: 2 ** 20 });
  await store.create("volumes", "v1", newVolume(uuid, place(first)));
  await store.create("volumes", "v2", newVolume(uuid, { uuid: UUID, ...place(half) }));
  await formatted(at, "v1");
  await formatted(at, "v2");
  await updateRecord(store, "volumes", "v1", (volume) => ({ ...volume, phase: "Reclaiming", jobNode: "a" }));
  await set(store, uuid, { revision: 7 });

  const records = await StageRecords.open(join(directory, "stage"));
  const staged = {
    accessMode: "MULTI_NODE_MULTI_WRITER",
    readOnly: false,
    mountGroup: 0,
    seLinuxContext: "",
  } as const;
  await records.put({ volumeId: "v2", stagingPath: join(directory, "s"), ...staged, pods: {}, targets: [] });
  const givenUp: string[] = [];
  const conditions = new VolumeConditions({ store, nodeId: "a", events: { record() {} } });
  const whyFrozen = (only?: string) => restored.whyFrozen(only);
  await using jobs = new VolumeJobs({
    store,
    nodeId: "a",
    device: (each) => devices.require(each),
    whyFrozen,
    conditions,
    logger: silentLogger,
  });
  await using detach = new ForcedDetach({
    node: NODE,
    store,
    records,
    serves: () => true,
    isInMemory: async () => false,
    whyFrozen,
    giveUp: async (volumeId) => {
      givenUp.push(volumeId);
      await records.delete(volumeId);
      return true;
    },
    logger: silentLogger,
  });
  using _watch = VolumeWatch.start(store, silentLogger, [jobs, detach]);
  // As after an outage that was longer than the lease.
  await detach.lookAtAll();
  const told = await eventually("it says why it is not erased", async () => {
    const { conditions: said = [] } = (await store.get("volumes", "v1")) ?? {};
    return said.find(({ reason }) => reason === "EraseFrozen");
  });
  assert.match(told.message, /v1 is not erased: the store was restored.*device rebuild/);
  assert.deepEqual(givenUp, []);

  const plan = await planRebuild({ store, devices: scanned });
  assert.deepEqual(
    plan.refreshed.map(({ name }) => name),
    ["v2"],
  );
  await rebuild(store, plan);
  const device = await store.get("devices", uuid);
  assert.deepEqual([device?.frozen, device?.revision], [undefined, 41]);
  await eventually("v1 is erased", async () => (await store.get("volumes", "v1")) === undefined);
  // Whether this node still has v2 its record cannot know any more: pods keep it until it was published anew.
  await detach.lookAtAll();
  assert.deepEqual(givenUp, []);
  const publication = { a: { accessMode: staged.accessMode, readonly: false } };
  await updateRecord(store, "volumes", "v2", (volume) => ({ ...volume, published: publication }));
  await updateRecord(store, "volumes", "v2", (volume) => ({ ...volume, staged: { a: { bootId: NODE.bootId } } }));
  await eventually("both were seen", async () => {
    const volume = await store.get("volumes", "v2");
    if (volume !== undefined) detach.consider(volume);
    return true;
  });
  await updateRecord(store, "volumes", "v2", (volume) => ({ ...volume, published: {} }));
  await eventually("detached by force, it is given up", () => givenUp.length > 0);
});

test("a deleted volume of the backup whose place is another's gives it back to that", async (t) => {
  const at = await setUp(t);
  const { store, path, uuid, restored } = at;
  const { devices: scanned } = await scanDevices([path]);
  await set(store, uuid, { revision: 40 });
  await restored.look();
  await store.create("volumes", "v2", newVolume(uuid, { uuid: UUID }));
  await formatted(at, "v2");
  const made = await store.get("volumes", "v2");
  assert.ok(made);
  await store.delete("volumes", "v2", made.resourceVersion);
  await store.create("volumes", "v1", newVolume(uuid, { phase: "Ready" }));
  await set(store, uuid, { revision: 7 });
  // A volume that is not there, and nobody deleted: only a person can say that it is gone.
  const first = await planRebuild({ store, devices: scanned });
  assert.match(first.refused[0]?.reason ?? "", /v2 .* is where the record of volume v1 .*delete the claim of v1/);
  assert.deepEqual(first.frozen, [uuid]);
  assert.deepEqual((await planRebuild({ store, devices: scanned, force: true })).frozen, [], "unless he wants it");
  await rebuild(store, first);
  assert.notEqual(await restored.whyFrozen(), undefined);
  await updateRecord(store, "volumes", "v1", (volume) => ({ ...volume, phase: "Reclaiming", jobNode: "a" }));
  await rebuild(store, await planRebuild({ store, devices: scanned }));
  assert.deepEqual((await store.get("volumes", "v1"))?.regions, [], "a controller deletes what has none");
  assert.equal((await store.get("volumes", "v2"))?.uuid, UUID);
  assert.equal(await restored.whyFrozen(), undefined);
});
