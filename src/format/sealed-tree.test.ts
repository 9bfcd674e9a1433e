import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cases } from "../../test/support/cases.ts";
import { ALLOC_UNIT } from "../base/index.ts";
import type { DeviceExtent, FileEntry, Layout, LogEntry, RelinkEntry } from "./log-entry.ts";
import { type SealedNode, standInPath } from "./sealed-node.ts";
import { SealedTree } from "./sealed-tree.ts";
import { collidingEntry } from "./testing/arbitraries.ts";

const DATA = 5 * ALLOC_UNIT;
const LENGTH = 64 * ALLOC_UNIT;
const TIME = { seconds: 1, nanoseconds: 2 };
const OWNER = { uid: 1, gid: 2, mode: 0o644 };

function tree(extended = true): SealedTree {
  return new SealedTree({
    regionLength: LENGTH,
    dataOffset: DATA,
    allocUnit: ALLOC_UNIT,
    extended,
    rootUid: 7,
    rootGid: 8,
    rootMode: 0o750,
  });
}

const extent = (unit: number, units = 1, devindex = 0): DeviceExtent => ({
  devindex,
  offset: unit * ALLOC_UNIT,
  length: units * ALLOC_UNIT,
});
const simple = (...extents: DeviceExtent[]): Layout => ({ type: "simple", extents });
const file = (path: string, unit: number, size = 10): FileEntry => ({
  type: "file",
  path,
  size,
  flags: 2,
  ...OWNER,
  layout: simple(extent(unit)),
});
const mkdir = (path: string): LogEntry => ({ type: "mkdir", path, ...OWNER });
const relink = (target: number, parent: number, name: string): RelinkEntry => ({
  type: "relink",
  target,
  link: { parent, name },
  ...OWNER,
  mtime: undefined,
});
const unlink = (target: number): RelinkEntry => ({
  type: "relink",
  target,
  link: undefined,
  ...OWNER,
  mtime: undefined,
});

/** Applies entries from index 0 on; the findings' codes. */
function replay(target: SealedTree, ...entries: LogEntry[]): string[] {
  return entries.flatMap((entry) => target.apply(target.nextIndex, entry).findings.map((finding) => finding.code));
}

/** All names, directories with a slash. */
function paths(target: SealedTree): string[] {
  const found: string[] = [];
  const walk = (node: SealedNode, path: string) => {
    for (const [name, child] of node.children ?? []) {
      found.push(path + name + (child.kind === "directory" ? "/" : ""));
      walk(child, `${path}${name}/`);
    }
  };
  walk(target.root, "");
  return found.sort();
}

test("stock entries make files and directories, and the first entry of a path counts", () => {
  const stock = tree(false);
  assert.deepEqual(replay(stock, mkdir("d"), file("d/f", 5), file("d/f", 6), mkdir("d"), file("d", 7)), [
    "NAME_EXISTS",
    "NAME_EXISTS",
  ]);
  assert.deepEqual(paths(stock), ["d/", "d/f"]);
  assert.equal(stock.used(0).total, ALLOC_UNIT);
  assert.deepEqual(stock.counts, { files: 1, directories: 1, fileBytes: 10 });
  assert.equal(stock.root.mode, 0o750);
  assert.throws(() => stock.apply(0, mkdir("x")), { code: "INTERNAL" });
});

test("paths that stock would follow out of the tree, or cut off, are refused", () => {
  const stock = tree(false);
  const cases: [string, string][] = [
    ["", "PATH_INVALID"],
    ["/f", "PATH_INVALID"],
    ["/", "PATH_INVALID"],
    ["..", "PATH_INVALID"],
    ["../f", "PATH_INVALID"],
    ["d/../f", "PATH_INVALID"],
    ["./f", "PATH_INVALID"],
    ["d//f", "PATH_INVALID"],
    ["d/f/", "PATH_INVALID"],
    ["missing/sub/f", "PARENT_MISSING"],
    ["plain/f", "PARENT_NOT_A_DIRECTORY"],
  ];
  assert.deepEqual(replay(stock, mkdir("d"), file("plain", 5)), []);
  for (const [path, code] of cases) {
    assert.deepEqual(replay(stock, file(path, 8)), [code], `FILE "${path}"`);
    assert.deepEqual(replay(stock, mkdir(path)), [code], `MKDIR "${path}"`);
  }
  assert.deepEqual(paths(stock), ["d/", "plain"]);
});

