import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { silentLogger } from "../base/index.ts";
import {
  type DriverEvent,
  type Grant,
  Heartbeat,
  NodeLiveness,
  type Store,
  updateRecord,
  WriterGrants,
} from "../state/index.ts";
import { cleanup, eventually, intercepted, newVolume, openStore, scratchDirectory } from "./testing/fixtures.ts";
import { VolumeWatch } from "./volume-watch.ts";
import { WriterBroker, type WriterBrokerOptions } from "./writer-broker.ts";

interface Server {
  readonly asked: string[];
  serves: boolean;
  /** What happens at a hand-over. */
  onHandOver: () => Promise<boolean>;
}

/** The broker of a node, over a store that may stop answering and a FUSE server that records what it is asked. */
async function broker(t: TestContext, nodeId: string, store: Store, { leaseSeconds = 4, marginMs = 200 } = {}) {
  const stack = cleanup(t);
  const node = { nodeId, fabric: "rack1", bootId: "boot", instance: "1", leaseSeconds, maxVolumes: 0 };
  const heartbeat = stack.use(await Heartbeat.open(store, { node, logger: silentLogger }));
  const liveness = stack.use(await NodeLiveness.open(store));
  const grants = new WriterGrants({ store, nodeId, liveness, marginMs });
  const events: DriverEvent[] = [];
  const server: Server = { asked: [], serves: true, onHandOver: async () => true };
  const one = stack.use(
    new WriterBroker({
      nodeId,
      grants,
      heartbeat,
      events: { record: (event) => void events.push(event) },
      logger: silentLogger,
      server: () => ({
        serves: () => server.serves,
        ask: async (name, request) => {
          const lease = "goodUntilMs" in request;
          server.asked.push(lease ? (request.goodUntilMs === undefined ? "stall" : "go on") : name);
          return (name === "handOver" ? await server.onHandOver() : undefined) as never;
        },
      }),
    }),
  );
  stack.use(VolumeWatch.start(store, silentLogger, [one]));
  return { broker: one, server, events };
}

async function withVolume(t: TestContext): Promise<Store> {
  const store = await openStore(t, await scratchDirectory(t));
  const published = Object.fromEntries(
    ["a", "b"].map((nodeId) => [nodeId, { accessMode: "MULTI_NODE_MULTI_WRITER", readonly: false }]),
  );
  await store.create("volumes", "v1", newVolume("d", { phase: "Ready", jobNode: undefined, published }));
  return store;
}

const REQUEST = { volumeId: "v1", timeoutMs: 5000, highestEpoch: 0 };

test("a server whose volume's record is lost is told on how long it may write", async (t) => {
  const store = await withVolume(t);
  const { broker: a, server } = await broker(t, "a", store);
  await a.acquire(REQUEST);
  const volumes = store.informer("volumes");
  const record = await store.get("volumes", "v1");
  await store.delete("volumes", "v1", record?.resourceVersion ?? "");
  await volumes.until(() => (volumes.get("v1") === undefined ? true : undefined), { signal: t.signal });
  server.asked.length = 0;
  while (!server.asked.includes("go on")) await new Promise((resolve) => setTimeout(resolve, 20));
});

test("a grant is handed over when another node waits for it, with a higher epoch", async (t) => {
  const store = await withVolume(t);
  const a = await broker(t, "a", store);
  const b = await broker(t, "b", store);
  const first = await a.broker.acquire(REQUEST);
  a.server.onHandOver = async () => {
    await a.broker.release({ volumeId: "v1", epoch: first.epoch }); // as the tree does before it answers
    return true;
  };
  const second = await b.broker.acquire(REQUEST);
  assert.equal(a.server.asked.filter((each) => each === "handOver").length, 1);
  assert.ok(second.epoch > first.epoch && second.slot !== first.slot);
  assert.equal((await store.get("volumes", "v1"))?.writer?.nodeId, "b");
});

test("a node that waited when the grant was given is given way to, however soon its wait is shown", async (t) => {
  const store = await withVolume(t);
  const a = await broker(t, "a", store);
  await updateRecord(store, "volumes", "v1", (record) => ({ ...record, waiters: ["a", "b"] }));
  await a.broker.acquire(REQUEST);
  await eventually("asked to give way", () => a.server.asked.includes("handOver") || undefined);
});

