import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "../base/index.ts";
import { contents, find, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

test("a file seals sealDelay after its last close, not before", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  await put(node, "f", "hello");
  await volume.clock.advance(990);
  assert.equal(volume.length, 0);
  await volume.clock.advance(100);
  assert.equal(volume.length, 1);
  assert.equal(await contents(volume.serve("b"), "f"), "hello");
});

test("what was behind the data in its last unit is gone when a file is in the log", async () => {
  const volume = new SharedVolume({ dataBytes: 8 * MIB });
  const node = volume.serve("a");
  await put(node, "f", "hello");
  const { opened } = await node.tree.create(ROOT, "open", 0o644, O.RDWR, USER);
  await node.write(opened, 0, "world");
  await node.write(opened, 2 * MIB + 3, "further");
  await node.tree.setExtendedAttribute(nodeidOf(node, "open"), "user.famfs.seal", new Uint8Array(), USER);
  await volume.clock.advance(1100);
  assert.equal(volume.length, 2);
  for (const { layout } of volume.replay().tree.byIndex.values()) {
    for (const { offset, length } of layout?.type === "simple" ? layout.extents : []) {
      const text = Buffer.from(volume.memory.memory.read(offset, length)).toString("latin1").replaceAll("\0", "");
      assert.match(text, /^(hello|worldfurther)$/);
    }
  }
});

test("what was behind the data is gone, too, when files are put into the log because space is short", async () => {
  const volume = new SharedVolume({ dataBytes: 8 * MIB });
  const node = volume.serve("a");
  await put(node, "f", "hello");
  await put(node, "empty", ""); // has a unit until it is in the log
  const { opened } = await node.tree.create(ROOT, "large", 0o644, O.WRONLY, USER);
  await node.write(opened, 6 * MIB - 1, "x");
  assert.equal(volume.length, 2);
  const [file] = [...volume.replay().tree.byIndex.values()].filter(({ layout }) => layout !== undefined);
  assert.ok(file?.layout?.type === "simple");
  const [{ offset, length } = { offset: 0, length: 0 }] = file.layout.extents;
  const text = Buffer.from(volume.memory.memory.read(offset, length)).toString("latin1");
  assert.equal(text.replaceAll("\0", ""), "hello");
});

test("a write beyond the end that waits while the file seals is refused", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  await node.write(opened, 0, "data");
  const zeroed = Promise.withResolvers<void>();
  volume.beforeZero = () => zeroed.promise;
  const sealing = node.tree.setExtendedAttribute(entry.attributes.nodeid, "user.famfs.seal", new Uint8Array(), USER);
  const write = assert.rejects(node.write(opened, 4 * MIB, "late"), { code: "WRITE_PAST_END" });
  zeroed.resolve();
  await sealing;
  await write;
  assert.equal(find(node, "f")?.attributes.size, 4);
});

test("a defect while sealing ends no process: it is tried again", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const { opened, entry } = await node.tree.create(ROOT, "declared", 0o644, O.RDWR, USER);
  await node.tree.setAttributes(entry.attributes.nodeid, { size: 5, handle: opened.handle });
  node.maps.lastWriteMs = () => {
    throw new TypeError("a defect");
  };
  await volume.clock.advance(5000);
  assert.equal(volume.length, 0);
  Reflect.deleteProperty(node.maps, "lastWriteMs");
  await volume.clock.advance(5000);
  assert.equal(volume.length, 1);
});

test("a file that is open for write does not seal; a second close starts the delay anew", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.WRONLY, USER);
  const again = await node.tree.open(entry.attributes.nodeid, O.WRONLY);
  await node.write(opened, 0, "one");
  node.tree.flush(opened.handle); // a close of a copy of the descriptor
  node.tree.release(opened.handle);
  await volume.clock.advance(5000);
  assert.equal(volume.length, 0);
  await node.write(again, 3, "two");
  node.tree.release(again.handle);
  await volume.clock.advance(1100);
  assert.equal(await contents(volume.serve("b"), "f"), "onetwo");
});

test("a declared file seals while it is open, sealDelay after the last change of its size", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const { entry, opened } = await node.tree.create(ROOT, "arena", 0o644, O.RDWR, USER);
  const { nodeid } = entry.attributes;
  await node.tree.setAttributes(nodeid, { size: 3 * MIB, handle: opened.handle });
  await volume.clock.advance(900);
  await node.tree.setAttributes(nodeid, { size: 4 * MIB, handle: opened.handle });
  await node.write(opened, 3 * MIB, "inside");
  await volume.clock.advance(900);
  assert.equal(volume.length, 0);
  await volume.clock.advance(200);
  assert.equal(volume.length, 1);
  await node.write(opened, 0, "in place");
  await assert.rejects(node.write(opened, 4 * MIB, "x"), { code: "WRITE_PAST_END" });
  assert.equal(find(volume.serve("b"), "arena")?.attributes.size, 4 * MIB);
});

