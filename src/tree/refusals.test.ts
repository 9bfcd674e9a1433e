import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "../base/index.ts";
import { contents, find, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

/** fallocate modes: FALLOC_FL_KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, and one that moves data. */
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const COLLAPSE_RANGE = 8;
const ZERO_RANGE = 16;

test("a refused fallocate of a sealed file changes no byte of it", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  await put(node, "f", "0123456789");
  await node.tree.syncFileSystem();
  const opened = await node.tree.open(nodeidOf(node, "f"), O.RDWR);
  const refused = [
    { mode: 0, code: "SIZE_SEALED" },
    { mode: KEEP_SIZE, code: "SIZE_SEALED" },
    { mode: ZERO_RANGE, code: "SIZE_SEALED" },
    { mode: PUNCH_HOLE, code: "NOT_SUPPORTED" },
    { mode: PUNCH_HOLE | ZERO_RANGE | KEEP_SIZE, code: "NOT_SUPPORTED" },
    { mode: COLLAPSE_RANGE, code: "NOT_SUPPORTED" },
  ];
  for (const { mode, code } of refused) {
    await assert.rejects(node.tree.allocate(opened.handle, 4, 4 * MIB, mode), { code }, `mode ${mode}`);
    assert.equal(node.read(opened), "0123456789", `mode ${mode}`);
  }
  for (const mode of [PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE]) {
    await node.write(opened, 0, "0123456789");
    await node.tree.allocate(opened.handle, 4, 4 * MIB, mode); // what is inside the file
    assert.equal(node.read(opened), "0123\0\0\0\0\0\0", `mode ${mode}`);
  }
});

test("a fallocate without space changes neither bytes, nor size, nor free space", async () => {
  const volume = new SharedVolume({ dataBytes: 8 * MIB });
  const node = volume.serve("a");
  const { opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  await node.write(opened, 0, "0123456789");
  const { freeBlocks } = node.tree.status();
  for (const mode of [0, KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE]) {
    await assert.rejects(node.tree.allocate(opened.handle, 4, 20 * MIB, mode), { code: "NO_SPACE" }, `mode ${mode}`);
    assert.equal(node.read(opened), "0123456789", `mode ${mode}`);
    assert.equal(node.tree.status().freeBlocks, freeBlocks, `mode ${mode}`);
  }
  node.tree.release(opened.handle);
  assert.equal(await contents(node, "f"), "0123456789");
});

test("of a write that does not fit as a whole, the part that fits is written; then it is refused", async () => {
  const volume = new SharedVolume({ dataBytes: 4 * MIB });
  const node = volume.serve("a");
  const { opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  const data = "x".repeat(MIB);
  for (let at = 0; at < 3.5 * MIB; at += data.length) await node.write(opened, at, data);
  assert.equal(await node.write(opened, 3.5 * MIB, data), 0.5 * MIB);
  await assert.rejects(node.write(opened, 4 * MIB, data), { code: "NO_SPACE" });
  await node.tree.setExtendedAttribute(nodeidOf(node, "f"), "user.famfs.seal", new Uint8Array());
  assert.equal(await node.write(opened, 4 * MIB - 3, "abcdef"), 3);
  await assert.rejects(node.write(opened, 4 * MIB, "def"), { code: "WRITE_PAST_END" });
  assert.equal(node.read(opened).slice(-5), "xxabc");
});

test("an empty file that could not grow is in the log as before", async () => {
  const volume = new SharedVolume({ dataBytes: 8 * MIB });
  const node = volume.serve("a");
  await put(node, "empty", "");
  await node.tree.syncFileSystem();
  const { freeBlocks } = node.tree.status();
  const opened = await node.tree.open(nodeidOf(node, "empty"), O.RDWR);
  const { nodeid } = find(node, "empty")?.attributes ?? { nodeid: 0 };
  const tooLarge = 20 * MIB;
  const attempts = [
    () => node.tree.allocate(opened.handle, 0, tooLarge, 0),
    () => Promise.resolve(node.tree.setAttributes(nodeid, { size: tooLarge, handle: opened.handle })),
    () => node.write(opened, tooLarge, "x"),
  ];
  for (const attempt of attempts) {
    await assert.rejects(attempt, { code: "NO_SPACE" });
    await volume.clock.advance(1100);
    assert.equal(volume.length, 1);
    assert.equal(node.tree.status().freeBlocks, freeBlocks);
    assert.equal(node.tree.unsealedCount, 0);
  }
  await node.write(opened, 0, "fits");
  node.tree.release(opened.handle);
  await node.tree.syncFileSystem();
  assert.equal(await contents(volume.serve("b"), "empty"), "fits");
});
