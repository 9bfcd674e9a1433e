import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "../base/index.ts";
import { DEFAULT_SLOTS } from "../format/index.ts";
import { adoptedVolumeId, updateRecord } from "../state/index.ts";
import {
  answers,
  claim,
  mountCapability,
  registerNode,
  TestController,
  testCluster,
  unevenStore,
} from "./testing/fixture.ts";

type Mode = NonNullable<Parameters<typeof mountCapability>[0]>;

/** Volumes `v`, `v2` and `v3`, which nodes a, b and c reach. */
async function threeNodes() {
  const at = await testCluster();
  for (const name of ["v", "v2", "v3"]) await at.client.call("controller", "CreateVolume", claim(name));
  const [device] = await at.store.list("devices");
  assert.ok(device);
  const nodes = Object.fromEntries(["a", "b", "c"].map((nodeId) => [nodeId, { path: "/x" }]));
  await at.store.replace("devices", { ...device, nodes: { ...device.nodes, ...nodes } });
  for (const nodeId of ["a", "b", "c", "elsewhere"]) await registerNode(at.store, nodeId);
  return {
    ...at,
    publish: async (nodeId: string, mode: Mode, readonly = false, volumeId = "v") =>
      (
        await at.client.call("controller", "ControllerPublishVolume", {
          volumeId,
          nodeId,
          volumeCapability: mountCapability(mode),
          readonly,
        })
      ).publishContext["famfs.csi.dev/role"],
    unpublish: (nodeId: string) => at.client.call("controller", "ControllerUnpublishVolume", { volumeId: "v", nodeId }),
    volume: async () => {
      const volume = await at.store.get("volumes", "v");
      assert.ok(volume);
      return volume;
    },
  };
}

test("modes of one node: a second node is refused, naming the one that has it", async () => {
  for (const mode of ["SINGLE_NODE_WRITER", "SINGLE_NODE_SINGLE_WRITER", "SINGLE_NODE_MULTI_WRITER"] as const) {
    await using at = await threeNodes();
    assert.equal(await at.publish("a", mode), "writer");
    assert.equal(await at.publish("a", mode), "writer", "the same again is OK");
    await assert.rejects(at.publish("b", mode), answers("FAILED_PRECONDITION", /published to node a as SINGLE_NODE/));
    await assert.rejects(at.publish("b", "MULTI_NODE_READER_ONLY"), answers("FAILED_PRECONDITION", /node a/));
    await at.unpublish("a");
    assert.equal(await at.publish("b", mode), "writer");
    const { writer, epoch } = await at.volume();
    assert.deepEqual([writer?.nodeId, writer?.epoch, epoch], ["b", 3, 3], "one more for the grant that was taken away");
  }
});

test("many nodes at once: each gets a volume that all may have, one gets a volume that one may have", async () => {
  await using at = await threeNodes();
  // A store that answers at once would be done with one call before the next.
  await using slow = await TestController.open(unevenStore(at.store), at.directory);
  const publish = (volumeId: string, nodeId: string, mode: Mode) =>
    slow.client.call("controller", "ControllerPublishVolume", {
      volumeId,
      nodeId,
      volumeCapability: mountCapability(mode),
    });
  const nodes = ["a", "b", "c"];
  const mode = "MULTI_NODE_MULTI_WRITER";
  await Promise.all(nodes.map((nodeId) => publish("v", nodeId, mode)));
  assert.deepEqual(Object.keys((await at.volume()).published).toSorted(), nodes);

  const alone = await Promise.allSettled(nodes.map((nodeId) => publish("v2", nodeId, "SINGLE_NODE_WRITER")));
  const refused = alone.filter((each) => each.status === "rejected");
  assert.equal(refused.length, 2);
  for (const { reason } of refused) assert.ok(answers("FAILED_PRECONDITION", /v2 is published to node/)(reason));
});