test("extents that no file can have are refused, and take nothing", () => {
  const cases: [Layout, string, number?][] = [
    [simple(extent(4)), "EXTENT_OUT_OF_RANGE"], // the log
    [simple(extent(0)), "EXTENT_OUT_OF_RANGE"], // the superblock
    [simple(extent(63, 2)), "EXTENT_OUT_OF_RANGE"],
    [simple(extent(64)), "EXTENT_OUT_OF_RANGE"],
    [simple({ devindex: 0, offset: 2 ** 53 - ALLOC_UNIT, length: ALLOC_UNIT }), "EXTENT_OUT_OF_RANGE"],
    [simple({ devindex: 0, offset: 6 * ALLOC_UNIT + 4096, length: ALLOC_UNIT }), "EXTENT_MISALIGNED"],
    [simple({ devindex: 0, offset: 6 * ALLOC_UNIT, length: 4096 }), "EXTENT_MISALIGNED"],
    [simple({ devindex: 0, offset: 6 * ALLOC_UNIT, length: 0 }), "EXTENT_MISALIGNED"],
    [simple(extent(6, 1, 1)), "DAXDEV_UNKNOWN"],
    [simple(extent(6), extent(6)), "EXTENT_OVERLAP"],
    [simple(extent(7), extent(5)), "EXTENT_OVERLAP"],
    [simple(extent(6)), "EXTENT_TOO_SHORT", ALLOC_UNIT + 1],
    [simple(extent(6)), "ENTRY_MALFORMED", 0],
    [{ type: "interleaved", chunkSize: 3 * ALLOC_UNIT, strips: [extent(6, 3)] }, "STRIPE_INVALID"],
    [{ type: "interleaved", chunkSize: 4096, strips: [extent(6)] }, "STRIPE_INVALID"],
    [{ type: "interleaved", chunkSize: 0, strips: [extent(6)] }, "STRIPE_INVALID"],
    // Five chunks in two strips: three and two.
    [
      { type: "interleaved", chunkSize: ALLOC_UNIT, strips: [extent(6, 2), extent(10, 2)] },
      "EXTENT_TOO_SHORT",
      4 * ALLOC_UNIT + 1,
    ],
  ];
  const strict = tree();
  assert.deepEqual(replay(strict, file("taken", 5)), []);
  for (const [position, [layout, code, size]] of cases.entries()) {
    const entry: FileEntry = { ...file(`f${position}`, 6, size ?? 10), layout };
    assert.deepEqual(replay(strict, entry), [code], JSON.stringify(layout));
  }
  const striped: Layout = { type: "interleaved", chunkSize: ALLOC_UNIT, strips: [extent(6, 3), extent(10, 2)] };
  assert.deepEqual(replay(strict, { ...file("good", 6, 4 * ALLOC_UNIT + 1), layout: striped }), []);
  assert.equal(strict.used(0).total, 6 * ALLOC_UNIT);
});

test("further regions are numbered in order, and hold files behind their first unit", () => {
  const add = (index: number, uuid: string): LogEntry => ({ type: "addDaxdev", size: 8 * ALLOC_UNIT, uuid, index });
  const target = tree();
  assert.deepEqual(replay(target, add(2, "b"), add(0, "b"), add(1, "b"), add(1, "c"), add(2, "b")), [
    "DAXDEV_INVALID",
    "DAXDEV_INVALID",
    "DAXDEV_INVALID",
    "DAXDEV_INVALID",
  ]);
  const on1 = (unit: number, path: string): LogEntry => ({ ...file(path, 0), layout: simple(extent(unit, 1, 1)) });
  assert.deepEqual(replay(target, on1(0, "a"), on1(8, "b"), on1(7, "c"), on1(7, "d")), [
    "EXTENT_OUT_OF_RANGE",
    "EXTENT_OUT_OF_RANGE",
    "EXTENT_OVERLAP",
  ]);
  assert.equal(target.used(1).total, ALLOC_UNIT);
});

test("entries that stock ignores change nothing; extensions on a stock volume are reported", () => {
  const stock = tree(false);
  const unknown: LogEntry = { type: "unknown", code: 77, payload: new Uint8Array(520) };
  const filler: LogEntry = { type: "filler", first: 0, run: 10, epoch: 1, nodeIdHash: "00".repeat(8) };
  assert.deepEqual(replay(stock, { type: "delete" }, { type: "invalid" }, unknown), ["ENTRY_TYPE_UNKNOWN"]);
  assert.deepEqual(replay(stock, file("f", 5), unlink(3), filler), ["EXTENSION_IN_STOCK", "EXTENSION_IN_STOCK"]);
  assert.deepEqual(paths(stock), ["f"]);
  const target = tree();
  assert.deepEqual(replay(target, filler), []);
});