test("a server hears with each renewal until when its writers may go on, and not of what it never wrote", async (t) => {
  const store = await withVolume(t);
  const a = await broker(t, "a", store, { leaseSeconds: 1 });
  await eventually("renewed", async () =>
    (await store.get("nodes", "a"))?.renewedAt !== undefined ? true : undefined,
  );
  assert.deepEqual(a.server.asked, []);
  await a.broker.acquire(REQUEST);
  await eventually("told again", () => a.server.asked.length > 2 || undefined);
  assert.ok(a.server.asked.every((each) => each === "go on"));
});

test("a busy holder is asked until it gives way, and the waiter gives up in time", async (t) => {
  const store = await withVolume(t);
  const a = await broker(t, "a", store);
  const b = await broker(t, "b", store);
  await a.broker.acquire(REQUEST);
  a.server.onHandOver = () => delay(50).then(() => false);
  await assert.rejects(b.broker.acquire({ ...REQUEST, timeoutMs: 200 }), {
    code: "OWNER_BUSY",
    details: { nodeId: "a" },
  });
  assert.ok(a.server.asked.length >= 2);
  assert.deepEqual((await store.get("volumes", "v1"))?.waiters, [], "it does not wait any more");
});

test("a grant that a former process held is given up for a waiter at once", async (t) => {
  const store = await withVolume(t);
  const before = await broker(t, "a", store);
  await before.broker.acquire(REQUEST);
  before.server.serves = false; // nothing of this node serves the volume
  const b = await broker(t, "b", store);
  await b.broker.acquire(REQUEST);
  assert.ok(!before.server.asked.includes("handOver"));
});

/** A store that a node's heartbeat reaches only while `heartbeats.fail` is not set. */
function shaky(store: Store): { store: Store; heartbeats: { fail: boolean } } {
  const heartbeats = { fail: false };
  const before = (_call: string, kind: unknown) => {
    if (heartbeats.fail && kind === "nodes") throw new Error("the store does not answer");
  };
  return { store: intercepted(store, before), heartbeats };
}

test("writers pause before the lease runs out, and go on when it is renewed", async (t) => {
  const { store, heartbeats } = shaky(await withVolume(t));
  const a = await broker(t, "a", store, { leaseSeconds: 1 });
  await a.broker.acquire(REQUEST);
  heartbeats.fail = true;
  await eventually("paused", () => a.server.asked.includes("stall") || undefined);
  assert.deepEqual(a.events, [], "a short pause is nothing to tell");
  await eventually("told", () => a.events.length > 0 || undefined);
  heartbeats.fail = false;
  await eventually("resumed", () => a.server.asked.at(-1) === "go on" || undefined);
  assert.deepEqual(a.events, [
    {
      reason: "WritersPaused",
      volumeId: "v1",
      message: "node a could not renew its lease for more than 1 s: its writers wait",
    },
    { reason: "WritersResumed", volumeId: "v1", message: "node a renewed its lease: its writers go on" },
  ]);
});

test("a server that gave the grant back while its writers paused is told to go on, too, and a new grant pauses at once", async (t) => {
  const { store, heartbeats } = shaky(await withVolume(t));
  const a = await broker(t, "a", store, { leaseSeconds: 1 });
  const first = await a.broker.acquire(REQUEST);
  heartbeats.fail = true;
  await eventually("paused", () => a.server.asked.includes("stall") || undefined);
  await a.broker.release({ volumeId: "v1", epoch: first.epoch });
  const second = await a.broker.acquire(REQUEST);
  await a.broker.release({ volumeId: "v1", epoch: second.epoch });
  assert.deepEqual(
    a.server.asked.filter((each) => each === "stall"),
    ["stall", "stall"],
  );
  heartbeats.fail = false;
  await eventually("resumed", () => a.server.asked.at(-1) === "go on" || undefined);
});

