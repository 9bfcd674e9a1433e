import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { directory, simulatedVolume, taker } from "../../test/support/simulated-volume.ts";
import { FamfsError, MIB, silentLogger } from "../base/index.ts";
import { SealedTree } from "../format/index.ts";
import { contents, find, list, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import { serveMedia } from "./testing/media-node.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

test("what another node does shows up at the next look, and the kernel is told which names to forget", async () => {
  const volume = new SharedVolume();
  const [a, b] = [volume.serve("a"), volume.serve("b")];
  assert.deepEqual(b.tree.lookup(ROOT, "f"), { missingForSeconds: Number.POSITIVE_INFINITY });
  const entry = await put(a, "f", "1");
  await a.tree.syncFileSystem();
  b.tree.poll();
  assert.ok(b.told.includes(`entry ${ROOT} f`)); // it may be cached as missing
  const there = nodeidOf(b, "f");
  b.told.length = 0;
  await a.tree.rename(ROOT, "f", ROOT, "g", 0);
  b.tree.poll();
  assert.ok(b.told.includes(`entry ${ROOT} f`) && b.told.includes(`entry ${ROOT} g`));
  assert.equal(nodeidOf(b, "g"), there);
  b.told.length = 0;
  await a.tree.setAttributes(entry.attributes.nodeid, { mode: 0o600 });
  b.tree.poll();
  assert.deepEqual(b.told, [`inode ${there} 0 -1`]);
  await a.tree.unlink(ROOT, "g");
  b.tree.poll();
  assert.ok(b.told.includes(`delete ${ROOT} ${there} g`));
  assert.equal(find(b, "g"), undefined);
});

test("the kernel forgets the old name of what was moved before it asks for the new one", async () => {
  const volume = new SharedVolume();
  const [a, b] = [volume.serve("a"), volume.serve("b")];
  for (const name of ["old", "new"]) await put(a, name, name);
  await a.tree.syncFileSystem();
  b.tree.poll();
  nodeidOf(b, "old");
  const replaced = nodeidOf(b, "new");
  b.told.length = 0;
  await a.tree.rename(ROOT, "old", ROOT, "new", 0);
  b.tree.poll();
  const oldName = b.told.indexOf(`entry ${ROOT} old`);
  assert.ok(oldName >= 0 && oldName < b.told.indexOf(`delete ${ROOT} ${replaced} new`), b.told.join(", "));
});

test("how far a node is behind in the log can be asked at any time", async () => {
  const volume = new SharedVolume();
  const [a, b] = [volume.serve("a"), volume.serve("b")];
  await put(a, "f", "1");
  await a.tree.syncFileSystem();
  await volume.clock.advance(700);
  assert.deepEqual(a.tree.replay(), { position: 1, published: 1, behindMs: 0 });
  assert.deepEqual(b.tree.replay(), { position: 0, published: 1, behindMs: 700 });
  volume.hidden = true; // the entry is still on its way
  b.tree.poll();
  assert.deepEqual(b.tree.replay(), { position: 0, published: 1, behindMs: 700 });
  volume.hidden = false;
  b.tree.poll();
  assert.deepEqual(b.tree.replay(), { position: 1, published: 1, behindMs: 0 });
});

test("a replaced file stays readable where it is open, and a rewritten one loses its cached pages", async () => {
  const volume = new SharedVolume();
  volume.exclusive = false;
  const [a, b] = [volume.serve("a"), volume.serve("b")];
  await put(a, "f", "old");
  await a.tree.syncFileSystem();
  b.tree.poll();
  const held = await b.tree.open(nodeidOf(b, "f"), O.RDONLY);
  await put(a, "f.tmp", "new");
  await a.tree.rename(ROOT, "f.tmp", ROOT, "f", 0);
  await a.tree.syncFileSystem();
  b.tree.poll();
  assert.equal(b.read(held), "old");
  assert.equal(await contents(b, "f"), "new");
  b.tree.release(held.handle);
  const writing = await a.tree.open(nodeidOf(a, "f"), O.RDWR);
  await a.write(writing, 0, "NEW");
  a.tree.release(writing.handle);
  b.told.length = 0;
  b.tree.poll();
  assert.deepEqual(b.told, [`inode ${nodeidOf(b, "f")} 0 0`]);
  assert.deepEqual(b.tree.getAttributes(nodeidOf(b, "f")).mtime, a.tree.getAttributes(nodeidOf(a, "f")).mtime);
});

test("what fallocate zeroed in a sealed file loses its cached pages elsewhere", async () => {
  const volume = new SharedVolume();
  const [a, b] = [volume.serve("a"), volume.serve("b")];
  await put(a, "f", "old");
  await a.tree.syncFileSystem();
  b.tree.poll();
  const zeroing = await a.tree.open(nodeidOf(a, "f"), O.RDWR);
  await a.tree.allocate(zeroing.handle, 0, 1, 3); // punch a hole, keep the size
  a.tree.release(zeroing.handle);
  b.told.length = 0;
  b.tree.poll();
  assert.deepEqual(b.told, [`inode ${nodeidOf(b, "f")} 0 0`]);
});

test("a close that cannot tell other nodes of a rewrite still gives the grant up", async () => {
  const volume = new SharedVolume();
  const a = volume.serve("a", { minimumHoldMs: 0 });
  await put(a, "f", "old");
  await a.tree.syncFileSystem();
  const writing = await a.tree.open(nodeidOf(a, "f"), O.RDWR);
  await a.write(writing, 0, "NEW");
  volume.refuseChanges = true;
  a.tree.release(writing.handle);
  assert.equal(a.maps.count, 0);
  assert.equal(await a.tree.handOver({ forced: false, signal: AbortSignal.timeout(100) }), true);
});

test("names in a directory with an operation pending are forgotten after its reply, not before", async () => {
  const volume = new SharedVolume();
  volume.exclusive = false;
  const [a, b] = [volume.serve("a", { minimumHoldMs: 0 }), volume.serve("b")];
  await put(a, "from-a", "1");
  const gate = Promise.withResolvers<void>();
  volume.onContention = async () => {
    await gate.promise;
    return a.tree.handOver({ forced: false, signal: AbortSignal.timeout(100) });
  };
  const pending = Promise.resolve(b.tree.makeDirectory(ROOT, "from-b", 0o755, USER));
  await a.tree.syncFileSystem();
  b.tree.poll();
  assert.ok(find(b, "from-a"));
  assert.ok(!b.told.some((line) => line.startsWith("entry")), String(b.told));
  gate.resolve();
  await pending;
  assert.ok(!b.told.includes(`entry ${ROOT} from-a`));
  await volume.clock.advance(1);
  assert.ok(b.told.includes(`entry ${ROOT} from-a`));
});

test("a listing goes on where it was, whatever is added or removed meanwhile", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  for (const name of ["a", "b", "c", "d", "e"]) await put(node, name, "");
  const seen: string[] = [];
  let cookie = 0;
  for (const { name, cookie: next } of node.tree.readDirectory(ROOT, 0)) {
    seen.push(name);
    cookie = next;
    if (seen.length === 2) break;
  }
  await node.tree.unlink(ROOT, "a");
  await node.tree.unlink(ROOT, "c");
  await node.tree.rename(ROOT, "b", ROOT, "z", 0);
  await put(node, "new", "");
  await node.tree.syncFileSystem();
  seen.push(...[...node.tree.readDirectory(ROOT, cookie)].map(({ name }) => name));
  assert.deepEqual(seen, ["a", "b", "d", "e", "new"]);
});

