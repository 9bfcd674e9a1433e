import assert from "node:assert/strict";
import { test } from "node:test";
import { contents, find, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

test("a change of attributes that changes nothing costs no entry; each that changes something costs one", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  await put(node, "f", "data");
  await node.tree.makeDirectory(ROOT, "d", 0o750, USER);
  await node.tree.makeSymlink(ROOT, "s", "f", USER);
  await node.tree.syncFileSystem();
  for (const name of ["f", "d", "s"]) {
    const entries = volume.length;
    const { nodeid, mode, uid, gid, mtime } = node.tree.getAttributes(nodeidOf(node, name));
    await volume.clock.advance(1000);
    await node.tree.setAttributes(nodeid, { mode });
    await node.tree.setAttributes(nodeid, { uid, gid });
    await node.tree.setAttributes(nodeid, { mtime });
    await node.tree.setAttributes(nodeid, { mode, uid, gid, mtime, atime: "now" });
    await node.tree.setAttributes(nodeid, { atime: "now" });
    assert.equal(volume.length, entries, name);
    const after = node.tree.getAttributes(nodeid);
    assert.deepEqual([after.mode, after.uid, after.gid, after.mtime], [mode, uid, gid, mtime]);
    assert.equal(after.ctime.seconds * 1000, volume.clock.wallMs()); // as chmod(2) and utimensat(2) have it
    for (const change of [{ mtime: "now" }, { mode: mode ^ 0o020 }, { uid: uid + 1 }, { gid: gid + 1 }] as const) {
      await node.tree.setAttributes(nodeid, change);
    }
    assert.equal(volume.length, entries + 4, name);
  }
});

test("what is as asked already needs no grant, judged by what other nodes did before", async () => {
  const volume = new SharedVolume();
  const a = volume.serve("a");
  await put(a, "f", "data");
  await a.tree.syncFileSystem();
  const b = volume.serve("b");
  const nodeid = nodeidOf(b, "f");
  await b.tree.setAttributes(nodeid, { mode: 0o644 });
  assert.equal(volume.holder, "a");
  await a.tree.setAttributes(nodeidOf(a, "f"), { mode: 0o600 });
  // b has not looked at the log since: it would take 0644 for what is.
  volume.onContention = async () => a.tree.handOver({ forced: false, signal: AbortSignal.timeout(1000) });
  const change = Promise.resolve(b.tree.setAttributes(nodeid, { mode: 0o644 }));
  await volume.clock.advance(200);
  await change;
  a.tree.poll();
  assert.equal((find(a, "f")?.attributes.mode ?? 0) & 0o7777, 0o644);
});

test("the mode of an open file that was replaced is its own affair: the log keeps it until its replacement seals", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  await put(node, "f", "old");
  await node.tree.syncFileSystem();
  const opened = await node.tree.open(nodeidOf(node, "f"), O.RDONLY);
  const nodeid = nodeidOf(node, "f");
  await put(node, "new", "new");
  await node.tree.rename(ROOT, "new", ROOT, "f", 0);
  await node.tree.setAttributes(nodeid, { mode: 0o600, mtime: "now", handle: opened.handle });
  assert.equal(volume.length, 1);
  assert.equal(await contents(volume.serve("b"), "f"), "old");
  node.tree.release(opened.handle);
  await node.tree.syncFileSystem();
  assert.equal(await contents(volume.serve("b"), "f"), "new");
});
