import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "../base/index.ts";
import { contents, find, list, nodeidOf, O, put, ROOT, USER } from "./testing/actions.ts";
import type { ServedNode } from "./testing/served-node.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

/** Two nodes of a volume; each gives the grant up when the other wants it. */
function pair(settings = {}): { volume: SharedVolume; a: ServedNode; b: ServedNode } {
  const volume = new SharedVolume();
  volume.exclusive = false;
  const a = volume.serve("a", { shared: true, minimumHoldMs: 0, ...settings });
  const b = volume.serve("b", { shared: true, minimumHoldMs: 0, ...settings });
  volume.onContention = (holder) => {
    const signal = AbortSignal.timeout(20);
    return (holder === "a" ? a : b).tree.handOver({ forced: false, signal });
  };
  return { volume, a, b };
}

test("the grant moves on demand; the next writer sees everything of the one before", async () => {
  const { volume, a, b } = pair();
  await put(a, "from-a", "1");
  assert.equal(volume.holder, "a");
  await put(b, "from-b", "2");
  assert.equal(volume.holder, "b");
  assert.equal(await contents(b, "from-a"), "1");
  await put(a, "again", "3");
  assert.deepEqual(list(a), ["again", "from-a", "from-b"]);
  assert.deepEqual(volume.replay().findings, []);
});

test("files open for write keep the grant: others get OWNER_BUSY, and go on when the last one is closed", async () => {
  const { a, b } = pair();
  const { opened } = await a.tree.create(ROOT, "open", 0o644, O.WRONLY, USER);
  await assert.rejects(put(b, "f", ""), { code: "OWNER_BUSY" });
  await a.write(opened, 0, "still writing");
  a.tree.release(opened.handle);
  await put(b, "f", "");
  assert.equal(await contents(b, "open"), "still writing");
});

test("readers need no grant", async () => {
  const { volume, a, b } = pair();
  await put(a, "f", "data");
  await a.tree.syncFileSystem();
  b.tree.poll();
  assert.equal(await contents(b, "f"), "data");
  assert.equal(volume.holder, "a");
});

test("forced, it seals what is open for write; handles write in place again once the grant is back", async () => {
  const { volume, a, b } = pair();
  const { opened } = await a.tree.create(ROOT, "open", 0o644, O.RDWR, USER);
  await a.write(opened, 0, "half");
  assert.equal(await a.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) }), true);
  b.tree.poll();
  assert.equal(await contents(b, "open"), "half");
  assert.equal(volume.holder, undefined);
  await a.write(opened, 0, "HALF"); // prepareWrite takes the grant again
  assert.equal(volume.holder, "a");
  await assert.rejects(a.write(opened, 4, "more"), { code: "WRITE_PAST_END" });
});

test("after losing the log writes fail with OWNER_STALE, nothing is logged, and the volume says so", async () => {
  const { volume, a } = pair();
  await put(a, "sealed", "old");
  await a.tree.syncFileSystem();
  const rewriting = await a.tree.open(nodeidOf(a, "sealed"), O.WRONLY | O.TRUNC);
  const { opened } = await a.tree.create(ROOT, "lost", 0o644, O.RDWR, USER);
  await a.write(opened, 0, "never in the log");
  await a.tree.makeDirectory(ROOT, "lostdir", 0o755, USER);
  const { length } = volume;
  await volume.clock.advance(0); // replies are sent
  volume.steal();
  a.tree.poll();
  assert.deepEqual(
    a.conditions.map(({ code }) => code),
    ["OWNER_LOST"],
  );
  await assert.rejects(a.write(opened, 5, "x"), { code: "OWNER_STALE" });
  await assert.rejects(a.write(rewriting, 0, "x"), { code: "OWNER_STALE" });
  assert.throws(() => a.tree.flush(opened.handle), { code: "OWNER_STALE" });
  assert.equal(a.read(opened), "never in the log"); // until it is closed
  assert.deepEqual(list(a), ["sealed"]);
  assert.ok(a.told.includes(`entry ${ROOT} lost`));
  a.tree.release(opened.handle);
  a.tree.release(rewriting.handle);
  await volume.clock.advance(5000);
  assert.equal(volume.length, length);
  assert.equal(await contents(a, "sealed"), "old");
  assert.equal(a.maps.count, 0);
  await put(a, "next", "works again");
  await assert.rejects(a.tree.syncFileSystem(), { code: "OWNER_STALE" }); // what was lost is told once
  await a.tree.syncFileSystem();
  assert.deepEqual(volume.replay().findings, []);
});

test("what a replaced file had before the log was lost is free again, open or closed", async () => {
  for (const open of [true, false]) {
    const { volume, a } = pair();
    await put(a, "f", "old");
    await a.tree.syncFileSystem();
    const { freeBlocks } = a.tree.status();
    const rewriting = await a.tree.open(nodeidOf(a, "f"), O.RDWR | O.TRUNC);
    await a.tree.allocate(rewriting.handle, 0, 40 * MIB, 0);
    if (!open) a.tree.release(rewriting.handle);
    volume.steal();
    a.tree.poll();
    await volume.clock.advance(0);
    if (open) assert.equal(a.read(rewriting), "old");
    await a.tree.makeDirectory(ROOT, "owner again", 0o755, USER);
    assert.equal(a.tree.status().freeBlocks, freeBlocks);
    const { opened } = await a.tree.create(ROOT, "g", 0o644, O.WRONLY, USER);
    await a.tree.allocate(opened.handle, 0, 40 * MIB, 0);
    if (open) a.tree.release(rewriting.handle);
  }
});