test("what was retracted is gone, and all else stays what it was, also when the log cannot be read in between", async () => {
  const volume = new SharedVolume();
  volume.exclusive = false;
  const [a, b] = [volume.serve("a"), volume.serve("b")];
  const names = ["a", "b", "c", "d", "e"];
  for (const name of names) {
    await a.tree.makeDirectory(ROOT, name, 0o755, USER);
    await a.tree.syncFileSystem();
  }
  b.tree.poll();
  const nodeids = () => list(b).map((name) => nodeidOf(b, name));
  const before = nodeids();
  volume.retract(1);
  let polls = 0;
  volume.beforePoll = () => {
    if (++polls === 2) throw new FamfsError("MEMORY_ERROR", "bad page");
  };
  assert.throws(() => b.tree.poll(), { code: "MEMORY_ERROR" });
  b.tree.poll();
  assert.deepEqual(list(b), names.slice(0, 4));
  assert.deepEqual(nodeids(), before.slice(0, 4));
  assert.ok(b.told.includes(`entry ${ROOT} e`));
});

test("a log that is corrupt is still so when its memory can be read again", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  node.tree.watch(50);
  volume.corruptAt = 3;
  await volume.clock.advance(60);
  volume.beforePoll = () => {
    throw new FamfsError("MEMORY_ERROR", "bad page");
  };
  await volume.clock.advance(60);
  volume.beforePoll = () => undefined;
  await volume.clock.advance(60);
  assert.deepEqual(
    node.conditions.map(({ code }) => code),
    ["LOG_CORRUPT", "MEMORY_ERROR", "LOG_CORRUPT"],
  );
});

