import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { silentLogger } from "../base/index.ts";
import { eraseRegion, scanVolumes } from "../media/index.ts";
import { type FamfsVolume, loggedEvents, type Store, updateRecord } from "../state/index.ts";
import type { Devices } from "./devices.ts";
import { eventually, newVolume, openDevices, openStore, scratchDirectory } from "./testing/fixtures.ts";
import { VolumeConditions } from "./volume-conditions.ts";
import { VolumeJobs } from "./volume-jobs.ts";
import { VolumeWatch } from "./volume-watch.ts";

interface Setup {
  store: Store;
  devices: Devices;
  deviceUuid: string;
  /** `seen`: the store as the jobs see it. */
  start: (seen?: Store) => AsyncDisposable;
  create: (changes?: Partial<FamfsVolume>) => Promise<void>;
  phase: (phase: string) => Promise<FamfsVolume>;
}

async function setUp(t: TestContext): Promise<Setup> {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const devices = await openDevices(t, store, `file://${join(directory, "pool0")}?size=128Mi`);
  const deviceUuid = (await store.list("devices"))[0]?.uuid ?? "";
  return {
    store,
    devices,
    deviceUuid,
    start(seen = store) {
      const stack = new AsyncDisposableStack();
      const conditions = new VolumeConditions({ store, nodeId: "a", events: loggedEvents(silentLogger) });
      const jobs = stack.use(
        new VolumeJobs({
          store: seen,
          nodeId: "a",
          device: (uuid) => devices.require(uuid),
          conditions,
          logger: silentLogger,
        }),
      );
      stack.use(VolumeWatch.start(store, silentLogger, [jobs]));
      return stack;
    },
    create: async (changes) => void (await store.create("volumes", "v1", newVolume(deviceUuid, changes))),
    phase: (phase) =>
      eventually(`volume is ${phase}`, async () => {
        const volume = await store.get("volumes", "v1");
        return volume?.phase === phase ? volume : undefined;
      }),
  };
}

const V2 = "22222222-2222-3333-4444-555555555555";
const V3 = "33333333-2222-3333-4444-555555555555";

test("a volume to be formatted becomes Ready, and its region holds it", async (t) => {
  const { create, phase, start, devices, deviceUuid } = await setUp(t);
  await create({ parameters: { uid: "7", mode: "0750" } });
  await using _jobs = start();
  const { jobNode, slotCount } = await phase("Ready");
  assert.deepEqual({ jobNode, slotCount }, { jobNode: undefined, slotCount: 128 });
  const head = await (await devices.require(deviceUuid)).read(2 * 2 ** 20, 8);
  assert.notDeepEqual(head, new Uint8Array(8));
});

test("a volume that cannot be formatted is Failed, with the reason", async (t) => {
  const { create, phase, start } = await setUp(t);
  await create({ regions: [{ deviceUuid: "00000000-0000-0000-0000-000000000000", offset: 0, length: 2 ** 26 }] });
  await using _jobs = start();
  const { failure } = await phase("Failed");
  assert.equal(failure?.code, "DEVICE_NOT_FOUND");
});

test("a deleted volume is erased and its record goes, but not while a node has it staged", async (t) => {
  const { create, phase, start, store, devices, deviceUuid } = await setUp(t);
  await create();
  {
    await using _jobs = start();
    await phase("Ready");
  }
  const device = await devices.require(deviceUuid);
  const secret = 2 * 2 ** 20 + 40 * 2 ** 20;
  await using window = device.mapRegion({ offset: secret, length: 2 * 2 ** 20 }, { writable: true });
  window.copyInDurable(0, Buffer.from("a former tenant's secret"));
  const staged = { b: { bootId: "x" } };
  await updateRecord(store, "volumes", "v1", (record) => ({ ...record, phase: "Reclaiming", jobNode: "a", staged }));
  await using _jobs = start(); // as after a restart
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal((await store.get("volumes", "v1"))?.phase, "Reclaiming");
  await updateRecord(store, "volumes", "v1", (record) => ({ ...record, staged: {} }));
  await eventually("the record is gone", async () => (await store.get("volumes", "v1")) === undefined || undefined);
  assert.deepEqual(await device.read(secret, 24), new Uint8Array(24));
  assert.deepEqual(await device.read(2 * 2 ** 20, 200), new Uint8Array(200));
});

test("an erase job stops when its record has changed: the region may be another's", async (t) => {
  const { create, phase, start, store, devices, deviceUuid } = await setUp(t);
  await create();
  {
    await using _jobs = start();
    await phase("Ready");
  }
  const device = await devices.require(deviceUuid);
  const head = await device.read(2 * 2 ** 20, 200);
  await updateRecord(store, "volumes", "v1", (record) => ({ ...record, phase: "Reclaiming", jobNode: "a" }));
  let looks = 0;
  const changing = new Proxy(store, {
    get(target, name) {
      if (name !== "get") return Reflect.get(target, name).bind(target);
      return async () => {
        const volume = await target.get("volumes", "v1");
        return volume && { ...volume, regionGeneration: ++looks };
      };
    },
  });
  await using _jobs = start(changing);
  await eventually("the job has tried twice", () => looks >= 4 || undefined);
  assert.deepEqual(await device.read(2 * 2 ** 20, 200), head);
  assert.notEqual(await store.get("volumes", "v1"), undefined);
});

