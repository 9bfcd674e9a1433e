import assert from "node:assert/strict";
import { test } from "node:test";
import { type DriverEvent, type NodeObjects, updateRecord } from "../state/index.ts";
import { answers, claim, mountCapability, registerNode, testCluster } from "./testing/fixture.ts";

/** Volume `v`, staged by node b when it was detached by force; `gone` says which nodes were declared gone. */
async function forcedDetach({ leaseSeconds = 60 } = {}) {
  const gone = new Set<string>();
  const nodeObjects: NodeObjects = { whyGone: async (nodeId) => (gone.has(nodeId) ? "Node was deleted" : undefined) };
  const at = await testCluster({ nodeObjects, size: "64Mi" });
  await at.client.call("controller", "CreateVolume", claim("v", { capacityRange: { requiredBytes: 40n << 20n } }));
  await registerNode(at.store, "b", { leaseSeconds });
  await updateRecord(at.store, "devices", at.agent.deviceUuid, (device) => ({
    ...device,
    nodes: { ...device.nodes, b: { path: "/x" } },
  }));
  const publication = { volumeId: "v", nodeId: "b", volumeCapability: mountCapability("SINGLE_NODE_WRITER") };
  await at.client.call("controller", "ControllerPublishVolume", publication);
  await updateRecord(at.store, "volumes", "v", (volume) => ({ ...volume, staged: { b: { bootId: "boot of b" } } }));
  await at.client.call("controller", "ControllerUnpublishVolume", publication);
  return {
    ...at,
    gone,
    publication,
    remove: () => at.client.call("controller", "DeleteVolume", { volumeId: "v" }),
    volume: () => at.store.get("volumes", "v"),
    /** Returns when `v` is erased and its record gone. */
    async erased() {
      while ((await at.store.get("volumes", "v")) !== undefined) await tick();
    },
  };
}

test("a forced detach takes the grant away under a raised epoch, and remembers who may still write", async () => {
  await using at = await forcedDetach();
  const volume = await at.volume();
  const { published, writer, epoch, staged } = volume ?? {};
  assert.deepEqual(
    { published, writer, epoch, staged },
    { published: {}, writer: undefined, epoch: 2, staged: { b: { bootId: "boot of b" } } },
  );
  await at.client.call("controller", "ControllerUnpublishVolume", at.publication);
  assert.deepEqual(await at.volume(), volume, "the call may be repeated");
});

test("a volume can be published elsewhere and deleted while a node that was detached by force is silent", async () => {
  await using at = await forcedDetach();
  const elsewhere = { ...at.publication, nodeId: "node-a" };
  await at.client.call("controller", "ControllerPublishVolume", elsewhere);
  assert.deepEqual((await at.volume())?.writer?.epoch, 3);
  await assert.rejects(at.remove(), answers("FAILED_PRECONDITION", /published to node-a/));
  await at.client.call("controller", "ControllerUnpublishVolume", elsewhere);
  await at.remove();
  await at.remove();
  assert.equal((await at.volume())?.phase, "Reclaiming");
});

test("its regions are given to nobody until that node acknowledges", async () => {
  await using at = await forcedDetach();
  await at.remove();
  const another = claim("another", { capacityRange: { requiredBytes: 40n << 20n } });
  await assert.rejects(at.client.call("controller", "CreateVolume", another), answers("RESOURCE_EXHAUSTED"));
  assert.notEqual((await at.volume())?.jobNode, undefined, "the job waits for it");
  await updateRecord(at.store, "volumes", "v", (volume) => ({ ...volume, staged: {} }));
  await at.erased();
  // Which has no agent here, and so formats nothing.
  const nodes = { "node-a": { path: "/x" } };
  await updateRecord(at.store, "devices", at.agent.deviceUuid, (device) => ({ ...device, nodes }));
  await at.client.call("controller", "CreateVolume", another);
});

test("a reboot of that node ends the quarantine", async () => {
  await using at = await forcedDetach();
  await at.remove();
  await updateRecord(at.store, "nodes", "b", (node) => ({ ...node, bootId: "another boot", instance: "2" }));
  await at.erased();
});

