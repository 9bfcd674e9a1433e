/** What was removed stays what it was, as long as the kernel refers to it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "../base/index.ts";
import { find, list, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import type { ServedNode } from "./testing/served-node.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

const STALE = { code: "NODE_STALE" };

/** Files f, unsealed or not, and directory d, all known to the kernel. */
async function setUp(sealed: boolean) {
  const volume = new SharedVolume();
  const node = volume.serve("a", { shared: true });
  await put(node, "f", "data");
  await node.tree.makeDirectory(ROOT, "d", 0o755, USER);
  await node.tree.makeSymlink(ROOT, "l", "target", USER);
  if (sealed) await node.tree.syncFileSystem();
  const ids = { f: nodeidOf(node, "f"), d: nodeidOf(node, "d"), l: nodeidOf(node, "l") };
  for (const nodeid of Object.values(ids)) node.tree.looked(nodeid);
  return { volume, node, ...ids };
}

const nlink = (node: ServedNode, nodeid: number) => node.tree.getAttributes(nodeid).nlink;

for (const sealed of [false, true]) {
  const kind = sealed ? "sealed" : "unsealed";

  test(`a removed ${kind} file is there until the kernel forgets it, then its space is free`, async () => {
    const { volume, node, f } = await setUp(sealed);
    const before = node.tree.status().freeBlocks;
    node.tree.looked(f);
    await node.tree.unlink(ROOT, "f");
    assert.equal(nlink(node, f), 0);
    await put(node, "other", "x".repeat(100));
    const opened = await node.tree.open(f, O.RDWR);
    assert.equal(node.read(opened), "data");
    node.tree.release(opened.handle);
    node.tree.forget(f, 1);
    assert.equal(nlink(node, f), 0);
    node.tree.forget(f, 1);
    assert.throws(() => node.tree.getAttributes(f), STALE);
    await node.tree.unlink(ROOT, "other");
    await volume.clock.advance(0);
    assert.ok(node.tree.status().freeBlocks >= before);
  });

  test(`a removed ${kind} file that is open outlives the kernel's references, and the other way round`, async () => {
    const { node, f } = await setUp(sealed);
    const opened = await node.tree.open(f, O.RDONLY);
    await node.tree.unlink(ROOT, "f");
    node.tree.forget(f, 1);
    assert.equal(node.read(opened), "data");
    node.tree.looked(f);
    node.tree.release(opened.handle);
    assert.equal(nlink(node, f), 0);
    node.tree.forget(f, 1);
    assert.throws(() => node.tree.getAttributes(f), STALE);
  });

  test(`a removed ${kind} directory is empty and takes no new names; a removed symlink has its target`, async () => {
    const { node, d, l } = await setUp(sealed);
    await node.tree.removeDirectory(ROOT, "d");
    await node.tree.unlink(ROOT, "l");
    assert.deepEqual(list(node, d), []);
    assert.equal(nlink(node, d), 0);
    assert.ok("missingForSeconds" in node.tree.lookup(d, "x"));
    await assert.rejects(async () => node.tree.create(d, "x", 0o644, O.WRONLY, USER), { code: "FILE_NOT_FOUND" });
    await assert.rejects(async () => node.tree.rename(ROOT, "f", d, "x", 0), { code: "FILE_NOT_FOUND" });
    await node.tree.syncDirectory(d);
    assert.equal((await node.tree.setAttributes(d, { mode: 0o700 })).mode, 0o040700);
    assert.equal(node.tree.readLink(l), "target");
    for (const nodeid of [d, l]) {
      node.tree.forget(nodeid, 1);
      assert.throws(() => node.tree.getAttributes(nodeid), STALE);
    }
  });

  test(`a replaced ${kind} file is there until the kernel forgets it`, async () => {
    const { volume, node, f } = await setUp(sealed);
    await put(node, "new", "newer");
    await node.tree.rename(ROOT, "new", ROOT, "f", 0);
    await volume.clock.advance(5000); // the replacement seals
    const opened = await node.tree.open(f, O.RDONLY);
    assert.equal(node.read(opened), "data");
    assert.equal(nlink(node, f), 0);
    node.tree.release(opened.handle);
    node.tree.forget(f, 1);
    assert.throws(() => node.tree.getAttributes(f), STALE);
    assert.equal(find(node, "f")?.attributes.size, 5);
  });
}

test("what another node removed is there until the kernel forgets it, and its bytes are not given to others", async () => {
  const { volume, node } = await setUp(true);
  const b = volume.serve("b", { shared: true });
  const [f, d, l] = [nodeidOf(b, "f"), nodeidOf(b, "d"), nodeidOf(b, "l")];
  for (const nodeid of [f, d, l]) b.tree.looked(nodeid);
  await node.tree.unlink(ROOT, "f");
  await node.tree.removeDirectory(ROOT, "d");
  await node.tree.unlink(ROOT, "l");
  await node.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
  b.tree.poll();
  const { opened } = await b.tree.create(ROOT, "big", 0o644, O.WRONLY, USER);
  const room = b.tree.status().freeBlocks * 4096;
  await b.tree.allocate(opened.handle, 0, room - (room % (2 * MIB)), 0); // all there is
  const reader = await b.tree.open(f, O.RDONLY);
  assert.equal(b.read(reader), "data");
  b.tree.release(reader.handle);
  assert.deepEqual([nlink(b, f), nlink(b, d), nlink(b, l)], [0, 0, 0]);
  for (const nodeid of [f, d, l]) {
    b.tree.forget(nodeid, 1);
    assert.throws(() => b.tree.getAttributes(nodeid), STALE);
  }
});

test("what the kernel forgets keeps its name, and what it never knew goes at once", async () => {
  const { node, f } = await setUp(true);
  node.tree.forget(f, 1);
  assert.equal(nodeidOf(node, "f"), f);
  node.tree.forget(ROOT, 1000);
  assert.deepEqual(list(node), ["d", "f", "l"]);
  await put(node, "unknown", "");
  const unknown = nodeidOf(node, "unknown");
  await node.tree.unlink(ROOT, "unknown");
  assert.throws(() => node.tree.getAttributes(unknown), STALE);
});

test("an entry that takes the place of a retracted one is another node, while the first one is held", async () => {
  const volume = new SharedVolume();
  volume.exclusive = false;
  const a = volume.serve("a", { shared: true });
  const b = volume.serve("b", { shared: true });
  await put(a, "f", "data");
  await a.tree.syncFileSystem();
  b.tree.poll();
  const before = nodeidOf(b, "f");
  b.tree.looked(before);
  volume.retract(1);
  volume.steal();
  const c = volume.serve("c", { shared: true });
  await c.tree.makeDirectory(ROOT, "g", 0o755, USER);
  await c.tree.syncFileSystem();
  b.tree.poll();
  assert.equal(nlink(b, before), 0);
  assert.notEqual(nodeidOf(b, "g"), before);
});