test("RELINK renames, and replaces what is there in the same step", () => {
  const target = tree();
  assert.deepEqual(replay(target, file("old", 5), file("new", 6)), []);
  const [replaced, kept] = [target.byIndex.get(1), target.byIndex.get(0)];
  const { changes } = target.apply(2, { ...relink(0, -1, "new"), mode: 0o600, mtime: TIME });
  assert.deepEqual(
    changes.map((change) => [change.type, change.node]),
    [
      ["replaced", replaced],
      ["moved", kept],
      ["attributes", kept],
    ],
  );
  assert.deepEqual(paths(target), ["new"]);
  assert.deepEqual([kept?.mode, kept?.mtime, kept?.name], [0o600, TIME, "new"]);
  assert.equal(target.used(0).total, ALLOC_UNIT, "the space of what was replaced is free");
  assert.deepEqual(replay(target, unlink(1)), ["RELINK_TARGET"], "removed is for good");
  // The same place: attributes only.
  assert.deepEqual(
    target.apply(4, relink(0, -1, "new")).changes.map((change) => change.type),
    ["attributes"],
  );
  assert.deepEqual(target.apply(5, relink(0, -1, "new")).changes, []);
});

test("RELINK follows the rules of rename and rmdir", () => {
  const target = tree();
  replay(target, mkdir("d"), mkdir("d/e"), file("f", 5), mkdir("empty"), file("d/e/g", 6));
  const cases: [RelinkEntry, string][] = [
    [relink(0, 1, "inside"), "RELINK_CYCLE"],
    [relink(0, 0, "itself"), "RELINK_CYCLE"],
    [relink(2, -1, "empty"), "RELINK_REFUSED"], // a file over a directory
    [relink(3, -1, "f"), "RELINK_REFUSED"], // a directory over a file
    [relink(3, -1, "d"), "RELINK_REFUSED"], // over one that is not empty
    [unlink(0), "RELINK_REFUSED"],
    [relink(-1, 0, "root"), "RELINK_REFUSED"],
    [relink(2, 99, "x"), "PARENT_MISSING"],
    [relink(2, 4, "x"), "PARENT_NOT_A_DIRECTORY"],
    [relink(99, -1, "x"), "RELINK_TARGET"],
    [relink(2, -1, "a/b"), "PATH_INVALID"],
  ];
  const before = paths(target);
  for (const [entry, code] of cases) assert.deepEqual(replay(target, entry), [code], JSON.stringify(entry));
  assert.deepEqual(paths(target), before);
  assert.deepEqual(replay(target, relink(1, -1, "empty"), unlink(4), unlink(1), unlink(0), unlink(2)), []);
  assert.deepEqual(paths(target), []);
  assert.equal(target.used(0).total, 0);
});

test("attributes of the root are set by a RELINK without a place", () => {
  const target = tree();
  assert.deepEqual(replay(target, { ...unlink(-1), mode: 0o777, mtime: TIME }), []);
  assert.deepEqual([target.root.mode, target.root.uid, target.root.mtime], [0o777, 1, TIME]);
});

test("NODE makes empty files and symlinks, in place of what is there", () => {
  const target = tree();
  const node = (kind: "file" | "symlink", name: string): LogEntry => ({
    type: "node",
    kind,
    link: { parent: -1, name },
    ...OWNER,
    mtime: TIME,
    symlinkTarget: kind === "symlink" ? "../x" : "",
  });
  assert.deepEqual(replay(target, mkdir("d"), file("f", 5), node("file", "f"), node("symlink", "l")), []);
  assert.deepEqual(replay(target, node("file", "d")), ["RELINK_REFUSED"]);
  assert.deepEqual(paths(target), ["d/", "f", "l"]);
  assert.equal(target.byIndex.get(2)?.size, 0);
  assert.equal(target.byIndex.get(3)?.symlinkTarget, "../x");
  assert.equal(target.used(0).total, 0);
});

test("a stand-in is not seen before its RELINK, and stays where it is when that never comes", () => {
  const target = tree();
  const long = "n".repeat(255);
  assert.deepEqual(replay(target, file(standInPath(0), 5), mkdir(standInPath(1))), []);
  assert.deepEqual(paths(target), []);
  assert.equal(target.used(0).total, ALLOC_UNIT);
  assert.deepEqual(replay(target, relink(1, -1, "dir"), relink(0, 1, long)), []);
  assert.deepEqual(paths(target), ["dir/", `dir/${long}`]);
  // The directory's own stand-in is the path of what is created in it.
  assert.equal(target.directPath({ parent: 1, name: "g" }), ".famfs-1/g");
  assert.deepEqual(replay(target, file(".famfs-1/g", 6)), []);
  assert.deepEqual(paths(target), ["dir/", "dir/g", `dir/${long}`]);
  // A path that was refused is used up as well: stock tools may see what is under it.
  assert.deepEqual(replay(target, file("bad", 0)), ["EXTENT_OUT_OF_RANGE"]);
  assert.equal(target.directPath({ parent: -1, name: "bad" }), undefined);
  // On a stock volume it is a file like any other.
  const stock = tree(false);
  assert.deepEqual(replay(stock, file(standInPath(0), 5)), []);
  assert.deepEqual(paths(stock), [".famfs-0"]);
});

