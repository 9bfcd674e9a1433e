import assert from "node:assert/strict";
import { test } from "node:test";
import { ALLOC_UNIT, MIB } from "../base/index.ts";
import { contents, find, list, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

/** At least as many entries of any log are kept for removing and renaming. */
const KEPT_ENTRIES = 32;

test("a full log refuses at create, and everything that was created still seals", async () => {
  const volume = new SharedVolume({ capacity: 11 + KEPT_ENTRIES });
  const node = volume.serve("a");
  for (let at = 0; at < 5; at++) await put(node, "n".repeat(100 + at), "x"); // two entries each
  await assert.rejects(put(node, "m".repeat(100), "x"), { code: "LOG_FULL" });
  await put(node, "sixth", "x"); // one entry: its path can be logged as it is
  await assert.rejects(put(node, "seventh", "x"), { code: "LOG_FULL" });
  await assert.rejects(async () => node.tree.makeDirectory(ROOT, "d", 0o755, USER), { code: "LOG_FULL" });
  await node.tree.syncFileSystem();
  assert.equal(volume.length, 11);
  assert.equal(node.tree.status().freeFiles, 0);
  assert.equal(list(volume.serve("b")).length, 6);
});

test("in a full log the last entries are for removing and renaming: they give space back, nothing new takes them", async () => {
  const volume = new SharedVolume({ capacity: 8 + KEPT_ENTRIES });
  const node = volume.serve("a");
  assert.deepEqual([node.tree.status().files, node.tree.status().freeFiles], [8, 8]);
  for (let at = 0; at < 7; at++) await put(node, `f${at}`, "x");
  const { attributes: directory } = await node.tree.makeDirectory(ROOT, "d", 0o755, USER);
  await node.tree.syncFileSystem();
  const { freeBlocks, freeFiles } = node.tree.status();
  assert.equal(freeFiles, 0);
  const refused = (attempt: () => unknown) =>
    assert.rejects(async () => attempt(), { code: "LOG_FULL", message: /32 kept for removing and renaming/ });
  const nothingNew = async () => {
    await refused(() => put(node, "new", "x"));
    await refused(() => node.tree.makeDirectory(ROOT, "new", 0o755, USER));
    await refused(() => node.tree.makeSymlink(ROOT, "new", "f0", USER));
    await refused(() => node.tree.open(nodeidOf(node, "f0"), O.WRONLY | O.TRUNC));
    await refused(() => node.tree.setAttributes(nodeidOf(node, "f0"), { mode: 0o600 }));
  };
  await nothingNew();
  await node.tree.rename(ROOT, "f0", directory.nodeid, "moved", 0);
  await node.tree.rename(ROOT, "f1", ROOT, "f2", 0);
  await node.tree.unlink(directory.nodeid, "moved");
  await node.tree.removeDirectory(ROOT, "d");
  for (let at = 2; at < 7; at++) await node.tree.unlink(ROOT, `f${at}`);
  assert.equal(node.tree.status().freeBlocks - freeBlocks, (7 * ALLOC_UNIT) / 4096);
  assert.deepEqual(list(volume.serve("b")), []);
  await refused(() => put(node, "new", "x")); // the space is back, the entries are not
  assert.equal(node.tree.status().freeFiles, 0);
  assert.deepEqual(volume.replay().findings, []);
});

test("times of directories are not persisted into the entries kept for removing", async () => {
  const volume = new SharedVolume({ capacity: 1 + KEPT_ENTRIES });
  const node = volume.serve("a");
  await put(node, "f", "x");
  await volume.clock.advance(5000);
  assert.equal(await node.tree.handOver({ forced: false, signal: AbortSignal.timeout(1000) }), true);
  assert.equal(volume.length, 1);
});

test("a full volume refuses at create; space comes back when files go", async () => {
  const volume = new SharedVolume({ dataBytes: 4 * ALLOC_UNIT });
  const node = volume.serve("a");
  for (const name of ["a", "b", "c", "d"]) await put(node, name, name);
  await assert.rejects(put(node, "e", "e"), { code: "NO_SPACE" });
  await node.tree.syncFileSystem();
  await assert.rejects(put(node, "e", "e"), { code: "NO_SPACE" });
  await node.tree.unlink(ROOT, "b");
  await put(node, "e", "e");
  assert.equal(await contents(node, "e"), "e");
  assert.equal(node.tree.status().freeBlocks, 0);
});

test("files that were just closed give back what they do not need before anybody is refused", async () => {
  const volume = new SharedVolume({ dataBytes: 4 * ALLOC_UNIT });
  const node = volume.serve("a");
  for (let at = 0; at < 20; at++) await put(node, `empty${at}`, "");
  await put(node, "f", "old");
  await node.tree.syncFileSystem();
  // A new content that is closed takes the place of the old one.
  const rewrite = await node.tree.open(nodeidOf(node, "f"), O.WRONLY | O.TRUNC);
  await node.write(rewrite, 0, "new");
  node.tree.release(rewrite.handle);
  const { entry, opened } = await node.tree.create(ROOT, "big", 0o644, O.WRONLY, USER);
  await node.tree.setAttributes(entry.attributes.nodeid, { size: 3 * ALLOC_UNIT, handle: opened.handle });
  await assert.rejects(put(node, "one more", ""), { code: "NO_SPACE" });
  assert.equal(list(node).length, 22);
  assert.equal(await contents(node, "f"), "new");
  assert.equal(await contents(volume.serve("b"), "f"), "new");
  assert.deepEqual(volume.replay().findings, []);
});

test("a file is overwritten only with room for as much again; otherwise it stays as it is", async () => {
  const volume = new SharedVolume({ dataBytes: 8 * ALLOC_UNIT });
  const node = volume.serve("a");
  const make = async (name: string, units: number) => {
    const { entry, opened } = await node.tree.create(ROOT, name, 0o644, O.WRONLY, USER);
    await node.tree.setAttributes(entry.attributes.nodeid, { size: units * ALLOC_UNIT, handle: opened.handle });
    await node.write(opened, 0, name);
    node.tree.release(opened.handle);
  };
  await make("weights", 3);
  await make("other", 2);
  await node.tree.syncFileSystem();
  const { freeBlocks } = node.tree.status(); // three units
  const nodeid = nodeidOf(node, "weights");
  const overwrite = await node.tree.open(nodeid, O.WRONLY | O.TRUNC);
  await node.write(overwrite, 0, "newer");
  node.tree.release(overwrite.handle);
  assert.equal(await contents(node, "weights"), "newer");
  await node.tree.syncFileSystem();
  await node.tree.unlink(ROOT, "weights");
  await make("weights", 4);
  await node.tree.syncFileSystem();
  const entries = volume.length;
  await assert.rejects(async () => node.tree.open(nodeidOf(node, "weights"), O.WRONLY | O.TRUNC), {
    code: "NO_SPACE",
    message: /weights keeps its 8 MiB until its new content is sealed.*remove it first/,
  });
  await volume.clock.advance(2000);
  assert.equal(volume.length, entries);
  assert.equal(find(node, "weights")?.attributes.size, 4 * ALLOC_UNIT);
  assert.equal((await contents(node, "weights")).slice(0, 7), "weights");
  assert.equal(node.tree.status().freeBlocks, freeBlocks - ALLOC_UNIT / 4096);
  await node.tree.unlink(ROOT, "other");
  const another = await node.tree.open(nodeidOf(node, "weights"), O.WRONLY | O.TRUNC);
  node.tree.release(another.handle);
});

test("O_TRUNC of a file that is empty in the log costs no entry", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  await put(node, "empty", "");
  await node.tree.syncFileSystem();
  for (let at = 0; at < 10; at++) {
    const opened = await node.tree.open(nodeidOf(node, "empty"), O.WRONLY | O.TRUNC);
    node.tree.release(opened.handle);
    await volume.clock.advance(1100);
  }
  assert.equal(volume.length, 1);
});