test("MULTI_NODE_SINGLE_WRITER: many readers, one writer, who moves by unpublish and publish under a new epoch", async () => {
  await using at = await threeNodes();
  const mode = "MULTI_NODE_SINGLE_WRITER";
  assert.equal(await at.publish("a", mode), "writer");
  assert.equal(await at.publish("b", mode, true), "reader");
  await assert.rejects(at.publish("c", mode), answers("FAILED_PRECONDITION", /its one writer on node a/));
  await assert.rejects(at.publish("b", mode), answers("FAILED_PRECONDITION", /its one writer on node a/));
  assert.equal(await at.publish("c", mode, true), "reader");
  const first = (await at.volume()).writer;
  assert.deepEqual([first?.nodeId, first?.epoch], ["a", 1]);
  await at.unpublish("a");
  assert.equal((await at.volume()).writer, undefined);
  await assert.rejects(
    at.publish("b", mode),
    answers("ALREADY_EXISTS", /node b as MULTI_NODE_SINGLE_WRITER, read-only/),
  );
  await at.unpublish("b");
  assert.equal(await at.publish("b", mode), "writer");
  const second = await at.volume();
  assert.deepEqual([second.writer?.nodeId, second.writer?.epoch, second.epoch], ["b", 3, 3]);
  await assert.rejects(at.publish("a", mode), answers("FAILED_PRECONDITION", /node b/));
  assert.equal(await at.publish("a", mode, true), "reader");
});

test("MULTI_NODE_MULTI_WRITER: every node is admitted, and the grant is left to be taken on demand", async () => {
  await using at = await threeNodes();
  for (const nodeId of ["a", "b", "c"]) assert.equal(await at.publish(nodeId, "MULTI_NODE_MULTI_WRITER"), "shared");
  assert.equal((await at.volume()).writer, undefined);
});

test("readers are admitted beside writers of many-node modes only as readers", async () => {
  await using at = await threeNodes();
  assert.equal(await at.publish("a", "MULTI_NODE_MULTI_WRITER"), "shared");
  assert.equal(await at.publish("b", "MULTI_NODE_READER_ONLY"), "reader");
  assert.deepEqual((await at.volume()).published["b"], { accessMode: "MULTI_NODE_READER_ONLY", readonly: true });
  await assert.rejects(at.publish("c", "MULTI_NODE_SINGLE_WRITER"), answers("FAILED_PRECONDITION", /node a/));
});

test("the same node in another way is ALREADY_EXISTS; what does not exist is NOT_FOUND", async () => {
  await using at = await threeNodes();
  await at.publish("a", "MULTI_NODE_MULTI_WRITER");
  await assert.rejects(at.publish("a", "MULTI_NODE_MULTI_WRITER", true), answers("ALREADY_EXISTS", /read-only/));
  await assert.rejects(at.publish("a", "SINGLE_NODE_WRITER"), answers("ALREADY_EXISTS"));
  await assert.rejects(at.publish("nobody", "MULTI_NODE_MULTI_WRITER"), answers("NOT_FOUND", /node nobody/));
  await assert.rejects(at.publish("a", "MULTI_NODE_MULTI_WRITER", false, "gone"), answers("NOT_FOUND", /volume gone/));
  await assert.rejects(at.publish("elsewhere", "MULTI_NODE_MULTI_WRITER"), answers("FAILED_PRECONDITION", /not reach/));
  await assert.rejects(at.publish("", "MULTI_NODE_MULTI_WRITER"), answers("INVALID_ARGUMENT", /node_id/));
});

test("a node takes as many volumes as it says, the next one is RESOURCE_EXHAUSTED", async () => {
  await using at = await threeNodes();
  await updateRecord(at.store, "nodes", "a", (node) => ({ ...node, maxVolumes: 2 }));
  const mode = "MULTI_NODE_MULTI_WRITER";
  for (const volume of ["v", "v2", "v2"]) await at.publish("a", mode, false, volume);
  await assert.rejects(at.publish("a", mode, false, "v3"), answers("RESOURCE_EXHAUSTED", /node a, which takes 2/));
  await at.publish("b", mode, false, "v3");
  await at.unpublish("a");
  await at.publish("a", mode, false, "v3");
});

test("unpublishing is idempotent, forgets waiting nodes, and without a node id means all nodes", async () => {
  await using at = await threeNodes();
  for (const nodeId of ["a", "b"]) await at.publish(nodeId, "MULTI_NODE_MULTI_WRITER");
  await updateRecord(at.store, "volumes", "v", (volume) => ({
    ...volume,
    waiters: ["a", "b"],
    writer: { nodeId: "a", epoch: 1, since: "now" },
  }));
  await at.unpublish("b");
  await at.unpublish("b");
  assert.deepEqual([(await at.volume()).waiters, (await at.volume()).writer?.nodeId], [["a"], "a"]);
  await at.unpublish("");
  const { published, waiters, writer } = await at.volume();
  assert.deepEqual({ published, waiters, writer }, { published: {}, waiters: [], writer: undefined });
  await at.client.call("controller", "ControllerUnpublishVolume", { volumeId: "gone", nodeId: "a" });
});

