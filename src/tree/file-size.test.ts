import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "../base/index.ts";
import { contents, find, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

/** Zeroing waits until the answer is called. */
function slowZero(volume: SharedVolume): () => Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  volume.beforeZero = () => promise;
  return async () => {
    volume.beforeZero = () => undefined;
    resolve();
    await volume.clock.advance(0);
  };
}

test("a declared file does not seal while its size changes", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  const { nodeid } = entry.attributes;
  await node.tree.setAttributes(nodeid, { size: 2 * MIB, handle: opened.handle });
  const finish = slowZero(volume);
  const growth = Promise.resolve(node.tree.setAttributes(nodeid, { size: 9 * MIB, handle: opened.handle }));
  await volume.clock.advance(1100);
  await finish();
  await growth;
  await volume.clock.advance(1100);
  assert.equal(find(volume.serve("b"), "f")?.attributes.size, 9 * MIB);
});

test("what is written while the end of a file is zeroed stays", async () => {
  for (const how of ["truncate", "punch"]) {
    const volume = new SharedVolume();
    const node = volume.serve("a");
    const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
    await node.write(opened, 0, "0123456789");
    const finish = slowZero(volume);
    // A program that is interrupted here goes on while the zeroing does.
    const zeroing =
      how === "truncate"
        ? Promise.resolve(node.tree.setAttributes(entry.attributes.nodeid, { size: 2, handle: opened.handle }))
        : node.tree.allocate(opened.handle, 2, 8, 3);
    await volume.clock.advance(0);
    const write = node.write(opened, 2, "new");
    await finish();
    await zeroing;
    await write;
    assert.equal(node.read(opened), how === "truncate" ? "01new" : "01new\0\0\0\0\0");
  }
});

test("what is written through a handle opened while the end of a file is zeroed stays", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const { nodeid } = (await put(node, "f", "0123456789")).attributes;
  const finish = slowZero(volume);
  const shrink = Promise.resolve(node.tree.setAttributes(nodeid, { size: 2 }, USER));
  await volume.clock.advance(0);
  const opened = await node.tree.open(nodeid, O.RDWR, USER);
  const write = node.write(opened, 2, "new");
  await finish();
  await shrink;
  await write;
  assert.equal(node.read(opened), "01new");
});

test("space that is still being zeroed is not given to another file", async () => {
  const volume = new SharedVolume({ dataBytes: 8 * MIB });
  const node = volume.serve("a");
  const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  await node.tree.setAttributes(entry.attributes.nodeid, { size: 6 * MIB, handle: opened.handle });
  const finish = slowZero(volume);
  const shrink = Promise.resolve(
    node.tree.setAttributes(entry.attributes.nodeid, { size: 1, handle: opened.handle }),
  ).catch(() => {}); // the file is gone by then
  await volume.clock.advance(0);
  await node.tree.unlink(ROOT, "f");
  node.tree.release(opened.handle);
  volume.beforeZero = () => undefined;
  const other = await node.tree.create(ROOT, "g", 0o644, O.RDWR, USER);
  await assert.rejects(node.write(other.opened, 4 * MIB, "data"), { code: "NO_SPACE" });
  await finish();
  await shrink;
  await node.write(other.opened, 4 * MIB, "data");
  node.tree.release(other.opened.handle);
  assert.equal((await contents(node, "g")).slice(-4), "data");
});

test("a file shows nothing of a removed one whose space it got", async () => {
  const volume = new SharedVolume({ dataBytes: 4 * MIB });
  const node = volume.serve("a");
  await put(node, "old", "secret".repeat(MIB / 2));
  await volume.clock.advance(1100);
  await node.tree.unlink(ROOT, "old");
  const { entry, opened } = await node.tree.create(ROOT, "new", 0o644, O.RDWR, USER);
  await node.tree.setAttributes(entry.attributes.nodeid, { size: 3 * MIB, handle: opened.handle });
  assert.match(node.read(opened), /^\0*$/);
  await node.write(opened, 3 * MIB + 1, "end");
  assert.match(node.read(opened), /^\0*end$/);
});

test("a growth that ends after the last close of a removed file gives its space back", async () => {
  const volume = new SharedVolume({ dataBytes: 16 * MIB });
  const node = volume.serve("a");
  await put(node, "kept", "x");
  const { freeBlocks } = node.tree.status();
  const { opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  const finish = slowZero(volume);
  const growth = assert.rejects(node.tree.allocate(opened.handle, 0, 8 * MIB, 0), { code: "OWNER_STALE" });
  await volume.clock.advance(0);
  await node.tree.unlink(ROOT, "f");
  node.tree.release(opened.handle);
  await finish();
  await growth;
  assert.equal(node.tree.status().freeBlocks, freeBlocks);
  assert.equal(nodeidOf(node, "kept") > 0, true);
});

test("a node that lost the log zeroes nothing more", async () => {
  for (const how of ["grow", "shrink", "punch"]) {
    const volume = new SharedVolume();
    const node = volume.serve("a");
    const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
    await node.write(opened, 0, "0123456789");
    const finish = slowZero(volume);
    const { nodeid } = entry.attributes;
    const size = how === "grow" ? 9 * MIB : 2;
    const work =
      how === "punch"
        ? node.tree.allocate(opened.handle, 2, 8, 3)
        : Promise.resolve(node.tree.setAttributes(nodeid, { size, handle: opened.handle }));
    const refused = assert.rejects(work, { code: "OWNER_STALE" }, how);
    await volume.clock.advance(0);
    volume.steal();
    // What another volume has there by now.
    for (let at = 0; at < volume.regionLength; at += MIB) volume.memory.memory.write(at, Uint8Array.of(7));
    await finish();
    await refused;
    for (let at = 0; at < volume.regionLength; at += MIB)
      assert.equal(volume.memory.memory.read(at, 1)[0], 7, `${how}: ${at}`);
  }
});

test("with dataWriters: any, sealed files are zeroed while the region is still the volume's", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a", { dataWriters: "any" });
  await put(node, "f", "0123456789");
  await node.tree.syncFileSystem();
  volume.steal();
  const opened = await node.tree.open(nodeidOf(node, "f"), O.RDWR);
  await node.tree.allocate(opened.handle, 8, 1, 3);
  assert.equal(node.read(opened), "01234567\x009");
  volume.isCurrent = false;
  await assert.rejects(node.tree.allocate(opened.handle, 2, 6, 3), { code: "OWNER_STALE" });
  assert.equal(node.read(opened), "01234567\x009");
});