test("before a change that waited is answered, names in its own directory are doubted", async () => {
  const { a, b } = pair();
  await put(a, "new", "1");
  const told = b.told.length;
  await b.tree.makeDirectory(ROOT, "d", 0o755, USER);
  // The kernel holds the directory until the reply, so that its names cannot be taken from it one by one.
  assert.ok(b.told.slice(told).includes("all names"), b.told.slice(told).join());
  const again = b.told.length;
  await b.tree.makeDirectory(ROOT, "e", 0o755, USER);
  assert.ok(!b.told.slice(again).includes("all names"), "nothing waited, nothing is doubted");
});

test("what a lost node had reserved is left alone by its successor", async () => {
  const { volume, a, b } = pair();
  const { opened } = await a.tree.create(ROOT, "big", 0o644, O.WRONLY, USER);
  await a.tree.allocate(opened.handle, 0, 40 * MIB, 0);
  volume.steal();
  assert.ok(volume.reservations("a").reduce((sum, range) => sum + range.length, 0) >= 40 * MIB);
  const other = await b.tree.create(ROOT, "mine", 0o644, O.WRONLY, USER);
  await assert.rejects(b.tree.allocate(other.opened.handle, 0, 40 * MIB, 0), { code: "NO_SPACE" });
});

test("while the lease is about to run out nothing is logged; it goes on when it is renewed", async () => {
  const { volume, a } = pair();
  await put(a, "f", "1");
  a.tree.setStalled(true);
  const waiting = a.tree.unlink(ROOT, "f");
  await volume.clock.advance(3000);
  assert.equal(volume.length, 0);
  assert.ok(find(a, "f"));
  a.tree.setStalled(false);
  await waiting;
  assert.equal(find(a, "f"), undefined);
});

test("a name change waits for the grant no longer than its limit", async () => {
  const { volume, a, b } = pair();
  await a.tree.create(ROOT, "open", 0o644, O.WRONLY, USER);
  const late = Promise.withResolvers<boolean>();
  volume.onContention = () => late.promise;
  const first = assert.rejects(async () => b.tree.makeDirectory(ROOT, "d", 0o755, USER), { code: "OWNER_BUSY" });
  await volume.clock.advance(10);
  const second = assert.rejects(async () => b.tree.makeDirectory(ROOT, "e", 0o755, USER), { code: "OWNER_BUSY" });
  await volume.clock.advance(5100);
  await second; // waits behind the first, but not longer than it may
  late.resolve(false);
  await first;
});

test("with dataWriters: any, sealed files are opened for write without the grant", async () => {
  const { volume, a, b } = pair({ dataWriters: "any" });
  await put(a, "arena", "0123456789");
  await a.tree.syncFileSystem();
  b.tree.poll();
  const opened = await b.tree.open(nodeidOf(b, "arena"), O.RDWR);
  await b.write(opened, 4, "xx");
  assert.equal(volume.holder, "a");
  assert.equal(await contents(a, "arena"), "0123xx6789");
  assert.equal(await b.write(opened, 9, "xx"), 1);
  await assert.rejects(b.write(opened, 10, "x"), { code: "WRITE_PAST_END" });
});

test("while what another node holds cannot be read, no space is given out; what needs none goes on", async () => {
  const { volume, a, b } = pair();
  await put(a, "f", "data");
  await a.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) });
  volume.unknownReservations = ["owner slot 0: wrong crc"];
  await assert.rejects(put(b, "g", "data"), { code: "NO_SPACE", message: /owner slot 0: wrong crc/ });
  assert.equal(b.tree.status().freeBlocks, 0);
  await b.tree.rename(ROOT, "f", ROOT, "moved", 0);
  assert.deepEqual(list(b), ["moved"]);
  volume.exclusive = true; // no other node has it staged
  await put(b, "g", "data");
  volume.exclusive = false;
  // The other node has written its slot again.
  volume.unknownReservations = [];
  await put(a, "h", "data");
  await put(b, "i", "data");
  assert.deepEqual(list(b), ["g", "h", "i", "moved"]);
});

test("what another node holds for unsealed files is left alone until that node has the volume staged no more", async () => {
  const { volume, a, b } = pair();
  await put(b, "b", "data");
  const { opened } = await a.tree.create(ROOT, "draft", 0o644, O.WRONLY, USER);
  await a.write(opened, 0, "never sealed");
  volume.onContention = async () => true; // a is gone, with its reservations published
  await put(b, "f", "data");
  const held = b.tree.status().freeBlocks;
  volume.exclusive = true;
  b.tree.poll();
  assert.ok(b.tree.status().freeBlocks > held, `${b.tree.status().freeBlocks} free blocks, as before`);
  assert.equal(await contents(b, "f"), "data");
});

test("a grant that comes while the lease is about to run out is not used before it is renewed", async () => {
  const { volume, a, b } = pair();
  const { opened } = await a.tree.create(ROOT, "f", 0o644, O.RDWR, USER);
  await a.write(opened, 0, "half");
  assert.equal(await a.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) }), true);
  await put(b, "of-b", "");
  const gate = Promise.withResolvers<void>();
  volume.onContention = () =>
    gate.promise.then(() => b.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) }));
  const byWorker = () => a.maps.write(opened.map, 0, Buffer.from("HALF"));
  const waiting = a.write(opened, 0, "HALF");
  a.tree.setStalled(true);
  gate.resolve();
  await volume.clock.advance(10);
  assert.equal(volume.holder, "a");
  assert.equal(byWorker(), false);
  a.tree.setStalled(false);
  await waiting;
  assert.equal(a.read(opened), "HALF");
  assert.equal(await a.tree.handOver({ forced: true, signal: AbortSignal.timeout(1000) }), true);
  a.tree.setStalled(true);
  a.tree.setStalled(false);
  assert.equal(byWorker(), false, "not its turn");
});
