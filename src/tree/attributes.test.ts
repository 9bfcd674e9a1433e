import assert from "node:assert/strict";
import { test } from "node:test";
import { uninterrupted } from "../base/index.ts";
import { contents, find, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import type { ServedNode } from "./testing/served-node.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

const BY_ROOT = uninterrupted();

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

test("under a mount group, what is not its yet shows its rights, and a mode that a program sets stays", async () => {
  const volume = new SharedVolume();
  const before = volume.serve("a");
  await before.tree.makeDirectory(ROOT, "theirs", 0o755, BY_ROOT);
  await put(before, "old", "x");
  await put(before, "kept", "x");
  await before.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });

  const node = volume.serve("b", { mountGroup: 2000 });
  const shown = (at: ServedNode, path: string) => {
    const { mode, uid, gid } = path === "" ? at.tree.getAttributes(ROOT) : at.tree.getAttributes(nodeidOf(at, path));
    return `${(mode & 0o7777).toString(8)} ${uid}:${gid}`;
  };
  assert.deepEqual(
    ["", "theirs", "old"].map((path) => shown(node, path)),
    ["2775 0:2000", "2775 0:2000", "664 1000:2000"],
  );
  // initdb and ssh-keygen
  const data = (await node.tree.makeDirectory(ROOT, "data", 0o777 & ~0o022, USER)).attributes.nodeid;
  assert.equal(shown(node, "data"), "2755 1000:2000");
  await node.tree.setAttributes(data, { mode: 0o700 });
  const key = await node.tree.create(data, "key", 0o600, O.WRONLY, USER);
  node.tree.release(key.opened.handle);
  const entries = volume.length;
  await node.tree.setAttributes(nodeidOf(node, "old"), { uid: 1000, gid: 2000 });
  await node.tree.setAttributes(nodeidOf(node, "theirs"), { mode: 0o2775 });
  assert.equal(volume.length, entries);
  await node.tree.setAttributes(nodeidOf(node, "old"), { uid: 1001 });
  await node.tree.setAttributes(nodeidOf(node, "theirs"), { mode: 0o750 });
  await node.tree.setAttributes(ROOT, { mode: 0o700 });
  const now = ["", "data", "data/key", "old", "theirs", "kept"];
  const expected = ["700 0:2000", "700 1000:2000", "600 1000:2000", "664 1001:2000", "750 0:2000", "664 1000:2000"];
  assert.deepEqual(
    now.map((path) => shown(node, path)),
    expected,
  );
  await node.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
  const again = volume.serve("c", { mountGroup: 2000 });
  assert.deepEqual(
    now.map((path) => shown(again, path)),
    expected,
  );
  assert.equal(shown(volume.serve("d"), "kept"), "644 1000:1000");
});
