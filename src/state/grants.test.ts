import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { silentLogger } from "../base/index.ts";
import { EmbeddedStore, Heartbeat, Informer, NodeLiveness, updateRecord, WriterGrants } from "./index.ts";
import { exampleNode, exampleVolume } from "./store-conformance.ts";

const LEASE_MS = exampleNode.leaseSeconds * 1000;
const MARGIN_MS = 1_000;

/** One store, nodes a, b and c with volume `v` attached for writing, and a clock that stands still. */
async function cluster() {
  const stateDir = await mkdtemp(join(tmpdir(), "famfs-grants-"));
  const store = await EmbeddedStore.open({ stateDir, pollMs: 5 });
  const names = ["a", "b", "c"];
  for (const nodeId of names) await store.create("nodes", nodeId, { ...exampleNode, nodeId });
  const use = { accessMode: "MULTI_NODE_MULTI_WRITER", readonly: false };
  await store.create("volumes", "v", {
    ...exampleVolume,
    published: { a: use, b: use, c: use, reader: { ...use, readonly: true } },
    writer: undefined,
    waiters: [],
    epoch: 0,
    slots: {},
  });
  let clock = 0;
  const liveness = await NodeLiveness.open(store, { now: () => clock });
  return {
    store,
    liveness,
    grants: (nodeId: string) => new WriterGrants({ store, nodeId, liveness, marginMs: MARGIN_MS }),
    advance: (ms: number) => {
      clock += ms;
    },
    volume: async () => {
      const record = await store.get("volumes", "v");
      assert.ok(record);
      return record;
    },
    async renew(nodeId: string) {
      await updateRecord(store, "nodes", nodeId, (record) => ({ ...record, renewedAt: `at ${clock}` }));
      while (!liveness.isAlive(nodeId)) await new Promise((resolve) => setTimeout(resolve, 2));
    },
    async [Symbol.asyncDispose]() {
      liveness[Symbol.dispose]();
      await store[Symbol.asyncDispose]();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}

const acquiring = (timeoutMs: number, highest = 0) => ({
  highestInMemory: () => highest,
  timeoutMs,
  signal: new AbortController().signal,
});

test("an epoch is one above the highest of store and memory, and each node keeps its own slot", async () => {
  await using at = await cluster();
  assert.deepEqual(await at.grants("a").acquire("v", acquiring(1000)), { epoch: 1, slot: 0 });
  await at.grants("a").release("v", 1);
  assert.deepEqual(await at.grants("b").acquire("v", acquiring(1000, 41)), { epoch: 42, slot: 1 });
  await at.grants("b").release("v", 42);
  assert.deepEqual(await at.grants("a").acquire("v", acquiring(1000, 7)), { epoch: 43, slot: 0 });
  assert.deepEqual((await at.volume()).slots, { a: 0, b: 1 });
});

test("a live holder keeps the grant: the other one waits in the queue, and is told who has it", async () => {
  await using at = await cluster();
  await at.grants("a").acquire("v", acquiring(1000));
  const waiting = at.grants("b").acquire("v", acquiring(300));
  while ((await at.volume()).waiters.length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  await assert.rejects(waiting, { code: "OWNER_BUSY", details: { nodeId: "a" } });
  assert.deepEqual((await at.volume()).waiters, [], "it left the queue");
  assert.equal((await at.volume()).writer?.nodeId, "a");
});

test("a released grant goes to those who wait, in order", async () => {
  await using at = await cluster();
  const held = await at.grants("a").acquire("v", acquiring(1000));
  const order: string[] = [];
  const wait = async (nodeId: string) => {
    const grants = at.grants(nodeId);
    const { epoch } = await grants.acquire("v", acquiring(5000));
    order.push(nodeId);
    await grants.release("v", epoch);
  };
  const waiters = [wait("b")];
  while ((await at.volume()).waiters.length < 1) await new Promise((resolve) => setTimeout(resolve, 2));
  waiters.push(wait("c"));
  while ((await at.volume()).waiters.length < 2) await new Promise((resolve) => setTimeout(resolve, 2));
  await at.grants("a").release("v", held.epoch);
  await Promise.all(waiters);
  assert.deepEqual(order, ["b", "c"]);
});

test("a late release of a former epoch leaves what the same node was granted since", async () => {
  await using at = await cluster();
  const grants = at.grants("a");
  const former = await grants.acquire("v", acquiring(1000));
  const present = await grants.acquire("v", acquiring(1000));
  await grants.release("v", former.epoch);
  assert.equal((await at.volume()).writer?.epoch, present.epoch);
});

test("a silent holder is taken over only after its lease and the margin, by this process's clock", async () => {
  await using at = await cluster();
  await at.grants("a").acquire("v", acquiring(1000));
  at.advance(LEASE_MS + MARGIN_MS - 1);
  assert.deepEqual(await at.grants("b").tryTake("v", 0), { busy: "a", retryMs: 1 });
  await at.renew("a");
  at.advance(LEASE_MS + MARGIN_MS - 1);
  assert.ok("busy" in (await at.grants("b").tryTake("v", 0)), "a renewal starts the time again");
  at.advance(1);
  assert.deepEqual(await at.grants("b").tryTake("v", 0), { grant: { epoch: 2, slot: 1 } });
  // The old holder's late release must not take it away from the new one.
  await at.grants("a").release("v", 1);
  assert.equal((await at.volume()).writer?.nodeId, "b");
});

test("nothing is taken from a node that only this process no longer sees", async () => {
  await using at = await cluster();
  await at.grants("a").acquire("v", acquiring(1000));
  let clock = 0;
  const deaf = new Informer<"nodes">("nodes", (sink) => {
    void at.store.list("nodes").then((records) => sink.show(records.map((record) => ({ type: "put", record }))));
    return { resync: async () => {}, [Symbol.asyncDispose]: async () => {} };
  });
  const blind = new Proxy(at.store, {
    get(store, name) {
      if (name === "informer") return () => deaf;
      const member: unknown = Reflect.get(store, name, store);
      return typeof member === "function" ? member.bind(store) : member;
    },
  });
  using liveness = await NodeLiveness.open(blind, { now: () => clock });
  const b = new WriterGrants({ store: at.store, nodeId: "b", liveness, marginMs: MARGIN_MS });
  clock += LEASE_MS + MARGIN_MS + 1;
  await updateRecord(at.store, "nodes", "a", (record) => ({ ...record, renewedAt: "while nobody looked" }));
  assert.ok(!liveness.isAlive("a", MARGIN_MS));
  await assert.rejects(b.acquire("v", acquiring(50)), { code: "OWNER_BUSY" });
  assert.equal((await at.volume()).writer?.nodeId, "a");
  clock += LEASE_MS + MARGIN_MS + 1;
  assert.equal((await b.acquire("v", acquiring(1000))).epoch, 2);
});

test("waiters that died hold nobody up and leave the queue", async () => {
  await using at = await cluster();
  await updateRecord(at.store, "volumes", "v", (record) => ({ ...record, waiters: ["c", "b"] }));
  assert.ok("busy" in (await at.grants("b").tryTake("v", 0)));
  at.advance(LEASE_MS + MARGIN_MS);
  await at.renew("b");
  assert.ok("grant" in (await at.grants("b").tryTake("v", 0)));
  assert.deepEqual((await at.volume()).waiters, []);
});

test("a node that was killed while it waited leaves the queues when it starts again", async () => {
  await using at = await cluster();
  await updateRecord(at.store, "volumes", "v", (record) => ({ ...record, waiters: ["b", "c"] }));
  await at.store.informer("volumes").resync();
  await at.grants("b").withdrawAll();
  assert.deepEqual((await at.volume()).waiters, ["c"]);
});

test("readers, nodes without the volume and volumes that are not ready get no grant", async () => {
  await using at = await cluster();
  await assert.rejects(at.grants("reader").tryTake("v", 0), { code: "READ_ONLY" });
  await assert.rejects(at.grants("stranger").tryTake("v", 0), { code: "READ_ONLY" });
  await assert.rejects(at.grants("a").tryTake("gone", 0), { code: "VOLUME_NOT_FOUND" });
  await updateRecord(at.store, "volumes", "v", (record) => ({ ...record, slotCount: 1, slots: { b: 0 } }));
  await assert.rejects(at.grants("a").tryTake("v", 0), { code: "NOT_SUPPORTED" });
  await updateRecord(at.store, "volumes", "v", (record) => ({ ...record, phase: "Reclaiming" }));
  await assert.rejects(at.grants("a").acquire("v", acquiring(1000)), { code: "VOLUME_NOT_READY" });
});

test("seventy nodes have a volume with 128 owner slots, each another one", async () => {
  await using at = await cluster();
  const names = Array.from({ length: 70 }, (_, count) => `node-${count}`);
  const use = { accessMode: "MULTI_NODE_MULTI_WRITER", readonly: false };
  const published = Object.fromEntries(names.map((name) => [name, use]));
  await updateRecord(at.store, "volumes", "v", (record) => ({ ...record, published, slotCount: 128 }));
  for (const name of names) {
    const grants = at.grants(name);
    const answer = await grants.tryTake("v", 0);
    assert.ok("grant" in answer, name);
    await grants.release("v", answer.grant.epoch);
  }
  assert.equal(new Set(Object.values((await at.volume()).slots)).size, 70);
});

test("of nodes that take a free grant at once each gets an epoch of its own, one after the other", async () => {
  await using at = await cluster();
  const epochs = await Promise.all(
    ["a", "b", "c", "a", "b", "c"].map(async (nodeId) => {
      const grants = at.grants(nodeId);
      const { epoch } = await grants.acquire("v", acquiring(5000));
      await grants.release("v", epoch);
      return epoch;
    }),
  );
  assert.deepEqual(
    epochs.toSorted((x, y) => x - y),
    [1, 2, 3, 4, 5, 6],
  );
});

test("waiting ends with the caller's signal and its reason", async () => {
  await using at = await cluster();
  await at.grants("a").acquire("v", acquiring(1000));
  const signal = AbortSignal.timeout(30);
  await assert.rejects(at.grants("b").acquire("v", { ...acquiring(5000), signal }), { name: "TimeoutError" });
  assert.deepEqual((await at.volume()).waiters, []);
});

test("a heartbeat keeps its node alive and says how long it is sure of that", async () => {
  await using at = await cluster();
  using liveness = await NodeLiveness.open(at.store);
  const node = { ...exampleNode, nodeId: "d", leaseSeconds: 1 };
  const heartbeat = await Heartbeat.open(at.store, { node, logger: silentLogger });
  assert.ok(heartbeat.remainingMs() > 500);
  const until = performance.now() + 1_500;
  let alive = 0;
  while (performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (liveness.isAlive("d") && heartbeat.remainingMs() > 0) alive++;
  }
  assert.ok(alive >= 15, `alive in ${alive} looks`);
  await heartbeat[Symbol.asyncDispose]();
  while (liveness.isAlive("d")) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(heartbeat.remainingMs(), 0, "the holder stops counting on it no later than the others");
});
