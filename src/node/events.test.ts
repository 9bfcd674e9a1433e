import assert from "node:assert/strict";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { silentLogger } from "../base/index.ts";
import { openDevice } from "../media/index.ts";
import type { DriverEvent } from "../state/index.ts";
import { DeviceWatch } from "./device-watch.ts";
import { assertFabric } from "./fabric.ts";
import { LogWatch } from "./log-watch.ts";
import { NodePlugin } from "./node-plugin.ts";
import type { StageRecord } from "./stage-records.ts";
import {
  cleanup,
  eventually,
  intercepted,
  newVolume,
  openDevices,
  openStore,
  scratchDirectory,
} from "./testing/fixtures.ts";
import { container, mountsBelow, shareMounts } from "./testing/probes.ts";
import { testCluster } from "./testing/test-node.ts";
import { VolumeConditions } from "./volume-conditions.ts";

const skip = skipWithoutMounts();

/** What the kubelet says about the pod that it publishes for. */
const podContext = (name: string) => ({
  "csi.storage.k8s.io/pod.namespace": "team",
  "csi.storage.k8s.io/pod.name": name,
  "csi.storage.k8s.io/pod.uid": `uid-of-${name}`,
});
const pod = (name: string) => ({ namespace: "team", name, uid: `uid-of-${name}` });

const reasons = (events: readonly DriverEvent[]) => events.map(({ reason }) => reason);

const stageRecord = (volumeId: string): StageRecord => {
  return {
    volumeId,
    stagingPath: "/",
    accessMode: "",
    readOnly: false,
    mountGroup: undefined,
    seLinuxContext: undefined,
    targets: [],
    pods: {},
  };
};

function recorder() {
  const events: DriverEvent[] = [];
  return { events, record: (event: DriverEvent) => void events.push(event) };
}

test("pods whose mounts broke are named, and it is told when the volume is well again", { skip }, async (t) => {
  const cluster = await testCluster(t);
  await shareMounts(cluster.directory);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "pod", { volumeContext: podContext("server-0") });
  await a.publish("v1", "other");
  const podUid = pod("server-0").uid;
  const old = await container(t, a.target("pod"), { mountPropagation: "None", podUid });
  const shell = await container(t, a.target("pod"), { mountPropagation: "None" });
  await container(t, a.target("pod"), { mountPropagation: "None", podUid: "one-that-shows-all-of-the-host" });
  const heals = await container(t, a.target("other"));

  await a.restart();
  await heals.sh("echo 1 > f");
  await assert.rejects(old.sh("cat f"));
  const broken = `containers of pod team/server-0, process ${shell.pid} (sleep) that ran then still have a dead mount`;
  const pods = [pod("server-0")];
  await eventually("it is told", () => a.events.length === 1 || undefined);
  const message = `the node plugin of a was restarted: ${broken}`;
  assert.deepEqual(a.events, [{ reason: "MountsBroken", volumeId: "v1", message, pods }]);
  const conditions = async () => (await cluster.store.get("volumes", "v1"))?.conditions ?? [];
  const [condition] = await conditions();
  assert.equal(condition?.type, "a/Abnormal");
  assert.equal(condition.reason, "MountsBroken");
  assert.match(condition.message, /have a dead mount; delete these pods/);
  await a.restart();
  await heals.sh("echo 2 > f");
  assert.deepEqual(reasons(a.events), ["MountsBroken"], "nobody was told in between that all is well");

  process.kill((await a.plugin.serverPid()) ?? 0, "SIGKILL");
  await eventually("its death is told", () => a.events.length === 3 || undefined);
  const died = "the FUSE server of node a died (killed by SIGKILL)";
  assert.deepEqual(a.events.slice(1), [
    {
      reason: "FuseServerDied",
      volumeId: "v1",
      message: `${died}: its volumes are served again`,
      pods,
    },
    { reason: "MountsBroken", volumeId: "v1", message: `${died}: ${broken}`, pods },
  ]);

  await heals.end();
  await a.unpublish("v1", "other");
  assert.equal((await conditions()).length, 1);
  for (const each of [old, shell]) await each.end();
  await a.unpublish("v1", "pod");
  await eventually("it is over", async () => (await conditions()).length === 0 || undefined);
  const last = await eventually("it is told", () => a.events.find(({ reason }) => reason === "VolumeHealthy"));
  assert.match(last.message, /well again on node a \(it was MountsBroken\)/);
  await a.unstage("v1");
  assert.deepEqual(await mountsBelow(a.directory), []);
});

test("a volume that is well tells nothing", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.restart();
  await a.publish("v1", "pod");
  await a.unpublish("v1", "pod");
  await a.unstage("v1");
  assert.deepEqual(a.events, []);
});

test("a log that is nearly full is told once, by one of the nodes that have the volume", async (t) => {
  const store = await openStore(t, await scratchDirectory(t));
  const staged = { a: { bootId: "1" }, b: { bootId: "1" } };
  await store.create("volumes", "v1", newVolume("device", { staged }));
  let used = 89;
  const watches = ["b", "a"].map((nodeId) => {
    const events = recorder();
    const server = {
      serves: () => true,
      ask: async () => ({ logSlots: { total: 100, used, available: 100 - used } }) as never,
    };
    const record = stageRecord("v1");
    return { events, watch: new LogWatch({ nodeId, store, records: { all: () => [record] }, server, events }) };
  });
  const look = async () => {
    for (const { watch } of watches) await watch.look();
    return watches.map(({ events }) => events.events.length);
  };
  assert.deepEqual(await look(), [0, 0]);
  used = 90;
  assert.deepEqual(await look(), [0, 1]);
  used = 95;
  assert.deepEqual(await look(), [0, 1]);
  assert.equal(watches[1]?.events.events[0]?.message, "90 of 100 log entries are used, 10 files can still be created");
});

