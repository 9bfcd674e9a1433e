/** What a request names by number is what its path leads to, also when other nodes changed that while it waited. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type RequestContext, uninterrupted } from "../base/index.ts";
import { contents, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import type { ServedNode } from "./testing/served-node.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

const PROGRAM = uninterrupted({ uid: 1000, gid: 1000, pid: 7 });
const OTHER_PROGRAM = uninterrupted({ uid: 1000, gid: 1000, pid: 8 });

/** Two nodes with file f, empty file e and empty directory d; a is busy, so whatever b changes waits for it. */
async function pair() {
  const volume = new SharedVolume();
  volume.exclusive = false;
  const a = volume.serve("a", { shared: true, minimumHoldMs: 0 });
  const b = volume.serve("b", { shared: true, minimumHoldMs: 0 });
  volume.onContention = (holder) =>
    (holder === "a" ? a : b).tree.handOver({ forced: false, signal: AbortSignal.timeout(1000) });
  await put(a, "f", "old");
  await put(a, "e", "");
  await a.tree.makeDirectory(ROOT, "d", 0o755, USER);
  await a.tree.syncFileSystem();
  b.tree.poll();
  const { opened } = await a.tree.create(ROOT, "busy", 0o644, O.WRONLY, USER);
  return { volume, a, b, release: () => a.tree.release(opened.handle) };
}

type Request = (b: ServedNode, of: { f: number; e: number; d: number }, by: RequestContext) => unknown;

const REQUESTS: Readonly<Record<string, Request>> = {
  "open for write": ({ tree }, { f }, by) => tree.open(f, O.RDWR, by),
  "open with O_TRUNC": ({ tree }, { f }, by) => tree.open(f, O.WRONLY | O.TRUNC, by),
  chmod: ({ tree }, { f }, by) => tree.setAttributes(f, { mode: 0o600 }, by),
  utimes: ({ tree }, { f }, by) => tree.setAttributes(f, { mtime: { seconds: 1, nanoseconds: 0 } }, by),
  truncate: ({ tree }, { e }, by) => tree.setAttributes(e, { size: 4096 }, by),
  create: ({ tree }, { d }, by) => tree.create(d, "new", 0o644, O.WRONLY, by),
  mknod: ({ tree }, { d }, by) => tree.createNode(d, "new", 0o100644, by),
  mkdir: ({ tree }, { d }, by) => tree.makeDirectory(d, "new", 0o755, by),
  symlink: ({ tree }, { d }, by) => tree.makeSymlink(d, "new", "f", by),
  "rename into": ({ tree }, { d }, by) => tree.rename(ROOT, "f", d, "new", 0, by),
  "rename from": ({ tree }, { d }, by) => tree.rename(d, "x", ROOT, "y", 0, by),
  unlink: ({ tree }, { d }, by) => tree.unlink(d, "x", by),
  rmdir: ({ tree }, { d }, by) => tree.removeDirectory(d, "x", by),
};

async function replaceAll(a: ServedNode): Promise<void> {
  await put(a, "f2", "new");
  await put(a, "e2", "");
  await a.tree.makeDirectory(ROOT, "d2", 0o755, USER);
  for (const name of ["f", "e", "d"]) await a.tree.rename(ROOT, `${name}2`, ROOT, name, 0);
}

async function moveAll(a: ServedNode): Promise<void> {
  for (const name of ["f", "e", "d"]) await a.tree.rename(ROOT, name, ROOT, `${name}-moved`, 0);
  await put(a, "f", "new");
  await put(a, "e", "");
  await a.tree.makeDirectory(ROOT, "d", 0o755, USER);
}

const idsOn = (b: ServedNode) => ({ f: nodeidOf(b, "f"), e: nodeidOf(b, "e"), d: nodeidOf(b, "d") });

for (const [how, change] of Object.entries({ replaced: replaceAll, moved: moveAll })) {
  for (const [name, request] of Object.entries(REQUESTS)) {
    test(`${name}: what was ${how} while the request waited is looked up again`, async () => {
      const { a, b, release } = await pair();
      const ids = idsOn(b);
      const reader = await b.tree.open(ids.f, O.RDONLY); // what is open is kept, whatever becomes of its name
      const waiting = assert.rejects(async () => request(b, ids, PROGRAM), { code: "NODE_STALE" });
      await change(a);
      release();
      await waiting;
      assert.equal(b.read(reader), "old");
      assert.deepEqual([await contents(b, "f"), b.tree.isWriter], ["new", true]);
    });
  }
}