test("so does its being declared gone, but only while it is silent; until then a condition tells the way out", async () => {
  await using at = await forcedDetach({ leaseSeconds: 1 });
  await at.remove();
  let message: string | undefined;
  while (message === undefined) {
    message = (await at.volume())?.conditions.find(({ type }) => type === "Quarantined")?.message;
    await tick();
  }
  assert.match(message, /b had it mounted and does not answer.*out-of-service/);
  at.gone.add("b").add("node-a");
  await at.erased();
  assert.equal(await at.store.get("nodes", "b"), undefined);
  assert.notEqual(await at.store.get("nodes", "node-a"), undefined, "whose lease still runs");
});

test("a node whose record is missing keeps what it staged; only who is declared gone does not", async () => {
  const events: DriverEvent[] = [];
  const gone = new Set<string>();
  const nodeObjects: NodeObjects = { whyGone: async (nodeId) => (gone.has(nodeId) ? "Node was deleted" : undefined) };
  await using at = await testCluster({ nodeObjects, events: { record: (event) => void events.push(event) } });
  await at.client.call("controller", "CreateVolume", claim("v"));
  const staged = Object.fromEntries(["b", "c"].map((nodeId) => [nodeId, { bootId: `boot of ${nodeId}` }]));
  for (const nodeId of ["b", "c"]) await registerNode(at.store, nodeId, { leaseSeconds: 1 });
  await updateRecord(at.store, "volumes", "v", (volume) => ({ ...volume, staged }));
  // By mistake, or with the namespace of the Leases.
  for (const nodeId of ["b", "c"]) {
    const record = await at.store.get("nodes", nodeId);
    await at.store.delete("nodes", nodeId, record?.resourceVersion ?? "");
  }
  const told = (nodeId: string) => events.some((event) => "nodeId" in event && event.nodeId === nodeId);
  while (!told("b") || !told("c")) {
    assert.deepEqual((await at.store.get("volumes", "v"))?.staged, staged);
    await tick();
  }
  assert.deepEqual(new Set(events.map(({ reason }) => reason)), new Set(["HeartbeatMissing"]));
  gone.add("c");
  while (Object.keys((await at.store.get("volumes", "v"))?.staged ?? {}).length > 1) await tick();
  assert.deepEqual((await at.store.get("volumes", "v"))?.staged, { b: staged["b"] });
  // A job is taken from nobody either who may be at it.
  const job = { staged: {}, phase: "Reclaiming", jobNode: "b" } as const;
  await updateRecord(at.store, "volumes", "v", (volume) => ({ ...volume, ...job }));
  for (let rounds = 0; rounds < 20; rounds++) await tick();
  assert.equal((await at.store.get("volumes", "v"))?.jobNode, "b");
  gone.add("b");
  while ((await at.store.get("volumes", "v")) !== undefined) await tick();
});

test("a device forgets nodes that are gone for good, and a text that names many nodes stays short", async () => {
  const gone = new Set<string>();
  const nodeObjects: NodeObjects = { whyGone: async (nodeId) => (gone.has(nodeId) ? "Node was deleted" : undefined) };
  await using at = await testCluster({ nodeObjects });
  await at.client.call("controller", "CreateVolume", claim("v"));
  const many = Array.from({ length: 85 }, (_, index) => `ip-10-0-${index}-1.eu-central-1.compute.internal`);
  for (const nodeId of many) await registerNode(at.store, nodeId, { leaseSeconds: 1, fabric: "rack-1" });
  const staged = Object.fromEntries(many.map((nodeId) => [nodeId, { bootId: `boot of ${nodeId}` }]));
  const nodes = Object.fromEntries(many.map((nodeId) => [nodeId, { path: "/x" }]));
  const { deviceUuid } = at.agent;
  await updateRecord(at.store, "devices", deviceUuid, (device) => ({
    ...device,
    nodes: { ...device.nodes, ...nodes },
  }));
  await updateRecord(at.store, "volumes", "v", (volume) => ({ ...volume, staged }));
  await at.client.call("controller", "DeleteVolume", { volumeId: "v" });
  let message: string | undefined;
  while (!message?.includes("and 77 more")) {
    message = (await at.store.get("volumes", "v"))?.conditions.find(({ type }) => type === "Quarantined")?.message;
    await tick();
  }
  assert.ok(message.length < 1024, message);
  for (const nodeId of many) gone.add(nodeId);
  const left = async () => Object.keys((await at.store.get("devices", deviceUuid))?.nodes ?? {});
  while ((await left()).length > 1) await tick();
  assert.deepEqual(await left(), ["node-a"], "which is not gone");
  while ((await at.store.get("volumes", "v")) !== undefined) await tick();
});

function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}
