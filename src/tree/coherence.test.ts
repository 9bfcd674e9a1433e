import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { type SimulatedVolume, simulatedVolume } from "../../test/support/simulated-volume.ts";
import { MIB } from "../base/index.ts";
import { Device } from "../media/index.ts";
import { contents, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import { serveMedia } from "./testing/media-node.ts";
import type { ServedNode } from "./testing/served-node.ts";
import { SharedVolume } from "./testing/shared-volume.ts";
import { dataMemory } from "./volume-ports.ts";

/** Node a has written "f"; b looks at the log. */
async function pair(coherent: boolean) {
  const volume = new SharedVolume();
  volume.exclusive = false;
  volume.coherent = coherent;
  const a = volume.serve("a", { shared: true, minimumHoldMs: 0 });
  const b = volume.serve("b", { shared: true, minimumHoldMs: 0 });
  await put(a, "f", "old");
  await a.tree.syncFileSystem();
  b.tree.poll();
  /** What was invalidated since the last look. */
  const dropped = () => volume.invalidated.splice(0).map(({ node, length }) => `${node} ${length}`);
  return { volume, a, b, dropped };
}

/** a writes into "f" in place, and b hears of it. */
async function rewrite(a: ServedNode, b: ServedNode, data: string): Promise<void> {
  const opened = await a.tree.open(nodeidOf(a, "f"), O.RDWR);
  await a.write(opened, 0, data);
  a.tree.release(opened.handle);
  b.tree.poll();
}

test("a file of another node is dropped from the caches when it is opened first, and after each change", async () => {
  const { volume, a, b, dropped } = await pair(false);
  assert.deepEqual(dropped(), [], "not before somebody opens it");
  await contents(b, "f");
  assert.deepEqual(dropped(), ["b 3"]);
  await contents(b, "f");
  await contents(a, "f");
  assert.deepEqual(dropped(), [], "neither again, nor where it was written");
  await rewrite(a, b, "new");
  await contents(b, "f");
  await contents(b, "f");
  assert.deepEqual(dropped(), ["b 3"]);
  volume.overflow = true;
  b.tree.poll();
  await contents(b, "f");
  assert.deepEqual(dropped(), ["b 3"]);
  const later = volume.serve("c");
  await contents(later, "f");
  assert.deepEqual(dropped(), ["c 3"], "a mount begins with what was in the extents before");
});

test("opening for write drops too, and keeps the grant that it then has", async () => {
  const { volume, a, b, dropped } = await pair(false);
  await a.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
  const { promise, resolve } = Promise.withResolvers<void>();
  volume.beforeInvalidate = () => promise;
  const opening = Promise.resolve(b.tree.open(nodeidOf(b, "f"), O.RDWR));
  await volume.clock.advance(0);
  assert.deepEqual(dropped(), ["b 3"]);
  await b.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
  resolve();
  const opened = await opening;
  assert.equal(volume.holder, "b");
  await b.write(opened, 0, "b's");
  assert.deepEqual(dropped(), []);
});

test("a program that was told to look again is not told so twice, though caches are dropped for its second look", async () => {
  const { volume, a, b } = await pair(false);
  await put(a, "g", "new");
  await a.tree.syncFileSystem();
  b.tree.poll();
  const [before] = [nodeidOf(b, "f"), nodeidOf(b, "g")];
  volume.onContention = async () => {
    await a.tree.rename(ROOT, "g", ROOT, "f", 0);
    return a.tree.handOver({ forced: false, signal: AbortSignal.timeout(1000) });
  };
  await assert.rejects(async () => b.tree.open(before, O.RDWR, USER), { code: "NODE_STALE" });
  volume.beforeInvalidate = () => Promise.resolve();
  const opened = await b.tree.open(nodeidOf(b, "f"), O.RDWR, USER);
  assert.equal(b.read(opened), "new");
});

test("an open is answered when the caches are dropped; a second one waits as well", async () => {
  const { volume, a, b, dropped } = await pair(false);
  const { promise, resolve } = Promise.withResolvers<void>();
  volume.beforeInvalidate = () => promise;
  const answered: number[] = [];
  const opens = [1, 2].map(async (at) => {
    const opened = await b.tree.open(nodeidOf(b, "f"), O.RDONLY);
    answered.push(at);
    return opened;
  });
  await volume.clock.advance(0);
  assert.deepEqual(answered, []);
  await rewrite(a, b, "new"); // what was dropped already may be back
  resolve();
  await Promise.all(opens);
  await volume.clock.advance(0);
  assert.deepEqual(dropped(), ["b 3", "b 3"]);
});

test("what is open when another node changes it is dropped at once, then the kernel's pages", async () => {
  const { volume, a, b, dropped } = await pair(false);
  const opened = await b.tree.open(nodeidOf(b, "f"), O.RDONLY);
  dropped();
  const { promise, resolve } = Promise.withResolvers<void>();
  volume.beforeInvalidate = () => promise;
  await rewrite(a, b, "new");
  assert.deepEqual(dropped(), ["b 3"]);
  b.told.length = 0;
  resolve();
  await volume.clock.advance(0);
  assert.deepEqual(b.told, [`inode ${nodeidOf(b, "f")} 0 0`]);
  b.tree.release(opened.handle);
});

test("what was rewritten elsewhere while it was overwritten here is doubted when that is lost", async () => {
  const { volume, a, b } = await pair(false);
  assert.equal(await contents(b, "f"), "old");
  await a.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
  const overwriting = await b.tree.open(nodeidOf(b, "f"), O.WRONLY | O.TRUNC);
  await b.write(overwriting, 0, "lost");
  volume.steal();
  await rewrite(a, b, "new");
  b.tree.release(overwriting.handle);
  assert.equal(await contents(b, "f"), "new");
});

test("the kernel forgets what was written to a file that is closed and was lost before it sealed", async () => {
  const { volume, a, b } = await pair(true);
  await a.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
  const overwriting = await b.tree.open(nodeidOf(b, "f"), O.WRONLY | O.TRUNC);
  await b.write(overwriting, 0, "longer, and lost");
  b.tree.release(overwriting.handle);
  volume.steal();
  b.told.length = 0;
  b.tree.poll();
  assert.deepEqual(b.told, [`inode ${nodeidOf(b, "f")} 0 0`]);
  assert.equal(await contents(b, "f"), "old");
});

test("when all contents are in doubt, the kernel is told of files that were opened, again as long as they are open", async () => {
  const { volume, a, b } = await pair(true);
  for (const name of ["g", "h"]) await put(a, name, name);
  await a.tree.syncFileSystem();
  b.tree.poll();
  await contents(b, "f");
  const held = await b.tree.open(nodeidOf(b, "g"), O.RDONLY);
  const overflow = () => {
    b.told.length = 0;
    volume.overflow = true;
    b.tree.poll();
    return [...b.told].sort();
  };
  const [f, g] = [`inode ${nodeidOf(b, "f")} 0 0`, `inode ${nodeidOf(b, "g")} 0 0`];
  assert.deepEqual(overflow(), [f, g].sort());
  assert.deepEqual(overflow(), [g]);
  b.tree.release(held.handle);
  assert.deepEqual(overflow(), [g]);
  assert.deepEqual(overflow(), []);
});

test("coherent volumes pay nothing: opens of sealed files are answered at once", async () => {
  const { a, b, dropped } = await pair(true);
  await rewrite(a, b, "new");
  const opened = b.tree.open(nodeidOf(b, "f"), O.RDONLY);
  assert.ok("handle" in opened, "no promise");
  assert.deepEqual(dropped(), []);
});

test("memory without coherent caches is invalidated piece by piece, each byte once", async () => {
  await using volume = await simulatedVolume();
  assert.equal(dataMemory(await volume.open(), 0).invalidate, undefined);
  const media = await volume.open({ coherent: false });
  const { mock: calls } = mock.method(media.window, "invalidate");
  const { invalidate } = dataMemory(media, 0);
  assert.equal(invalidate?.(media.dataOffset + 5, 100), undefined, "small files need no promise");
  await invalidate?.(media.dataOffset, 9 * MIB);
  assert.deepEqual(
    calls.calls.map(({ arguments: [offset, length] }) => [offset - media.dataOffset, length]),
    [
      [5, 100],
      [0, 4 * MIB],
      [4 * MIB, 4 * MIB],
      [8 * MIB, MIB],
    ],
  );
});

for (const host of [false, true]) {
  const where = host ? "between hosts whose caches do not agree" : "on coherent memory";
  const nodes = async (volume: SimulatedVolume) =>
    Promise.all(["a", "b", "c"].map((name, slot) => serveMedia(volume, slot, host ? { host: name } : {})));

  test(`what a node that died had rewritten in place is in no cache of the others afterwards, ${where}`, async () => {
    await using volume = await simulatedVolume();
    const [a, b, c] = await nodes(volume);
    assert.ok(a && b && c);
    await put(a, "f", "old");
    await put(a, "g", "other");
    await a.tree.syncFileSystem();
    b.tree.poll();
    assert.equal(await contents(b, "f"), "old");
    const held = await b.tree.open(nodeidOf(b, "f"), O.RDONLY);
    const writing = await a.tree.open(nodeidOf(a, "f"), O.RDWR);
    await a.write(writing, 0, "NEW"); // and a says no more
    b.told.length = 0;
    b.messages.length = 0;
    await c.tree.makeDirectory(ROOT, "d", 0o755, USER);
    await c.tree.syncFileSystem();
    b.tree.poll();
    await turn();
    assert.ok(b.told.includes(`inode ${nodeidOf(b, "f")} 0 0`), String(b.told));
    assert.equal(b.read(held), "NEW");
    assert.equal(await contents(b, "f"), "NEW");
    assert.equal(await contents(c, "f"), "NEW", "the new owner as well");
    assert.equal(b.messages[0], 3, "once, and in one message: the file, the listing and the name of the directory");
    b.told.length = 0;
    b.tree.poll();
    assert.deepEqual(b.told, []);
  });

  test(`a forced hand-over names what was rewritten in place and is still open, ${where}`, async () => {
    await using volume = await simulatedVolume();
    const [a, b] = await nodes(volume);
    assert.ok(a && b);
    await put(a, "f", "old!");
    await a.tree.syncFileSystem();
    b.tree.poll();
    assert.equal(await contents(b, "f"), "old!");
    const writing = await a.tree.open(nodeidOf(a, "f"), O.RDWR);
    await a.write(writing, 0, "NEW!");
    b.told.length = 0;
    await a.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
    a.tree.release(writing.handle);
    b.tree.poll();
    assert.ok(b.told.includes(`inode ${nodeidOf(b, "f")} 0 0`), String(b.told));
    assert.equal(await contents(b, "f"), "NEW!");
  });

  test(`an extent that is given to another file has no dirty line of the one before it, ${where}`, async () => {
    await using volume = await simulatedVolume({ dataBytes: 4 * MIB });
    const [a, b] = await nodes(volume);
    assert.ok(a && b);
    const temporary = await put(a, "temporary", "of a node that has removed it since");
    await a.tree.unlink(ROOT, "temporary");
    assert.ok(temporary.attributes.nodeid > 0);
    await a.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
    for (const name of ["one", "two"]) await put(b, name, name);
    await b.tree.syncFileSystem();
    a.memory.evict();
    for (const name of ["one", "two"]) {
      const opened = await b.tree.open(nodeidOf(b, name), O.RDONLY);
      b.memory.invalidate(0, 14 * MIB);
      assert.equal(b.read(opened), name);
    }
  });
}

test("what a killed server left in the caches of its host is in the memory before its space is anybody else's", async () => {
  await using volume = await simulatedVolume();
  const a = await serveMedia(volume, 0, { host: "a" });
  await a.tree.create(ROOT, "unsealed", 0o644, O.WRONLY, USER);
  const [range] = a.media.readSlot(0).value?.reserved ?? [];
  assert.ok(range);
  // In the middle of a write: a line is stored, and not written back.
  const line = a.media.window.read(range.offset, 64).fill(7);
  await using device = await Device.open(
    { type: "path", path: volume.path, sizeBytes: undefined, cachesOf: "a" },
    { writable: true },
  );
  await using dying = device.mapRegion(volume.region, { writable: true });
  dying.copyIn(range.offset, line);
  const memory = (await volume.open()).window;
  assert.equal(memory.read(range.offset, 1)[0], 0);
  await serveMedia(volume, 0, { host: "a" });
  assert.equal(memory.read(range.offset, 1)[0], 7);
});

test("a look at the log tells the kernel each thing once: of N new files N names and the listing", async () => {
  const volume = new SharedVolume();
  const [a, b] = [volume.serve("a"), volume.serve("b")];
  const names = Array.from({ length: 20 }, (_, at) => `f${at}`);
  for (const name of names) await put(a, name, name);
  await a.tree.syncFileSystem();
  b.tree.poll();
  assert.deepEqual([...b.told].sort(), [...names.map((name) => `entry ${ROOT} ${name}`), `inode ${ROOT} 0 0`].sort());
  assert.deepEqual(b.messages, [names.length + 1]);
  b.told.length = 0;
  for (const name of names) await a.tree.unlink(ROOT, name);
  const nodeids = names.map((name) => nodeidOf(b, name));
  b.tree.poll();
  const removed = names.map((name, at) => `delete ${ROOT} ${nodeids[at]} ${name}`);
  assert.deepEqual([...b.told].sort(), [...removed, `inode ${ROOT} 0 0`].sort());
});

test("other nodes are told once of what was rewritten: not again by a sync or a close without a write in between", async () => {
  const { volume, a, b } = await pair(true);
  const writing = await a.tree.open(nodeidOf(a, "f"), O.RDWR);
  await a.write(writing, 0, "new");
  await volume.clock.advance(1);
  await a.tree.fsync(writing.handle, false);
  b.told.length = 0;
  b.tree.poll();
  assert.deepEqual(b.told, [`inode ${nodeidOf(b, "f")} 0 0`]);
  assert.deepEqual(b.tree.getAttributes(nodeidOf(b, "f")).mtime, a.tree.getAttributes(nodeidOf(a, "f")).mtime);
  b.told.length = 0;
  await a.tree.fsync(writing.handle, false);
  a.tree.release(writing.handle);
  b.tree.poll();
  assert.deepEqual(b.told, []);
});