test("the second request of a program that was told to look again finds the grant still here", async () => {
  const { volume, a, b, release } = await pair();
  const ids = idsOn(b);
  const reader = await b.tree.open(ids.f, O.RDONLY);
  const waiting = assert.rejects(async () => b.tree.open(ids.f, O.RDWR, PROGRAM), { code: "NODE_STALE" });
  await replaceAll(a);
  release();
  await waiting;
  const replacing = replaceAll(a); // again, and a waits for the grant
  await volume.clock.advance(500);
  assert.equal(volume.holder, "b");
  const opened = await b.tree.open(nodeidOf(b, "f"), O.RDWR, PROGRAM);
  await b.write(opened, 0, "NEW");
  b.tree.release(opened.handle);
  await replacing;
  assert.equal(volume.holder, "a");
  assert.equal(b.read(reader), "old");
});

test("the second request comes to what another node has just moved there", async () => {
  const { a, b, release } = await pair();
  await put(a, "f2", "new");
  await a.tree.syncFileSystem();
  b.tree.poll();
  nodeidOf(b, "f2"); // known here: what comes to it may have come by that name
  const { f } = idsOn(b);
  await b.tree.open(f, O.RDONLY);
  const waiting = assert.rejects(async () => b.tree.open(f, O.RDWR, PROGRAM), { code: "NODE_STALE" });
  await a.tree.rename(ROOT, "f2", ROOT, "f", 0);
  release();
  await waiting;
  assert.equal(b.read(await b.tree.open(nodeidOf(b, "f"), O.RDWR, PROGRAM)), "new");
});

test("the grant does not wait for ever for a program that does not come again", async () => {
  const { volume, a, b, release } = await pair();
  const ids = idsOn(b);
  await b.tree.open(ids.f, O.RDONLY);
  const waiting = assert.rejects(async () => b.tree.open(ids.f, O.RDWR, PROGRAM), { code: "NODE_STALE" });
  await replaceAll(a);
  release();
  await waiting;
  const replacing = replaceAll(a);
  await volume.clock.advance(1100);
  await replacing;
  assert.equal(volume.holder, "a");
});

test("a name that another node gave away a moment ago is looked up again, without any wait", async () => {
  const { a, b, release } = await pair();
  const { f } = idsOn(b);
  const reader = await b.tree.open(f, O.RDONLY);
  await replaceAll(a);
  release();
  await b.tree.makeDirectory(ROOT, "mine", 0o755, OTHER_PROGRAM);
  assert.equal(b.tree.isWriter, true);
  // The kernel has been told, but this program was on its way.
  await assert.rejects(async () => b.tree.open(f, O.WRONLY, PROGRAM), { code: "NODE_STALE" });
  await assert.rejects(async () => b.tree.setAttributes(f, { mode: 0o600 }, OTHER_PROGRAM), { code: "NODE_STALE" });
  // It comes to the same file again: by what it holds, not by a name.
  const again = await b.tree.open(f, O.RDWR, PROGRAM);
  assert.equal(b.read(again), "old");
  const { nlink } = await b.tree.setAttributes(f, { mode: 0o600 }, OTHER_PROGRAM);
  assert.equal(nlink, 0);
  b.tree.release(again.handle);
  b.tree.release(reader.handle);
});

test("a create of what another node made meanwhile is looked up again, so that the kernel judges it", async () => {
  const { a, b, release } = await pair();
  const waiting = assert.rejects(async () => b.tree.create(ROOT, "made", 0o644, O.WRONLY, PROGRAM), {
    code: "NODE_STALE",
  });
  const exclusive = assert.rejects(async () => b.tree.create(ROOT, "made", 0o644, O.WRONLY | O.EXCL, OTHER_PROGRAM), {
    code: "FILE_EXISTS",
  });
  await put(a, "made", "private");
  release();
  await waiting;
  await exclusive;
  assert.equal(await contents(b, "made"), "private");
});