test("a slot is given back with the volume; that of a lost node goes to another one when no other is left", async () => {
  await using at = await threeNodes();
  const mode = "MULTI_NODE_MULTI_WRITER";
  const set = (slots: Record<string, number>, staged: string[]) =>
    updateRecord(at.store, "volumes", "v", (volume) => ({
      ...volume,
      slots,
      slotCount: undefined, // of an older version
      staged: Object.fromEntries(staged.map((nodeId) => [nodeId, { bootId: `boot of ${nodeId}` }])),
    }));
  for (const nodeId of ["a", "b"]) await at.publish(nodeId, mode);
  await set({ a: 0, b: 1, lost: 2 }, ["b"]);
  await at.unpublish("a");
  await at.unpublish("b"); // by force: it still has it staged
  assert.deepEqual((await at.volume()).slots, { b: 1, lost: 2 });
  await at.publish("a", mode);
  assert.deepEqual((await at.volume()).slots, { b: 1, lost: 2 }, "others are free");

  await at.unpublish("a");
  const full = Object.fromEntries(Array.from({ length: DEFAULT_SLOTS - 2 }, (_, at) => [`n${at}`, at + 2]));
  await set({ b: 0, lost: 1, ...full }, ["b"]);
  const use = { accessMode: mode, readonly: false };
  const published = Object.fromEntries(Object.keys(full).map((nodeId) => [nodeId, use]));
  await updateRecord(at.store, "volumes", "v", (volume) => ({ ...volume, published }));
  await at.publish("a", mode, true);
  assert.equal((await at.volume()).slots["lost"], 1, "a reader needs none");
  await at.unpublish("a");
  await at.publish("a", mode);
  const { slots } = await at.volume();
  assert.deepEqual([slots["lost"], slots["b"], Object.keys(slots).length], [undefined, 0, DEFAULT_SLOTS - 1]);
});

test("an adopted volume is published for reading and, for its node to judge, for writing; it is never deleted", async () => {
  await using at = await threeNodes();
  const uuid = "11111111-2222-4333-8444-555555555555";
  const volumeId = adoptedVolumeId(uuid);
  const [device] = await at.store.list("devices");
  assert.ok(device);
  const { name: _n, resourceVersion: _r, createdAt: _c, ...like } = device;
  await at.store.create("devices", uuid, { ...like, uuid, pool: "" });
  const { name: _vn, resourceVersion: _vr, createdAt: _vc, ...volume } = await at.volume();
  const regions = [{ deviceUuid: uuid, offset: 0, length: 64 * MIB }];
  await at.store.create("volumes", volumeId, { ...volume, uuid, csiName: "", adopted: true, pool: "", regions });

  assert.equal(await at.publish("a", "MULTI_NODE_READER_ONLY", false, volumeId), "reader");
  assert.equal(await at.publish("b", "MULTI_NODE_MULTI_WRITER", true, volumeId), "reader");
  assert.equal(await at.publish("c", "MULTI_NODE_MULTI_WRITER", false, volumeId), "shared");
  await at.client.call("controller", "ControllerUnpublishVolume", { volumeId });
  assert.equal(await at.publish("c", "SINGLE_NODE_WRITER", false, volumeId), "writer");
  await at.client.call("controller", "ControllerUnpublishVolume", { volumeId });
  await assert.rejects(
    at.client.call("controller", "DeleteVolume", { volumeId }),
    answers("FAILED_PRECONDITION", /not ours to erase/),
  );
  const validate = (mode: Mode) =>
    at.client.call("controller", "ValidateVolumeCapabilities", {
      volumeId,
      volumeCapabilities: [mountCapability(mode)],
    });
  assert.ok((await validate("MULTI_NODE_READER_ONLY")).confirmed);
  assert.ok((await validate("MULTI_NODE_MULTI_WRITER")).confirmed);
  // Its device is in no pool: nothing is ever allocated there.
  await assert.rejects(
    at.client.call("controller", "CreateVolume", claim("big", { capacityRange: { requiredBytes: 1n << 40n } })),
    answers("RESOURCE_EXHAUSTED"),
  );
});