test("space of a removed file comes back only when nobody can hold it", async () => {
  const volume = new SharedVolume({ dataBytes: 4 * ALLOC_UNIT });
  volume.exclusive = false;
  const node = volume.serve("a");
  await put(node, "f", "x");
  await node.tree.syncFileSystem();
  await node.tree.unlink(ROOT, "f");
  assert.equal(node.tree.status().freeBlocks, (3 * ALLOC_UNIT) / 4096); // another node may have it open
  volume.exclusive = true;
  node.tree.poll();
  assert.equal(node.tree.status().freeBlocks, (4 * ALLOC_UNIT) / 4096);
  await put(node, "g", "y");
  await node.tree.syncFileSystem();
  const held = await node.tree.open(nodeidOf(node, "g"), O.RDONLY);
  await node.tree.unlink(ROOT, "g");
  assert.equal(node.tree.status().freeBlocks, (3 * ALLOC_UNIT) / 4096);
  assert.equal(node.read(held), "y");
  node.tree.release(held.handle);
  assert.equal(node.tree.status().freeBlocks, (4 * ALLOC_UNIT) / 4096);
});

test("a claim of n bytes takes n bytes, also when other files hold more than they need", async () => {
  const volume = new SharedVolume({ dataBytes: 64 * MIB });
  const node = volume.serve("a");
  const { opened } = await node.tree.create(ROOT, "all", 0o644, O.WRONLY, USER);
  await node.tree.allocate(opened.handle, 0, 64 * MIB, 0);
  await assert.rejects(node.tree.allocate(opened.handle, 0, 64 * MIB + 1, 0), { code: "NO_SPACE" });
  node.tree.release(opened.handle);
  await node.tree.unlink(ROOT, "all");
  // Grows by doubling while another one does: what it holds beyond its end comes back when it is needed.
  const one = (await node.tree.create(ROOT, "one", 0o644, O.WRONLY, USER)).opened;
  for (let at = 0; at < 17; at += 2) await node.write(one, at * MIB, "x");
  const two = (await node.tree.create(ROOT, "two", 0o644, O.WRONLY, USER)).opened;
  await node.tree.allocate(two.handle, 0, 46 * MIB, 0);
  await node.write(one, 17 * MIB, "end");
});