test("a write past a declared size takes the declaration back; a longer size declares again", async () => {
  for (const how of ["ftruncate", "fallocate"]) {
    const volume = new SharedVolume();
    const node = volume.serve("a");
    const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
    const { nodeid } = entry.attributes;
    const declare = async (size: number) => {
      if (how === "fallocate") await node.tree.allocate(opened.handle, 0, size, 0);
      else await node.tree.setAttributes(nodeid, { size, handle: opened.handle });
    };
    await declare(100);
    await volume.clock.advance(500);
    await node.write(opened, 100, "dd seek= goes on"); // a worker does this by itself
    await volume.clock.advance(5000);
    await node.tree.syncFileSystem();
    assert.equal(volume.length, 0);
    await node.write(opened, 116, ", and on");
    await declare(200);
    await volume.clock.advance(1100);
    assert.equal(find(volume.serve("b"), "f")?.attributes.size, 200);
  }
});

test("a size that makes a file no longer declares nothing: it stays open for writes to come", async () => {
  for (const size of [10, 4, 0]) {
    const volume = new SharedVolume();
    const node = volume.serve("a");
    const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
    await node.write(opened, 0, "0123456789");
    await node.tree.setAttributes(entry.attributes.nodeid, { size, handle: opened.handle });
    await node.tree.allocate(opened.handle, 0, Math.max(size, 1), 1);
    await volume.clock.advance(5000);
    assert.equal(volume.length, 0);
    await node.write(opened, size, "goes on");
    node.tree.release(opened.handle);
    await volume.clock.advance(1100);
    assert.equal(await contents(volume.serve("b"), "f"), `${"0123456789".slice(0, size)}goes on`);
  }
});

test("fsync of the directory and syncfs seal what is closed at once, and leave what is being written", async () => {
  for (const sync of ["directory", "fileSystem"]) {
    const volume = new SharedVolume();
    const node = volume.serve("a");
    await put(node, "closed", "1");
    const { opened } = await node.tree.create(ROOT, "growing", 0o644, O.WRONLY, USER);
    await node.write(opened, 0, "22");
    if (sync === "directory") await node.tree.syncDirectory(ROOT);
    else await node.tree.syncFileSystem();
    const other = volume.serve("b");
    assert.equal(await contents(other, "closed"), "1");
    assert.equal(find(other, "growing"), undefined);
    await node.write(opened, 2, "33");
    node.tree.release(opened.handle);
  }
});

test("the xattr user.famfs.seal seals an open file; writing in place goes on, growing does not", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  await node.write(opened, 0, "abc");
  await node.tree.setExtendedAttribute(entry.attributes.nodeid, "user.famfs.seal", new Uint8Array());
  assert.equal(find(volume.serve("b"), "f")?.attributes.size, 3);
  await node.write(opened, 0, "ABC");
  await assert.rejects(node.write(opened, 3, "d"), { code: "WRITE_PAST_END" });
  assert.throws(() => node.tree.getExtendedAttribute(entry.attributes.nodeid, "user.other"), {
    code: "XATTR_UNSUPPORTED",
  });
  assert.deepEqual(node.tree.listExtendedAttributes(entry.attributes.nodeid), []);
});

test("an unlinked unsealed file is never logged and serves its handle until the last close", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const { opened } = await node.tree.create(ROOT, "plasma", 0o600, O.RDWR, USER);
  await node.tree.unlink(ROOT, "plasma");
  await node.tree.allocate(opened.handle, 0, 4 * MIB, 0);
  await node.write(opened, 4 * MIB - 3, "end");
  await volume.clock.advance(10_000);
  assert.equal(volume.length, 0);
  assert.equal(node.read(opened).slice(-3), "end");
  const before = node.tree.status().freeBlocks;
  node.tree.release(opened.handle);
  assert.equal(node.tree.status().freeBlocks - before, (4 * MIB) / 4096);
  assert.equal(node.maps.count, 0);
});

test("many files seal in few transactions, directories before what lies in them", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const top = await node.tree.makeDirectory(ROOT, "top", 0o755, USER);
  const sub = await node.tree.makeDirectory(top.attributes.nodeid, "sub", 0o750, USER);
  for (let at = 0; at < 20; at++) await put(node, `f${at}`, `data ${at}`, sub.attributes.nodeid);
  await volume.clock.advance(1100);
  const { entries, findings } = volume.replay();
  assert.deepEqual(findings, []);
  assert.deepEqual(
    entries.slice(0, 2).map((entry) => entry.type),
    ["mkdir", "mkdir"],
  );
  assert.equal(entries.length, 22);
  assert.equal(await contents(volume.serve("b"), "top/sub/f13"), "data 13");
});

