import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { type SimulatedVolume, simulatedVolume } from "../../test/support/simulated-volume.ts";
import { uninterrupted } from "../base/index.ts";
import { contents, list, O, put, ROOT, USER } from "./testing/actions.ts";
import { type MediaNode, serveMedia } from "./testing/media-node.ts";

/** A node whose turns go through the memory; its store fails when it is asked for one. */
function serve(volume: SimulatedVolume, slot: number, turns = {}, settings = {}): Promise<MediaNode> {
  return serveMedia(volume, slot, { turns, settings: { shared: true, minimumHoldMs: 0, ...settings } });
}

const makeDirectory = async (node: MediaNode, name: string) =>
  void (await node.tree.makeDirectory(ROOT, name, 0o755, USER));

test("nodes that write by turns give the log to each other, and no store is asked", async () => {
  await using volume = await simulatedVolume();
  const nodes = [await serve(volume, 1), await serve(volume, 2), await serve(volume, 3)];
  const names: string[] = [];
  for (let turn = 0; turn < 30; turn++) {
    const node = nodes[turn % nodes.length] as MediaNode;
    names.push(`d${turn}`);
    await makeDirectory(node, `d${turn}`);
    assert.equal(list(node).length, names.length, "it sees what the others did before");
  }
  const [claims] = [(await volume.open()).claims()];
  assert.equal(new Set(claims.claims.map(({ ballot }) => ballot.slot)).size, 3);
  for (const { tree } of nodes) await tree[Symbol.asyncDispose]();
});

test("nodes that all write at once all get on, and none is refused", async () => {
  await using volume = await simulatedVolume();
  const nodes = [await serve(volume, 1), await serve(volume, 2), await serve(volume, 3)];
  const work = async (node: MediaNode, name: string) => {
    for (let count = 0; count < 20; count++) await makeDirectory(node, `${name}${count}`);
  };
  await Promise.all(nodes.map((node, index) => work(node, "abc"[index] ?? "")));
  for (const { tree } of nodes) await tree[Symbol.asyncDispose]();
  const reader = await serve(volume, 4);
  assert.equal(list(reader).length, 60);
  await reader.tree[Symbol.asyncDispose]();
});

test("a holder with a file open for write is waited for, however often it could have been taken over", async () => {
  await using volume = await simulatedVolume();
  const a = await serve(volume, 1);
  const b = await serve(volume, 2, { silenceMs: 20 }, { writerTimeoutMs: 300, nameTimeoutMs: 300 });
  const { opened } = await a.tree.create(ROOT, "open", 0o644, O.WRONLY, USER);
  await assert.rejects(makeDirectory(b, "d"), { code: "OWNER_BUSY" });
  await a.write(opened, 0, "still writing");
  const waiting = put(b, "f", "");
  a.tree.release(opened.handle);
  await waiting;
  assert.equal(await contents(b, "open"), "still writing");
  for (const { tree } of [a, b]) await tree[Symbol.asyncDispose]();
});

test("a holder that says nothing is taken over", async () => {
  await using volume = await simulatedVolume();
  const media = await volume.open();
  const stopped = await media.takeOver({ slot: 1, nodeId: "node-1", bootId: "boot", epoch: 1 });
  const b = await serve(volume, 2, { silenceMs: 20 });
  await makeDirectory(b, "d");
  assert.equal(stopped.holds(), false);
  assert.deepEqual(list(b), ["d"]);
  await b.tree[Symbol.asyncDispose]();
  await stopped[Symbol.asyncDispose]();
});

test("a holder that the store has struck is not waited for, though it lives", async () => {
  await using volume = await simulatedVolume();
  const a = await serve(volume, 1);
  const { opened } = await a.tree.create(ROOT, "open", 0o644, O.WRONLY, USER);
  const b = await serve(volume, 2, { isStruck: (slot: number) => slot === 1 });
  await makeDirectory(b, "d");
  await makeDirectory(a, "too late");
  await assert.rejects(a.tree.syncDirectory(ROOT), { code: "OWNER_STALE" });
  a.tree.release(opened.handle);
  await a.tree[Symbol.asyncDispose]();
  assert.deepEqual(list(b), ["d"]);
  await b.tree[Symbol.asyncDispose]();
});

test("a node that asked and stopped keeps the others from nothing but their first turn", async () => {
  await using volume = await simulatedVolume();
  const a = await serve(volume, 1);
  await makeDirectory(a, "a0");
  (await volume.open()).turns(3)?.ask();
  const b = await serve(volume, 2);
  await makeDirectory(b, "b0");
  await makeDirectory(a, "a1");
  await makeDirectory(b, "b1");
  assert.deepEqual(list(b), ["a0", "a1", "b0", "b1"]);
  for (const { tree } of [a, b]) await tree[Symbol.asyncDispose]();
});

test("a request that is interrupted while it waits leaves the queue", async () => {
  await using volume = await simulatedVolume();
  const a = await serve(volume, 1);
  const { opened } = await a.tree.create(ROOT, "open", 0o644, O.WRONLY, USER);
  const b = await serve(volume, 2, {}, { nameTimeoutMs: 100 });
  await assert.rejects(makeDirectory(b, "d"), { code: "OWNER_BUSY" });
  const observer = (await volume.open()).turns(5);
  while (observer?.waiting().length !== 0) await setTimeout(5);
  const closing = b.tree.makeDirectory(ROOT, "e", 0o755, uninterrupted(USER.caller));
  await b.tree[Symbol.asyncDispose]();
  await assert.rejects(Promise.resolve(closing));
  while (observer.waiting().length !== 0) await setTimeout(5);
  a.tree.release(opened.handle);
  await a.tree[Symbol.asyncDispose]();
});
