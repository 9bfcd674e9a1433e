import assert from "node:assert/strict";
import { test } from "node:test";
import { ALLOC_UNIT, MIB } from "../base/index.ts";
import { SealedTree } from "../format/index.ts";
import { Nodes } from "./nodes.ts";
import { contents, find, list, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

const SOME = { uid: 0, gid: 0, mode: 0o755 };

/** Directories d0, d1, … of the root with directories 0, 1, … each. */
function nodesOf(directories: number, names: number): Nodes {
  const sealed = new SealedTree({
    regionLength: 64 * MIB,
    dataOffset: 10 * MIB,
    allocUnit: ALLOC_UNIT,
    extended: true,
    rootUid: 0,
    rootGid: 0,
    rootMode: 0o755,
  });
  let index = 0;
  for (let d = 0; d < directories; d++) {
    sealed.apply(index++, { type: "mkdir", path: `d${d}`, ...SOME });
    for (let n = 0; n < names; n++) sealed.apply(index++, { type: "mkdir", path: `d${d}/${n}`, ...SOME });
  }
  return new Nodes(sealed.root, () => ({ seconds: 1, nanoseconds: 0 }));
}

test("nodes of the log are made when they are asked for, one by one; a listing makes those of its directory", () => {
  const nodes = nodesOf(10, 5);
  const made = () => [...nodes.all()].length;
  assert.equal(made(), 1);
  const { children } = nodes.root;
  assert.deepEqual([children.size, children.directories], [10, 10]);
  assert.equal(made(), 1, "counting makes none");
  assert.equal(children.get("none"), undefined);
  const directory = children.get("d3");
  assert.equal(children.get("d3"), directory);
  assert.equal(made(), 2);
  assert.equal(directory?.parent, nodes.root);
  assert.deepEqual(
    [...children.after(0)].map(({ name }) => name),
    Array.from({ length: 10 }, (_, at) => `d${at}`),
  );
  assert.equal(children.get("d3"), directory);
  assert.equal(made(), 11);
});

test("a name that is here otherwise than in the log makes its directory whole: nothing comes back from the log", () => {
  const nodes = nodesOf(1, 3);
  const directory = nodes.root.children.get("d0");
  assert.ok(directory?.kind === "directory");
  const node = directory.children.get("1");
  assert.ok(node);
  nodes.detach(node);
  assert.equal(directory.children.get("1"), undefined);
  assert.equal(directory.children.isWhole, true);
  const local = nodes.newDirectory({ ...SOME, time: { seconds: 1, nanoseconds: 0 } });
  nodes.attach(local, directory, "1");
  assert.equal(directory.children.get("1"), local);
  assert.equal(directory.children.size, 3);
});

/** Node a made d1/f and d2, and b has looked at nothing. */
async function unseen() {
  const volume = new SharedVolume();
  volume.exclusive = false;
  const settings = { shared: true, minimumHoldMs: 0 };
  const [a, b] = [volume.serve("a", settings), volume.serve("b", settings)];
  volume.onContention = (holder) =>
    (holder === "a" ? a : b).tree.handOver({ forced: false, signal: AbortSignal.timeout(1000) });
  for (const name of ["d1", "d2"]) await a.tree.makeDirectory(ROOT, name, 0o755, USER);
  await put(a, "f", "data", nodeidOf(a, "d1"));
  await a.tree.syncFileSystem();
  b.tree.poll();
  return { volume, a, b };
}

test("what is open moves with the log, also to where nobody has looked", async () => {
  const { a, b } = await unseen();
  const nodeid = nodeidOf(b, "d1/f");
  const held = await b.tree.open(nodeid, O.RDONLY);
  await a.tree.rename(nodeidOf(a, "d1"), "f", nodeidOf(a, "d2"), "g", 0);
  b.tree.poll();
  assert.equal(b.tree.getAttributes(nodeid).nlink, 1);
  assert.equal(nodeidOf(b, "d2/g"), nodeid);
  assert.equal(find(b, "d1/f"), undefined);
  assert.equal(b.read(held), "data");
  await a.tree.rename(ROOT, "d2", nodeidOf(a, "d1"), "d2", 0);
  b.tree.poll();
  assert.equal(nodeidOf(b, "d1/d2/g"), nodeid);
});

test("a kernel that knows a name to be missing is told when it comes, and a directory that it knows changes", async () => {
  const { a, b } = await unseen();
  assert.equal(find(b, "d1/g"), undefined);
  const d1 = nodeidOf(b, "d1");
  b.told.length = 0;
  await put(a, "g", "later", nodeidOf(a, "d1"));
  await put(a, "h", "unseen", nodeidOf(a, "d2"));
  await a.tree.syncFileSystem();
  b.tree.poll();
  assert.deepEqual([...b.told].sort(), [`entry ${d1} g`, `inode ${d1} 0 0`]);
  assert.equal(await contents(b, "d1/g"), "later");
  b.told.length = 0;
  await a.tree.unlink(nodeidOf(a, "d1"), "f");
  b.tree.poll();
  assert.deepEqual(b.told, [`inode ${d1} 0 0`], "nobody has looked f up");
  assert.deepEqual(b.tree.getAttributes(ROOT).nlink, 4);
});

test("what another node removed, and what was lost with the log, leaves the names of the log", async () => {
  const { volume, a, b } = await unseen();
  await put(b, "local", "lost", nodeidOf(b, "d1"));
  await b.tree.rename(nodeidOf(b, "d1"), "local", nodeidOf(b, "d1"), "f", 0);
  volume.steal();
  b.tree.poll();
  assert.equal(await contents(b, "d1/f"), "data");
  await a.tree.unlink(nodeidOf(a, "d1"), "f");
  await a.tree.removeDirectory(ROOT, "d1");
  b.tree.poll();
  assert.deepEqual(list(b), ["d2"]);
});