test("O_TRUNC of a sealed file replaces it when the new one seals; others see the old one until then", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  await put(node, "f", "old content");
  await node.tree.syncFileSystem();
  const other = volume.serve("b");
  const nodeid = nodeidOf(node, "f");
  const reader = await node.tree.open(nodeid, O.RDONLY);
  const opened = await node.tree.open(nodeid, O.WRONLY | O.TRUNC);
  assert.equal(node.tree.getAttributes(nodeid).size, 0);
  await node.write(opened, 0, "new");
  assert.equal(node.read(reader), "new"); // one inode
  assert.equal(await contents(other, "f"), "old content");
  node.tree.release(opened.handle);
  await volume.clock.advance(1100);
  assert.equal(node.tree.getAttributes(nodeid).nodeid, nodeid);
  other.tree.poll();
  assert.equal(await contents(other, "f"), "new");
  assert.deepEqual(volume.replay().findings, []);
});

test("a sealed file keeps its size: EPERM for a new size, EFBIG past the end, the same size is fine", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  await put(node, "f", "sealed");
  await node.tree.syncFileSystem();
  const nodeid = nodeidOf(node, "f");
  await assert.rejects(async () => node.tree.setAttributes(nodeid, { size: 5 }), { code: "SIZE_SEALED" });
  await assert.rejects(async () => node.tree.setAttributes(nodeid, { size: 7 }), { code: "SIZE_SEALED" });
  await node.tree.setAttributes(nodeid, { size: 6 });
  const opened = await node.tree.open(nodeid, O.RDWR);
  await assert.rejects(node.write(opened, 6, "x"), { code: "WRITE_PAST_END" });
  await assert.rejects(node.tree.allocate(opened.handle, 0, 7, 0), { code: "SIZE_SEALED" });
  await node.write(opened, 0, "SEALED");
  assert.equal(node.read(opened), "SEALED");
});

test("an empty sealed file takes its first bytes as a new file of that name", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  await put(node, "touched", "");
  await node.tree.syncFileSystem();
  assert.equal(volume.replay().entries[0]?.type, "node");
  const opened = await node.tree.open(nodeidOf(node, "touched"), O.WRONLY);
  await node.write(opened, 0, "appended");
  node.tree.release(opened.handle);
  await volume.clock.advance(1100);
  assert.equal(await contents(volume.serve("b"), "touched"), "appended");
});

test("names that stock paths cannot hold go by a stand-in and a RELINK in one transaction", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const long = "n".repeat(255);
  await put(node, long, "long");
  const link = await node.tree.makeSymlink(ROOT, "l".repeat(255), "t".repeat(300), USER);
  await node.tree.syncFileSystem();
  const other = volume.serve("b");
  assert.equal(await contents(other, long), "long");
  assert.equal(other.tree.readLink(nodeidOf(other, "l".repeat(255))), node.tree.readLink(link.attributes.nodeid));
  await assert.rejects(async () => put(node, "x".repeat(256), ""), { code: "NAME_TOO_LONG" });
  assert.deepEqual(volume.replay().findings, []);
});

test("times, modes and owners are what they were after a hand-over and a second mount", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const directory = await node.tree.makeDirectory(ROOT, "d", 0o2775, USER);
  const entry = await put(node, "f", "1", directory.attributes.nodeid);
  await node.tree.syncFileSystem();
  await volume.clock.advance(5000);
  const old = { seconds: 1_000_000_000, nanoseconds: 123_456_789 };
  await node.tree.setAttributes(entry.attributes.nodeid, { mode: 0o4711, uid: 5, gid: 6, mtime: old });
  await put(node, "g", "2", directory.attributes.nodeid); // touches the directory
  await node.tree.handOver({ forced: false, signal: AbortSignal.timeout(1000) });
  const other = volume.serve("b");
  for (const path of ["d", "d/f", "d/g"]) {
    const [here, there] = [find(node, path)?.attributes, find(other, path)?.attributes];
    for (const key of ["mode", "uid", "gid", "mtime", "size"] as const)
      assert.deepEqual(there?.[key], here?.[key], key);
  }
  assert.deepEqual(find(other, "d/f")?.attributes.mtime, old);
});

test("fsync of a file that nobody writes any more puts it into the log", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.WRONLY, USER);
  await node.write(opened, 0, "data");
  const reader = await node.tree.open(entry.attributes.nodeid, O.RDONLY);
  await node.tree.fsync(reader.handle, false);
  assert.equal(volume.length, 0, "it may still grow");
  node.tree.release(opened.handle);
  await node.tree.fsync(reader.handle, false);
  assert.equal(volume.length, 1);
  await node.tree.fsync(reader.handle, false);
  assert.equal(volume.length, 1);
});
