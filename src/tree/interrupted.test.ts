import assert from "node:assert/strict";
import { test } from "node:test";
import { FamfsError, MIB, type RequestContext, uninterrupted } from "../base/index.ts";
import { nodeidOf, O, put, ROOT, snapshot, USER } from "./testing/actions.ts";
import type { ServedNode } from "./testing/served-node.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

const INTERRUPTED = new FamfsError("CANCELLED", "the program that asked was interrupted");

/** Everything that waits for the grant before it changes something. */
const CHANGES: Readonly<Record<string, (b: ServedNode, by: RequestContext) => unknown>> = {
  create: ({ tree }, by) => tree.create(ROOT, "new", 0o644, O.WRONLY, by),
  mknod: ({ tree }, by) => tree.createNode(ROOT, "new", 0o100644, by),
  mkdir: ({ tree }, by) => tree.makeDirectory(ROOT, "new", 0o755, by),
  symlink: ({ tree }, by) => tree.makeSymlink(ROOT, "new", "f", by),
  unlink: ({ tree }, by) => tree.unlink(ROOT, "f", by),
  rmdir: ({ tree }, by) => tree.removeDirectory(ROOT, "d", by),
  rename: ({ tree }, by) => tree.rename(ROOT, "f", ROOT, "g", 0, by),
  chmod: (b, by) => b.tree.setAttributes(nodeidOf(b, "f"), { mode: 0o600 }, by),
  "chmod of a directory": (b, by) => b.tree.setAttributes(nodeidOf(b, "d"), { mode: 0o700 }, by),
  truncate: (b, by) => b.tree.setAttributes(nodeidOf(b, "empty"), { size: 4096 }, by),
  "open with O_TRUNC": (b, by) => b.tree.open(nodeidOf(b, "f"), O.WRONLY | O.TRUNC, by),
  "open for write": (b, by) => b.tree.open(nodeidOf(b, "f"), O.WRONLY, by),
  "create of what is there": ({ tree }, by) => tree.create(ROOT, "f", 0o644, O.WRONLY | O.TRUNC, by),
};

for (const [name, change] of Object.entries(CHANGES)) {
  test(`an interrupted ${name} does not happen later`, async () => {
    const volume = new SharedVolume();
    volume.exclusive = false;
    const a = volume.serve("a", { shared: true, minimumHoldMs: 0 });
    const b = volume.serve("b", { shared: true, minimumHoldMs: 0 });
    volume.onContention = () => a.tree.handOver({ forced: false, signal: AbortSignal.timeout(5000) });
    await put(a, "f", "data");
    await put(a, "empty", "");
    await a.tree.makeDirectory(ROOT, "d", 0o755, USER);
    await a.tree.syncFileSystem();
    b.tree.poll();
    const before = await snapshot(b);
    const { opened } = await a.tree.create(ROOT, "busy", 0o644, O.WRONLY, USER);
    const abort = new AbortController();
    const waiting = assert.rejects(
      async () => change(b, { ...uninterrupted(), signal: abort.signal }),
      (error) => error === INTERRUPTED,
    );
    await volume.clock.advance(100);
    abort.abort(INTERRUPTED);
    await waiting;
    a.tree.release(opened.handle); // the grant comes, and nobody waits for it
    await volume.clock.advance(5000);
    assert.equal(volume.holder, "b");
    await b.tree.syncFileSystem();
    const { busy: _, ...after } = await snapshot(b);
    assert.deepEqual(after, before);
    assert.equal(b.tree.openHandles, 0);
  });
}

test("an interrupted write does not land later", async () => {
  const volume = new SharedVolume();
  const a = volume.serve("a", { shared: true });
  const { opened } = await a.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  const abort = new AbortController();
  const zeroed = Promise.withResolvers<void>();
  volume.beforeZero = () => zeroed.promise;
  const write = { offset: 0, end: 10, isWriteBack: false };
  const waiting = assert.rejects(
    a.tree.prepareWrite(opened.handle, write, { ...uninterrupted(), signal: abort.signal }),
    (error) => error === INTERRUPTED,
  );
  abort.abort(INTERRUPTED);
  await waiting;
  zeroed.resolve();
  await volume.clock.advance(0);
  assert.equal(a.read(opened), "");
});

test("a request has one time to wait, whatever it waits for", async () => {
  const volume = new SharedVolume();
  const a = volume.serve("a", { shared: true });
  await put(a, "f", "1");
  a.tree.setStalled(true);
  const { caller, signal, budget } = uninterrupted();
  const by = { caller, signal, budget: { ...budget, leftMs: (limitMs: number) => limitMs - 4000 } }; // it waited before
  const waiting = assert.rejects(async () => a.tree.unlink(ROOT, "f", by), { code: "OWNER_BUSY" });
  await volume.clock.advance(1000);
  await waiting;
});

test("a program is not kept while space is zeroed that it does not wait for any more", async () => {
  const volume = new SharedVolume();
  const a = volume.serve("a", { shared: true });
  const { entry, opened } = await a.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  for (const grow of [
    (by: RequestContext) => a.tree.setAttributes(entry.attributes.nodeid, { size: 4 * MIB }, by),
    (by: RequestContext) => a.tree.allocate(opened.handle, 0, 4 * MIB, 0, by),
  ]) {
    const zeroed = Promise.withResolvers<void>();
    volume.beforeZero = () => zeroed.promise;
    const abort = new AbortController();
    const waiting = assert.rejects(
      async () => grow({ ...uninterrupted(), signal: abort.signal }),
      (error) => error === INTERRUPTED,
    );
    await volume.clock.advance(0);
    abort.abort(INTERRUPTED);
    zeroed.resolve(); // the part that is under way
    await waiting;
    assert.equal(a.tree.getAttributes(entry.attributes.nodeid).size, 0);
  }
});
