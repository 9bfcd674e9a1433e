import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "../base/index.ts";
import type { Layout } from "../format/index.ts";
import { contents, find, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import type { ServedNode } from "./testing/served-node.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

const CHUNK = 2 * MIB;
const SETTINGS = { striping: { nbuckets: 4, nstrips: 3, chunkSize: CHUNK } };

interface Arena {
  readonly volume: SharedVolume;
  readonly node: ServedNode;
  readonly nodeid: number;
  readonly opened: { readonly handle: number; readonly map: number };
  size(bytes: number): Promise<unknown>;
  /** Layout of "arena" as another mount would find it; the log holds what stock rules ask for. */
  sealed(): Promise<Layout | undefined>;
}

/** An open file "arena" in a volume that asks for stripes. */
async function arena(dataBytes = 64 * MIB): Promise<Arena> {
  const volume = new SharedVolume({ dataBytes });
  const node = volume.serve("a", SETTINGS);
  const { entry, opened } = await node.tree.create(ROOT, "arena", 0o644, O.RDWR, USER);
  const { nodeid } = entry.attributes;
  return {
    volume,
    node,
    nodeid,
    opened,
    size: async (size) => node.tree.setAttributes(nodeid, { size, handle: opened.handle }),
    async sealed() {
      await node.tree.setExtendedAttribute(nodeid, "user.famfs.seal", Buffer.from("1"));
      const { tree, findings } = volume.replay();
      assert.deepEqual(findings, []);
      return [...tree.byIndex.values()].find(({ name }) => name === "arena")?.layout;
    },
  };
}

/** Writes a mark around every chunk boundary and at the end; `check` finds them. */
async function mark({ node, opened }: Arena, size: number): Promise<void> {
  for (let at = 0; at < size; at += CHUNK) await node.write(opened, Math.max(0, at - 3), `<${at}>`);
  await node.write(opened, size - 3, "end");
}

function assertMarked(text: string, size: number): void {
  assert.equal(text.length, size);
  for (let at = 0; at < size; at += CHUNK) {
    const from = Math.max(0, at - 3);
    assert.equal(text.slice(from, from + `<${at}>`.length), `<${at}>`);
  }
  assert.equal(text.slice(size - 3), "end");
}

test("a file whose size is declared first has strips of whole stripes, each in a bucket of its own", async () => {
  for (const declare of ["ftruncate", "fallocate"]) {
    const file = await arena();
    const size = 7 * CHUNK + 1234;
    if (declare === "ftruncate") await file.size(size);
    else await file.node.tree.allocate(file.opened.handle, 0, size, 0);
    await mark(file, size);
    assertMarked(file.node.read(file.opened), size);
    const layout = await file.sealed();
    assert.equal(layout?.type, "interleaved");
    if (layout?.type !== "interleaved") return;
    assert.equal(layout.chunkSize, CHUNK);
    assert.deepEqual(
      layout.strips.map(({ length }) => length),
      [3 * CHUNK, 3 * CHUNK, 3 * CHUNK],
    );
    const buckets = layout.strips.map(({ offset }) => Math.floor((offset - 10 * MIB) / (16 * MIB)));
    assert.equal(new Set(buckets).size, 3);
    assertMarked(await contents(file.volume.serve("b"), "arena"), size);
    assert.equal(file.node.tree.status().freeBlocks * 4096, 64 * MIB - 9 * CHUNK);
  }
});

test("smaller than a chunk, or growing by writes: simple, as without stripes", async () => {
  const file = await arena();
  await file.size(CHUNK - 1);
  assert.equal((await file.sealed())?.type, "simple");
  const { node, volume } = file;
  const { opened } = await node.tree.create(ROOT, "log", 0o644, O.WRONLY, USER);
  await node.write(opened, 0, "x");
  await node.write(opened, 5 * CHUNK, "y");
  node.tree.release(opened.handle);
  await node.tree.syncFileSystem();
  const { tree } = volume.replay();
  assert.equal([...tree.byIndex.values()].find(({ name }) => name === "log")?.layout?.type, "simple");
});

test("a smaller size gives whole stripes back, one chunk is simple, and what grows again reads zero", async () => {
  const file = await arena();
  const { node, opened } = file;
  await file.size(9 * CHUNK);
  await mark(file, 9 * CHUNK);
  await file.size(4 * CHUNK + 5);
  await file.size(9 * CHUNK);
  assert.match(node.read(opened).slice(4 * CHUNK + 5), /^\0*$/);
  await file.size(4 * CHUNK + 5);
  node.tree.release(opened.handle);
  await node.tree.syncFileSystem();
  const layoutOf = (name: string) =>
    [...file.volume.replay().tree.byIndex.values()].find((n) => n.name === name)?.layout;
  const layout = layoutOf("arena");
  assert.equal(layout?.type === "interleaved" && layout.strips.every(({ length }) => length === 2 * CHUNK), true);
  assert.equal(node.tree.status().freeBlocks * 4096, 64 * MIB - 6 * CHUNK);

  const small = await node.tree.create(ROOT, "small", 0o644, O.RDWR, USER);
  await node.tree.setAttributes(small.entry.attributes.nodeid, { size: 6 * CHUNK });
  await node.write(small.opened, 0, "kept");
  await node.tree.setAttributes(small.entry.attributes.nodeid, { size: 4 });
  node.tree.release(small.opened.handle);
  await node.tree.syncFileSystem();
  assert.equal(layoutOf("small")?.type, "simple");
  assert.equal(await contents(file.volume.serve("b"), "small"), "kept");
  assert.equal(node.tree.status().freeBlocks * 4096, 64 * MIB - 7 * CHUNK);
});

test("growth: further stripes in place while there is room behind the strips, otherwise the content moves", async () => {
  const file = await arena();
  const { node, opened } = file;
  await file.size(3 * CHUNK);
  await mark(file, 3 * CHUNK);
  await node.write(opened, 3 * CHUNK, "further");
  assert.equal(node.maps.state(opened.map).layout.type, "interleaved");
  // A file behind the strips: in every bucket the next unit is taken.
  for (let n = 0; n < 3; n++) {
    const { entry } = await node.tree.create(ROOT, `next${n}`, 0o644, O.RDWR, USER);
    await node.tree.setAttributes(entry.attributes.nodeid, { size: 3 * CHUNK });
  }
  const blocksBefore = node.tree.status().freeBlocks * 4096;
  await node.write(opened, 6 * CHUNK, "beyond");
  const state = node.maps.state(opened.map);
  assert.equal(state.layout.type, "simple", "it moved");
  assert.equal(state.paused, false);
  assert.equal(
    node.tree.status().freeBlocks * 4096,
    blocksBefore + 6 * CHUNK - state.capacity,
    "no strip is left behind",
  );
  const text = node.read(opened);
  assert.equal(text.slice(0, 3), "<0>");
  assert.equal(text.slice(3 * CHUNK - 3, 3 * CHUNK + 7), "endfurther");
  assert.match(text.slice(3 * CHUNK + 7, 6 * CHUNK), /^\0*$/);
  assert.equal(text.slice(6 * CHUNK), "beyond");
  assert.equal((await file.sealed())?.type, "simple");
  assert.equal(await contents(file.volume.serve("b"), "arena"), text);
});

test("too few buckets with room: simple; no room at all: NO_SPACE and nothing is lost", async () => {
  const file = await arena(16 * MIB); // buckets of 4 MiB
  await file.size(6 * CHUNK);
  assert.equal(file.node.maps.state(file.opened.map).layout.type, "interleaved");
  const other = await file.node.tree.create(ROOT, "other", 0o644, O.RDWR, USER);
  const before = file.node.tree.status().freeBlocks;
  await assert.rejects(file.size(7 * CHUNK), { code: "NO_SPACE" });
  assert.equal(file.node.tree.status().freeBlocks, before);
  await file.node.tree.setAttributes(other.entry.attributes.nodeid, { size: CHUNK });
  assert.equal((await file.sealed())?.type, "interleaved");
  await file.node.tree.unlink(ROOT, "arena");
  file.node.tree.release(file.opened.handle);
  assert.equal(file.node.tree.status().freeBlocks * 4096, 16 * MIB - CHUNK);
});

test("an unlinked interleaved file gives its strips back when it is closed; O_TRUNC starts anew", async () => {
  const file = await arena();
  await file.size(6 * CHUNK);
  await mark(file, 6 * CHUNK);
  await file.sealed();
  const again = await file.node.tree.open(file.nodeid, O.RDWR | O.TRUNC);
  await file.size(3 * CHUNK);
  await file.node.write(again, 0, "new");
  file.node.tree.release(again.handle);
  assert.equal((await file.sealed())?.type, "interleaved");
  assert.equal(find(file.volume.serve("b"), "arena")?.attributes.size, 3 * CHUNK);
  await file.node.tree.unlink(ROOT, "arena");
  file.node.tree.release(file.opened.handle);
  await put(file.node, "last", "x");
  await file.node.tree.syncFileSystem();
  assert.equal(file.node.tree.status().freeBlocks * 4096, 64 * MIB - CHUNK);
  assert.equal(nodeidOf(file.node, "last") > 0, true);
});