/** Grants that come when the test says so. */
async function scriptedBroker(t: TestContext, grants: WriterBrokerOptions["grants"]): Promise<WriterBroker> {
  const stack = cleanup(t);
  const store = await withVolume(t);
  const node = { nodeId: "a", fabric: "rack1", bootId: "boot", instance: "1", leaseSeconds: 4, maxVolumes: 0 };
  return stack.use(
    new WriterBroker({
      nodeId: "a",
      grants,
      heartbeat: stack.use(await Heartbeat.open(store, { node, logger: silentLogger })),
      events: { record: () => undefined },
      logger: silentLogger,
      server: () => ({ serves: () => true, ask: async () => undefined as never }),
    }),
  );
}

test("a grant that was taken while the one before was being given back is known as held", async (t) => {
  const released = Promise.withResolvers<void>();
  const epochs = [1, 2];
  const given: number[] = [];
  const one = await scriptedBroker(t, {
    acquire: async () => ({ epoch: epochs.shift() ?? 0, slot: 0 }),
    release: async (_volumeId, epoch) => {
      given.push(epoch);
      await released.promise;
    },
  });
  await one.acquire(REQUEST);
  const releasing = one.release({ volumeId: "v1", epoch: 1 });
  await one.acquire(REQUEST);
  released.resolve();
  await releasing;
  await one.forget("v1");
  assert.deepEqual(given, [1, 2]);
});

test("the end of a hand-over leaves alone the request that the server sent before it answered", async (t) => {
  const store = await withVolume(t);
  const a = await broker(t, "a", store);
  const b = await broker(t, "b", store);
  const first = await a.broker.acquire(REQUEST);
  let next: ReturnType<WriterBroker["acquire"]> | undefined;
  a.server.onHandOver = async () => {
    await a.broker.release({ volumeId: "v1", epoch: first.epoch });
    next ??= a.broker.acquire(REQUEST); // another thread of this node wants to write again
    return true;
  };
  const second = await b.broker.acquire(REQUEST);
  await eventually("asked again", () => next);
  await b.broker.release({ volumeId: "v1", epoch: second.epoch });
  assert.ok(((await next)?.epoch ?? 0) > second.epoch);
});

test("a server that asks anew has given its former request up: that one ends, with nothing of the new one", async (t) => {
  const asked: { readonly signal: AbortSignal; readonly answer: PromiseWithResolvers<Grant> }[] = [];
  let isOver = false;
  t.after(() => {
    isOver = true;
    for (const { answer } of asked) answer.resolve({ epoch: 9, slot: 0 });
  });
  const one = await scriptedBroker(t, {
    acquire: (_volumeId, { signal }) => {
      const answer = Promise.withResolvers<Grant>();
      asked.push({ signal, answer });
      if (isOver) answer.resolve({ epoch: 9, slot: 0 });
      return answer.promise;
    },
    release: async () => undefined,
  });
  const former = one.acquire(REQUEST);
  await eventually("asked", () => asked[0]);
  const next = one.acquire(REQUEST);
  assert.equal(asked[0]?.signal.aborted, true);
  assert.equal(asked.length, 1, "two requests of one node at a time supersede each other's grant");
  asked[0]?.answer.resolve({ epoch: 1, slot: 0 }); // granted in its last moment
  await former;
  await eventually("asked", () => asked[1]);
  asked[1]?.answer.resolve({ epoch: 2, slot: 0 });
  await next;
  await one.release({ volumeId: "v1", epoch: 1 });
});

test("a grant that is given back late is not the newer one", async (t) => {
  const store = await withVolume(t);
  const a = await broker(t, "a", store);
  const first = await a.broker.acquire(REQUEST);
  const second = await a.broker.acquire(REQUEST);
  await a.broker.release({ volumeId: "v1", epoch: first.epoch });
  assert.equal((await store.get("volumes", "v1"))?.writer?.epoch, second.epoch);
});

test("a request that waits ends with CANCELLED when the volume is served no more, and leaves the queue", async (t) => {
  const store = await withVolume(t);
  const a = await broker(t, "a", store);
  const b = await broker(t, "b", store);
  await a.broker.acquire(REQUEST);
  a.server.onHandOver = () => delay(50).then(() => false);
  const waiting = assert.rejects(b.broker.acquire(REQUEST), { code: "CANCELLED" });
  await eventually("queued", async () => (await store.get("volumes", "v1"))?.waiters.includes("b") || undefined);
  await b.broker.forget("v1");
  await waiting;
  assert.deepEqual((await store.get("volumes", "v1"))?.waiters, []);
});
