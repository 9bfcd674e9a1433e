/** A handle that lost the grant never writes again, and what was dropped is told once by each call that promised it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { contents, find, list, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

function pair() {
  const volume = new SharedVolume();
  volume.exclusive = false;
  const a = volume.serve("a", { shared: true, minimumHoldMs: 0 });
  const b = volume.serve("b", { shared: true, minimumHoldMs: 0 });
  volume.onContention = (holder) =>
    (holder === "a" ? a : b).tree.handOver({ forced: false, signal: AbortSignal.timeout(1000) });
  return { volume, a, b };
}

const STALE = { code: "OWNER_STALE" };

/** f is sealed with "first" and open for write on a, which loses the log to b; b writes "other" and closes. */
async function overtaken() {
  const { volume, a, b } = pair();
  await put(a, "f", "first");
  await a.tree.syncFileSystem();
  b.tree.poll();
  const late = await a.tree.open(nodeidOf(a, "f"), O.RDWR);
  await a.write(late, 0, "FIRST");
  volume.steal();
  const other = await b.tree.open(nodeidOf(b, "f"), O.RDWR);
  await b.write(other, 0, "other");
  b.tree.release(other.handle);
  a.tree.poll();
  return { volume, a, b, late };
}

test("a handle that lost the grant does not write again when anything else takes it", async () => {
  const { a, b, late } = await overtaken();
  await assert.rejects(a.write(late, 0, "stale"), STALE);
  await a.tree.makeDirectory(ROOT, "unrelated", 0o755, USER);
  assert.equal(a.tree.isWriter, true);
  assert.equal(a.maps.write(late.map, 0, Buffer.from("stale")), false, "a worker writes by itself");
  await assert.rejects(a.write(late, 0, "stale"), STALE);
  await assert.rejects(a.tree.allocate(late.handle, 0, 3, 16), STALE);
  await assert.rejects(async () => a.tree.setAttributes(nodeidOf(a, "f"), { size: 0, handle: late.handle }), STALE);
  assert.throws(() => a.tree.fsync(late.handle, false), STALE);
  assert.throws(() => a.tree.flush(late.handle), STALE);
  assert.equal(a.read(late), "other");
  assert.equal(await contents(b, "f"), "other");
});

test("nor after a pause of the writers, nor after the next hand-over and back", async () => {
  const { a, b, late } = await overtaken();
  await a.tree.makeDirectory(ROOT, "unrelated", 0o755, USER);
  a.tree.setStalled(true);
  a.tree.setStalled(false);
  assert.equal(a.maps.write(late.map, 0, Buffer.from("stale")), false);
  await b.tree.makeDirectory(ROOT, "of b", 0o755, USER);
  await a.tree.makeDirectory(ROOT, "of a", 0o755, USER);
  assert.equal(a.maps.write(late.map, 0, Buffer.from("stale")), false);
  await assert.rejects(a.write(late, 0, "stale"), STALE);
});

test("another handle of the file writes, but no pages of a mapping while one that lost the grant may have made them", async () => {
  const { a, b, late } = await overtaken();
  const next = await a.tree.open(nodeidOf(a, "f"), O.RDWR);
  await a.write(next, 0, "again");
  const pages = { offset: 0, end: 5, isWriteBack: true };
  await assert.rejects(a.tree.prepareWrite(next.handle, pages), STALE);
  a.tree.release(late.handle);
  assert.equal(await a.tree.prepareWrite(next.handle, pages), 5);
  assert.equal(a.maps.write(next.map, 0, Buffer.from("AGAIN")), true, "workers write by themselves again");
  a.tree.release(next.handle);
  assert.equal(await contents(b, "f"), "AGAIN");
});

test("a handle that lost the grant keeps it from nobody, and an unsealed file that was lost is not opened for write", async () => {
  const { volume, a, b } = pair();
  const { entry, opened } = await a.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  await a.write(opened, 0, "lost");
  volume.steal();
  a.tree.poll();
  const { nodeid } = entry.attributes;
  await assert.rejects(async () => a.tree.open(nodeid, O.RDWR, USER), { code: "NODE_STALE" });
  await assert.rejects(async () => a.tree.open(nodeid, O.RDWR, USER), STALE);
  await b.tree.makeDirectory(ROOT, "of b", 0o755, USER);
  assert.equal(volume.holder, "b");
  assert.equal(a.read(opened), "lost");
});

/** Changes that are acknowledged and then lost: f was replaced by a rename, g truncated, h made, all in directory d. */
async function dropped() {
  const { volume, a } = pair();
  const { attributes } = await a.tree.makeDirectory(ROOT, "d", 0o755, USER);
  const d = attributes.nodeid;
  for (const name of ["f", "g"]) await put(a, name, "old", d);
  await a.tree.syncFileSystem();
  const length = volume.length;
  await put(a, "new", "new", d);
  await a.tree.rename(d, "new", d, "f", 0);
  const g = await a.tree.open(nodeidOf(a, "d/g"), O.WRONLY | O.TRUNC);
  a.tree.flush(g.handle);
  a.tree.release(g.handle);
  await put(a, "h", "new", d);
  assert.equal(volume.length, length, "it has entered the log already");
  volume.steal();
  a.tree.poll();
  assert.deepEqual(list(a, d), ["f", "g"]);
  return { volume, a, d };
}

test("what was dropped is told once by fsync of the directory, and once by syncfs", async () => {
  const { a, d } = await dropped();
  await assert.rejects(a.tree.syncDirectory(d), STALE);
  await a.tree.syncDirectory(d);
  await a.tree.syncDirectory(ROOT);
  await assert.rejects(a.tree.syncFileSystem(), STALE);
  await a.tree.syncFileSystem();
});

test("what was dropped is told once by the seal attribute and by fsync of what has the name now", async () => {
  const { a } = await dropped();
  const value = Buffer.from("1");
  for (const name of ["d/f", "d/g"]) {
    const seal = () => a.tree.setExtendedAttribute(nodeidOf(a, name), "user.famfs.seal", value);
    await assert.rejects(seal(), { code: "CHANGES_LOST" });
    await seal();
    const opened = await a.tree.open(nodeidOf(a, name), O.RDONLY);
    assert.throws(() => a.tree.fsync(opened.handle, false), STALE);
    await a.tree.fsync(opened.handle, false);
    a.tree.release(opened.handle);
  }
});

test("what is made after a loss is not blamed for it", async () => {
  const { a, d } = await dropped();
  await put(a, "h", "again", d);
  const opened = await a.tree.open(nodeidOf(a, "d/h"), O.RDWR);
  await a.tree.fsync(opened.handle, false);
  await a.tree.setExtendedAttribute(nodeidOf(a, "d/h"), "user.famfs.seal", Buffer.from("1"));
});

test("a directory that was lost is told by its parent; a call that loses the log itself fails once", async () => {
  const { volume, a } = pair();
  await put(a, "x", "");
  await a.tree.syncFileSystem();
  await a.tree.makeDirectory(ROOT, "lost", 0o755, USER);
  volume.steal();
  await assert.rejects(a.tree.syncDirectory(ROOT), STALE); // its append is refused
  await a.tree.syncDirectory(ROOT);
  await a.tree.makeDirectory(ROOT, "lost", 0o755, USER);
  volume.steal();
  a.tree.poll();
  await assert.rejects(a.tree.syncDirectory(ROOT), STALE);
  assert.equal(find(a, "lost"), undefined);
});