test("a large file that cannot grow in place takes a part of what is free, and in the end all of it", async () => {
  const volume = new SharedVolume({ dataBytes: 8192 * MIB });
  const node = volume.serve("a");
  const { opened } = await node.tree.create(ROOT, "large", 0o644, O.WRONLY, USER);
  await node.tree.prepareWrite(opened.handle, { offset: 0, end: 2048 * MIB, isWriteBack: false });
  const free = () => node.tree.status().freeBlocks * 4096;
  let others = 0;
  for (let end = 2048 * MIB, most = 512 * MIB; free() > 0; most = 8192 * MIB) {
    await put(node, `behind ${others++}`, "x");
    const before = free();
    end += before > 0 ? 1 : 0;
    await node.tree.prepareWrite(opened.handle, { offset: end - 1, end, isWriteBack: false });
    assert.ok(before - free() <= most, `${(before - free()) / MIB} MiB for one byte`);
    end = node.maps.state(opened.map).capacity;
  }
  assert.equal(node.maps.state(opened.map).capacity + others * ALLOC_UNIT, 8192 * MIB);
});

test("what was prepared for a write, and given to another file before it, can be prepared again", async () => {
  const volume = new SharedVolume({ dataBytes: 64 * MIB });
  const node = volume.serve("a");
  const one = (await node.tree.create(ROOT, "one", 0o644, O.WRONLY, USER)).opened;
  const two = (await node.tree.create(ROOT, "two", 0o644, O.WRONLY, USER)).opened;
  await node.tree.prepareWrite(one.handle, { offset: 16 * MIB, end: 16 * MIB + 3, isWriteBack: false });
  await node.tree.allocate(two.handle, 0, 60 * MIB, 0);
  const end = Buffer.from("end");
  assert.equal(node.maps.write(one.map, 16 * MIB, end), false);
  await assert.rejects(
    node.tree.prepareWrite(one.handle, { offset: 16 * MIB, end: 16 * MIB + 3, isWriteBack: false }),
    {
      code: "NO_SPACE",
    },
  );
  await node.tree.unlink(ROOT, "two");
  node.tree.release(two.handle);
  await node.tree.prepareWrite(one.handle, { offset: 16 * MIB, end: 16 * MIB + 3, isWriteBack: false });
  assert.equal(node.maps.write(one.map, 16 * MIB, end), true);
});