async function watchedDevice(t: TestContext) {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "pool0");
  const devices = await openDevices(t, store, `file://${path}?size=64Mi`);
  const [uuid = ""] = devices.all()[0] ?? [];
  const regions = [{ deviceUuid: uuid, offset: 2 ** 21, length: 2 ** 24 }];
  for (const name of ["here", "elsewhere"]) await store.create("volumes", name, newVolume(uuid, { regions }));
  const record = stageRecord("here");
  const events = recorder();
  const failing = { fail: false };
  const shaky = intercepted(store, (call) => {
    if (failing.fail && call === "replace") throw new Error("the store does not answer");
  });
  const watch = new DeviceWatch({
    nodeId: "a",
    store,
    devices: () => devices.all(),
    records: { get: (volumeId) => (volumeId === "here" ? record : undefined) },
    conditions: new VolumeConditions({ store: shaky, nodeId: "a", events }),
    events,
  });
  const abnormal = async () =>
    (await store.list("volumes")).filter(({ conditions }) => conditions.length > 0).map(({ name }) => name);
  return { path, uuid, events: events.events, watch, abnormal, failing };
}

test("a device that vanishes is told once, with the volumes that are staged from it, and when it is back", async (t) => {
  const { path, uuid, events, watch, abnormal } = await watchedDevice(t);
  await watch.look();
  assert.deepEqual(reasons(events), []);
  await rename(path, `${path}.away`);
  for (let look = 0; look < 3; look++) await watch.look();
  assert.deepEqual(reasons(events), ["DeviceMissing", "DeviceLost"]);
  assert.match(events[0]?.message ?? "", new RegExp(`node a: ${path}, device ${uuid}, cannot be read: .*ENOENT`));
  assert.deepEqual(await abnormal(), ["here"]);
  await rename(`${path}.away`, path);
  await watch.look();
  assert.deepEqual(reasons(events).slice(2), ["VolumeHealthy", "DeviceBack"]);
  assert.deepEqual(await abnormal(), []);
});

test("what the store did not take of a device's trouble, or of its end, it is given at the next look", async (t) => {
  const { path, watch, abnormal, failing } = await watchedDevice(t);
  await rename(path, `${path}.away`);
  failing.fail = true;
  await assert.rejects(watch.look());
  failing.fail = false;
  await watch.look();
  assert.deepEqual(await abnormal(), ["here"]);
  await rename(`${path}.away`, path);
  failing.fail = true;
  await assert.rejects(watch.look());
  failing.fail = false;
  await watch.look();
  assert.deepEqual(await abnormal(), []);
});

test("a label that somebody writes over is told, saying what is there now", async (t) => {
  const { path, uuid, events, watch } = await watchedDevice(t);
  const stranger = await openDevice(path, { writable: true });
  cleanup(t).use(stranger);
  await using window = stranger.mapRegion({ offset: 0, length: 2 ** 21 }, { writable: true });
  window.zero(0, 2 ** 21);
  window.copyInDurable(0, Buffer.from("XFSB"));
  await watch.look();
  assert.deepEqual(reasons(events), ["DeviceLabelChanged", "DeviceLost"]);
  assert.equal(events[0]?.message, `node a: ${path} was device ${uuid} and holds an XFS file system now`);
});

test("a device that the plugin refuses is told with the node, once, and stops only itself", { skip }, async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "disk");
  await writeFile(path, Buffer.concat([Buffer.from("XFSB"), Buffer.alloc(2 ** 22 - 4)]));
  const events = recorder();
  const node = { store, events, nodeId: "a", fabric: "rack1", pool: "default", logger: silentLogger };
  const options = { ...node, devices: [{ device: path }], runDir: join(directory, "run") };
  const strict = NodePlugin.start({ ...options, strictDevices: true }).then(() => "started");
  await assert.rejects(strict, { code: "DEVICE_NOT_BLANK" });
  assert.deepEqual(reasons(events.events.splice(0)), ["DeviceRefused"]);
  await using plugin = await NodePlugin.start(options);
  assert.match(plugin.deviceProblems.join(), /disk holds an XFS file system/);
  assert.deepEqual(reasons(events.events), ["DeviceRefused"]);
  assert.match(events.events[0]?.message ?? "", /disk holds an XFS file system/);
});

test("a node that was registered in another fabric, or has volumes of one, does not start", async (t) => {
  const store = await openStore(t, await scratchDirectory(t));
  const instance = { bootId: "1", instance: "1", renewedAt: "", leaseSeconds: 15, maxVolumes: 0 };
  await store.create("nodes", "a", { nodeId: "a", fabric: "rack1", ...instance });
  await assertFabric(store, { nodeId: "a", fabric: "rack1" });
  const message = /registered in fabric "rack1" and was started with --fabric=rack2: give it --fabric=rack1/;
  await assert.rejects(assertFabric(store, { nodeId: "a", fabric: "rack2" }), { code: "FABRIC_CONFLICT", message });
  await store.create("volumes", "v1", newVolume("device", { staged: { b: { bootId: "1" } } }));
  const of = /node b has volume v1 of fabric "rack1" and was started with --fabric=rack2/;
  await assert.rejects(assertFabric(store, { nodeId: "b", fabric: "rack2" }), { code: "FABRIC_CONFLICT", message: of });
  await assertFabric(store, { nodeId: "c", fabric: "rack2" });
});