test("jobs of other nodes and adopted volumes are left alone", async (t) => {
  const { create, start, store, devices, deviceUuid } = await setUp(t);
  await create({ phase: "Reclaiming", jobNode: "b" });
  await store.create("volumes", "v2", newVolume(deviceUuid, { phase: "Reclaiming", adopted: true }));
  await using _jobs = start();
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal((await store.list("volumes")).length, 2);
  assert.equal((await (await devices.require(deviceUuid)).inspect()).type, "label");
});

/** The volume v1, formatted and holding something; its record is lost. Answers where it holds that. */
async function lostVolume({ create, phase, start, store, devices, deviceUuid }: Setup): Promise<number> {
  await create();
  {
    await using _jobs = start();
    await phase("Ready");
  }
  const lost = await store.get("volumes", "v1");
  assert.ok(lost);
  await store.delete("volumes", "v1", lost.resourceVersion);
  const secret = 30 * UNIT;
  await using window = (await devices.require(deviceUuid)).mapRegion(
    { offset: secret, length: UNIT },
    { writable: true },
  );
  window.copyInDurable(0, CONTENT);
  return secret;
}

const UNIT = 2 ** 21;
const CONTENT = Buffer.from("written by its pods");

test("what the memory holds without a record is neither formatted nor erased over, from whichever side", async (t) => {
  for (const phase of ["Formatting", "Reclaiming"] as const) {
    const setup = await setUp(t);
    const { start, store, devices, deviceUuid } = setup;
    const secret = await lostVolume(setup);
    // v2 is at its start, v3 in its middle: as records that were made since, or as a restored backup has them.
    const place = (offset: number, length: number) => ({ regions: [{ deviceUuid, offset, length }], phase });
    await store.create("volumes", "v2", newVolume(deviceUuid, { uuid: V2, ...place(UNIT, 16 * UNIT) }));
    await store.create("volumes", "v3", newVolume(deviceUuid, { uuid: V3, ...place(17 * UNIT, 16 * UNIT) }));
    await using _jobs = start();
    for (const [name, uuid] of [
      ["v2", V2],
      ["v3", V3],
    ] as const) {
      await eventually(`${name} says why it waits`, async () => {
        const volume = await store.get("volumes", name);
        assert.equal(volume?.phase, phase);
        const message = volume.conditions[0]?.message ?? "";
        return /holds volume v1 \(11111111.*\) at 2097152/.test(message) && message.includes(uuid);
      });
    }
    const device = await devices.require(deviceUuid);
    const { record } = (await scanVolumes(device))[0] ?? {};
    assert.equal(record?.name, "v1", "it is untouched");
    assert.deepEqual(Buffer.from(await device.read(secret, CONTENT.length)), CONTENT);
  }
});

test("a volume that was never formatted has nothing to be erased: its record goes", async (t) => {
  const setup = await setUp(t);
  const { start, store, devices, deviceUuid } = setup;
  const secret = await lostVolume(setup);
  const failure = { code: "DEVICE_NOT_FOUND", message: "not then" };
  await store.create("volumes", "v2", newVolume(deviceUuid, { uuid: V2, phase: "Reclaiming", failure }));
  await using _jobs = start();
  await eventually("the record is gone", async () => (await store.get("volumes", "v2")) === undefined);
  assert.deepEqual(Buffer.from(await (await devices.require(deviceUuid)).read(secret, CONTENT.length)), CONTENT);
});

test("a volume whose record forgot that it was formatted keeps what is in it", async (t) => {
  const setup = await setUp(t);
  const { create, phase, start, devices, deviceUuid } = setup;
  const secret = await lostVolume(setup);
  await create(); // as a backup has it that was made a moment earlier
  await using _jobs = start();
  await phase("Ready");
  assert.deepEqual(Buffer.from(await (await devices.require(deviceUuid)).read(secret, CONTENT.length)), CONTENT);
});

test("an erasing that was cut off goes on, and what others left of one is in nobody's way", async (t) => {
  const setup = await setUp(t);
  const { create, phase, start, store, devices, deviceUuid } = setup;
  const secret = await lostVolume(setup);
  const device = await devices.require(deviceUuid);
  const cut = { check: throwsAt(2) };
  const { regions, uuid, regionGeneration: generation } = newVolume(deviceUuid);
  for (const region of regions) await assert.rejects(eraseRegion(device, region, { uuid, generation }, cut));
  assert.deepEqual(Buffer.from(await device.read(secret, CONTENT.length)), CONTENT);
  await create({ phase: "Reclaiming" });
  {
    await using _jobs = start();
    await eventually("the record is gone", async () => (await store.get("volumes", "v1")) === undefined);
  }
  assert.deepEqual(await device.read(secret, CONTENT.length), new Uint8Array(CONTENT.length));
  // Cut off again, and now its record is lost for good: v2 begins inside.
  for (const region of regions)
    await assert.rejects(eraseRegion(device, region, { uuid, generation }, { check: throwsAt(2) }));
  await create({ uuid: V2, regions: [{ deviceUuid, offset: 9 * UNIT, length: 16 * UNIT }] });
  await using _jobs = start();
  await phase("Ready");
  assert.deepEqual(
    (await scanVolumes(device)).map(({ record }) => record?.volumeUuid),
    [V2],
  );
});

function throwsAt(call: number): () => void {
  return () => {
    if (--call === 0) throw new Error("killed");
  };
}