test("a direct path is what stock tools see of the directory, and is used once", () => {
  const target = tree();
  assert.equal(target.directPath({ parent: -1, name: "a" }), "a");
  assert.deepEqual(replay(target, mkdir("a"), relink(0, -1, "b")), []);
  assert.equal(target.directPath({ parent: -1, name: "a" }), undefined, "stock tools still see the directory");
  assert.equal(target.directPath({ parent: -1, name: "b" }), undefined, "it exists");
  assert.equal(target.directPath({ parent: 0, name: "f" }), "a/f");
  assert.deepEqual(replay(target, file("a/f", 5)), []);
  assert.deepEqual(paths(target), ["b/", "b/f"]);
  assert.deepEqual(replay(target, unlink(2)), []);
  assert.equal(target.directPath({ parent: 0, name: "f" }), undefined, "used before");
  assert.equal(target.directPath({ parent: 0, name: "x".repeat(76) })?.length, 78);
  assert.equal(target.directPath({ parent: 0, name: "x".repeat(77) }), undefined);
  assert.equal(target.directPath({ parent: -1, name: ".famfs-9" }), undefined, "a stand-in of another entry");
  assert.equal(target.directPath({ parent: 99, name: "x" }), undefined);
});

test("directories deeper than any path are refused, so that looking for cycles is bounded", () => {
  const target = tree();
  const refused: string[] = [];
  for (let depth = 0; refused.length === 0 && depth < 5000; depth++) {
    const index = target.nextIndex;
    replay(target, mkdir(standInPath(index)));
    refused.push(...replay(target, relink(index, depth === 0 ? -1 : index - 2, "d")));
  }
  assert.deepEqual(refused, ["RELINK_REFUSED"]);
  assert.equal(target.nextIndex, 2 * 4097);
});

/** What a follower of `changes` knows: where each node is. */
class Mirror {
  readonly places = new Map<SealedNode, { parent: SealedNode; name: string } | undefined>();

  follow(target: SealedTree, entry: LogEntry): void {
    for (const change of target.apply(target.nextIndex, entry).changes) {
      const { node } = change;
      const place = node.parent === undefined ? undefined : { parent: node.parent, name: node.name };
      switch (change.type) {
        case "added":
          assert.ok(!this.places.has(node));
          this.places.set(node, place);
          break;
        case "moved":
          assert.deepEqual(this.places.get(node)?.name, change.from?.name);
          assert.equal(this.places.get(node)?.parent, change.from?.parent);
          this.places.set(node, place);
          break;
        case "removed":
        case "replaced":
          assert.equal(this.places.get(node)?.parent, change.from?.parent);
          assert.ok(this.places.delete(node));
          break;
        case "attributes":
          assert.ok(node === target.root || this.places.has(node));
      }
    }
  }
}

test("whatever the entries: a tree, no space twice, and the changes tell all of it", () => {
  const log = fc
    .integer({ min: 1, max: 25 })
    .chain((length) => fc.tuple(...Array.from({ length }, (_, index) => collidingEntry(index))));
  fc.assert(
    fc.property(log, (entries) => {
      const target = tree();
      const mirror = new Mirror();
      for (const entry of entries) mirror.follow(target, entry);
      const alive = new Set(target.byIndex.values());
      alive.delete(target.root);
      assert.deepEqual(new Set(mirror.places.keys()), alive);
      let used = 0;
      for (const node of alive) {
        const place = mirror.places.get(node);
        assert.equal(place?.parent, node.parent);
        if (node.parent !== undefined) {
          assert.equal(node.parent.children?.get(node.name), node);
          assert.ok(node.parent === target.root || alive.has(node.parent));
        }
        let depth = 0;
        for (let at: SealedNode | undefined = node; at !== undefined; at = at.parent)
          assert.ok(++depth < 50, "a cycle");
        const extents = node.layout?.type === "simple" ? node.layout.extents : (node.layout?.strips ?? []);
        for (const { offset, length } of extents) {
          used += length;
          assert.ok(target.used(0).contains(offset, offset + length));
          assert.ok(offset >= DATA && offset + length <= LENGTH);
        }
      }
      assert.equal(target.used(0).total, used, "space is claimed once and given back");
      assert.equal(target.counts.files + target.counts.directories, alive.size);
    }),
    cases(400),
  );
});
