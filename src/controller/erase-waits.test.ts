import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { type DriverEvent, EmbeddedStore, type FamfsVolume, NodeLiveness, updateRecord } from "../state/index.ts";
import { tellEraseWaits } from "./erase-waits.ts";
import { claim, registerNode, temporaryDirectory, testCluster } from "./testing/fixture.ts";

test("a deleted volume that waits for a node that is silent for long is told, with the node", async () => {
  await using directory = await temporaryDirectory();
  await using store = await EmbeddedStore.open({ stateDir: join(directory.path, "state") });
  for (const nodeId of ["a", "b"]) await registerNode(store, nodeId, { leaseSeconds: 60 });
  let now = 0;
  using liveness = await NodeLiveness.open(store, { now: () => now });
  const events: DriverEvent[] = [];
  const tell = (changes: Partial<FamfsVolume>) => {
    events.length = 0;
    const volume = { name: "v1", phase: "Reclaiming", staged: {}, jobNode: undefined, ...changes } as const;
    tellEraseWaits({ liveness, events: { record: (event) => void events.push(event) }, silenceMs: 60_000 }, volume);
    return events.map(({ message }) => message);
  };
  const staged = { a: { bootId: "1" }, b: { bootId: "1" } };
  now += 90_000; // past the lease, but not for long
  assert.deepEqual(tell({ staged }), []);
  now += 31_000;
  assert.deepEqual(tell({ staged }), [
    "deleted, but not erased yet: no answer from a, b, which may still write to its memory",
  ]);
  assert.deepEqual(tell({ jobNode: "a" }), [
    "deleted, but not erased yet: no answer from a, which has to erase its memory",
  ]);
  assert.deepEqual(
    tell({ staged: { unknown: { bootId: "1" } } }),
    ["deleted, but not erased yet: no answer from unknown, which may still write to its memory"],
    "a record that is missing says nothing",
  );
  assert.deepEqual(tell({ phase: "Ready", staged }), []);
});

test("the controller tells of it by itself", async () => {
  const { promise: told, resolve } = Promise.withResolvers<DriverEvent>();
  await using at = await testCluster({ silenceMs: 0, events: { record: resolve } });
  await at.client.call("controller", "CreateVolume", claim("v1"));
  at.agent.hold = true;
  await at.client.call("controller", "DeleteVolume", { volumeId: "v1" });
  await updateRecord(at.store, "nodes", "node-a", (node) => ({ ...node, leaseSeconds: 1, renewedAt: "the last time" }));
  assert.deepEqual(await told, {
    reason: "EraseWaits",
    volumeId: "v1",
    message: "deleted, but not erased yet: no answer from node-a, which has to erase its memory",
  });
});
