import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { silentLogger } from "../base/index.ts";
import { type FamfsVolume, type Store, updateRecord } from "../state/index.ts";
import type { Devices } from "./devices.ts";
import { eventually, newVolume, openDevices, openStore, scratchDirectory } from "./testing/fixtures.ts";
import { VolumeJobs } from "./volume-jobs.ts";
import { VolumeWatch } from "./volume-watch.ts";

interface Setup {
  store: Store;
  devices: Devices;
  deviceUuid: string;
  start: () => AsyncDisposable;
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
    start() {
      const stack = new AsyncDisposableStack();
      const jobs = stack.use(
        new VolumeJobs({ store, nodeId: "a", device: (uuid) => devices.get(uuid), logger: silentLogger }),
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

test("a volume to be formatted becomes Ready, and its region holds it", async (t) => {
  const { create, phase, start, devices, deviceUuid } = await setUp(t);
  await create({ parameters: { uid: "7", mode: "0750" } });
  await using _jobs = start();
  assert.equal((await phase("Ready")).jobNode, undefined);
  const head = await devices.get(deviceUuid)?.read(2 * 2 ** 20, 8);
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
  const device = devices.get(deviceUuid);
  const secret = 2 * 2 ** 20 + 40 * 2 ** 20;
  await using window = device?.mapRegion({ offset: secret, length: 2 * 2 ** 20 }, { writable: true });
  window?.copyInDurable(0, Buffer.from("a former tenant's secret"));
  const staged = { b: { bootId: "x" } };
  await updateRecord(store, "volumes", "v1", (record) => ({ ...record, phase: "Reclaiming", jobNode: "a", staged }));
  await using _jobs = start(); // as after a restart
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal((await store.get("volumes", "v1"))?.phase, "Reclaiming");
  await updateRecord(store, "volumes", "v1", (record) => ({ ...record, staged: {} }));
  await eventually("the record is gone", async () => (await store.get("volumes", "v1")) === undefined || undefined);
  assert.deepEqual(await device?.read(secret, 24), new Uint8Array(24));
  assert.deepEqual(await device?.read(2 * 2 ** 20, 200), new Uint8Array(200));
});

test("jobs of other nodes and adopted volumes are left alone", async (t) => {
  const { create, start, store, devices, deviceUuid } = await setUp(t);
  await create({ phase: "Reclaiming", jobNode: "b" });
  await store.create("volumes", "v2", newVolume(deviceUuid, { phase: "Reclaiming", adopted: true }));
  await using _jobs = start();
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal((await store.list("volumes")).length, 2);
  assert.equal((await devices.get(deviceUuid)?.inspect())?.type, "label");
});