test("memory that the kernel reports as bad before it is read is a condition of the volume", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  node.tree.watch(50);
  await volume.clock.advance(100);
  assert.equal(node.conditions.length, 0);
  volume.reportedBad = 12 * MIB;
  await volume.clock.advance(100);
  assert.equal(node.conditions[0]?.code, "MEMORY_ERROR");
  assert.match(node.conditions[0]?.message ?? "", /bad memory at byte 12582912 of the volume/);
});

test("of a log that says nonsense the first refusals are named, the others counted", async () => {
  const lines: object[] = [];
  const logger = { ...silentLogger, warn: (fields: object) => void lines.push(fields) };
  const volume = new SharedVolume();
  const a = volume.serve("a");
  for (let at = 0; at < 50; at++) volume.publish({ type: "mkdir", path: "../x", uid: 0, gid: 0, mode: 0o755 });
  volume.logger = logger;
  volume.serve("b");
  assert.equal(lines.length, 21);
  assert.deepEqual(lines.at(-1), { refused: 50 });
  a.tree.poll();
});

test("when a slice of the log fails halfway, nothing is lost: it is all read again, and shown when it holds", async () => {
  const volume = new SharedVolume();
  const [a, b] = [volume.serve("a"), volume.serve("b")];
  for (const name of ["one", "two", "three", "four"]) {
    await a.tree.makeDirectory(ROOT, name, 0o755, USER);
    await a.tree.syncFileSystem();
  }
  const { mock: calls } = mock.method(SealedTree.prototype, "apply");
  calls.mockImplementationOnce(() => {
    throw new Error("a defect");
  }, 1);
  b.tree.watch(50);
  await volume.clock.advance(60);
  calls.restore();
  assert.deepEqual(
    b.conditions.map(({ code }) => code),
    ["INTERNAL"],
  );
  await volume.clock.advance(500);
  assert.deepEqual(list(b), ["one"], "not at each look: it may fail again");
  await volume.clock.advance(2000);
  assert.deepEqual(list(b).sort(), ["four", "one", "three", "two"]);
});

test("a long log is read in slices with a turn for others in between", async () => {
  await using volume = await simulatedVolume();
  {
    const media = await volume.open();
    await using writer = await media.takeOver(taker(0, 1));
    for (let at = 0; at < 1000; at++) writer.append([directory(`d${at}`)]);
  }
  let turns = 0;
  let done = false;
  const count = () => {
    turns++;
    if (!done) setImmediate(count);
  };
  setImmediate(count);
  const node = await serveMedia(volume, 1);
  done = true;
  assert.equal(list(node).length, 1000);
  assert.ok(turns >= 3, `${turns} turns`);
});

test("a take-over ends when the own tree is where the log is, or not at all", async () => {
  const volume = new SharedVolume();
  const [a, b] = [volume.serve("a"), volume.serve("b")];
  await put(a, "one", "1");
  await a.tree.syncFileSystem();
  await a.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
  volume.hidden = true; // on its way to b
  const made = Promise.resolve(b.tree.makeDirectory(ROOT, "d", 0o755, USER));
  await volume.clock.advance(100);
  assert.deepEqual(list(b), []);
  volume.hidden = false;
  await volume.clock.advance(100);
  await made;
  assert.deepEqual(list(b).sort(), ["d", "one"]);
  await b.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
  volume.hidden = true;
  const refused = assert.rejects(async () => a.tree.makeDirectory(ROOT, "e", 0o755, USER), { code: "LOG_CORRUPT" });
  await volume.clock.advance(4000);
  await refused;
  assert.equal(volume.holder, undefined);
});