test("KEEP_SIZE only reserves; a hole punched or a file shrunk reads as zeroes when it grows again", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const { entry, opened } = await node.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  await node.tree.allocate(opened.handle, 0, 8 * MIB, 1);
  assert.equal(node.tree.getAttributes(entry.attributes.nodeid).size, 0);
  assert.equal(node.maps.state(opened.map).capacity, 8 * MIB);
  const allocated = () => node.tree.getAttributes(entry.attributes.nodeid).allocatedBytes;
  assert.equal(allocated(), 8 * MIB);
  await node.write(opened, 0, "0123456789");
  await node.tree.allocate(opened.handle, 2, 3, 3);
  assert.equal(node.read(opened), "01\0\0\x0056789");
  await node.tree.setAttributes(entry.attributes.nodeid, { size: 7, handle: opened.handle });
  await node.tree.setAttributes(entry.attributes.nodeid, { size: 10, handle: opened.handle });
  assert.equal(node.read(opened), "01\0\0\x0056\0\0\0");
  await assert.rejects(node.tree.allocate(opened.handle, 0, 10, 8), { code: "NOT_SUPPORTED" });
  assert.equal(allocated(), 8 * MIB);
  node.tree.release(opened.handle);
  await node.tree.syncFileSystem();
  assert.equal(allocated(), ALLOC_UNIT);
  assert.equal(node.tree.status().freeBlocks, (64 * MIB - ALLOC_UNIT) / 4096); // the tail is trimmed
});

test("what cannot be is refused with its own code", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const file = await put(node, "f", "x");
  const directory = await node.tree.makeDirectory(ROOT, "d", 0o755, USER);
  await put(node, "in", "x", directory.attributes.nodeid);
  const refused = (code: string, attempt: () => unknown) => assert.rejects(async () => attempt(), { code }, code);
  await refused("NOT_PERMITTED", () => node.tree.link(file.attributes.nodeid, ROOT, "hard"));
  await refused("NOT_PERMITTED", () => node.tree.createNode(ROOT, "fifo", 0o010644, USER));
  await refused("IS_A_DIRECTORY", () => node.tree.unlink(ROOT, "d"));
  await refused("NOT_A_DIRECTORY", () => node.tree.removeDirectory(ROOT, "f"));
  await refused("DIRECTORY_NOT_EMPTY", () => node.tree.removeDirectory(ROOT, "d"));
  await refused("FILE_NOT_FOUND", () => node.tree.unlink(ROOT, "none"));
  await refused("INVALID_OPERATION", () => node.tree.rename(ROOT, "d", directory.attributes.nodeid, "x", 0));
  await refused("INVALID_OPERATION", () => node.tree.rename(ROOT, "f", ROOT, "x", 4)); // RENAME_WHITEOUT
  await refused("FILE_EXISTS", () => node.tree.rename(ROOT, "f", ROOT, "d", 1));
  await refused("IS_A_DIRECTORY", () => node.tree.rename(ROOT, "f", ROOT, "d", 0));
  await refused("HANDLE_STALE", () => node.tree.flush(12345));
  await refused("XATTR_UNSUPPORTED", () =>
    node.tree.setExtendedAttribute(file.attributes.nodeid, "user.x", new Uint8Array()),
  );
});

test("a volume mounted read-only, or of another host, refuses every change and says why", async () => {
  const volume = new SharedVolume();
  await put(volume.serve("a"), "f", "x");
  for (const [node, reason] of [
    [volume.serve("b", { readOnly: true }), /read-only here/],
    [volume.serve("c", {}, "another host owns it"), /another host owns it/],
  ] as const) {
    const refused = (attempt: () => unknown) =>
      assert.rejects(async () => attempt(), { code: "READ_ONLY", message: reason });
    await refused(() => node.tree.create(ROOT, "g", 0o644, O.WRONLY, USER));
    await refused(() => node.tree.makeDirectory(ROOT, "d", 0o755, USER));
    await refused(() => node.tree.unlink(ROOT, "f"));
    await refused(() => node.tree.rename(ROOT, "f", ROOT, "g", 0));
    await refused(() => node.tree.setAttributes(ROOT, { mode: 0o700 }));
  }
});
