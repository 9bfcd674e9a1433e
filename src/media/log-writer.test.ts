import assert from "node:assert/strict";
import { ftruncateSync, openSync } from "node:fs";
import { test } from "node:test";
import { native } from "../../native/index.ts";
import { directory, simulatedVolume, taker } from "../../test/support/simulated-volume.ts";
import {
  CHANGE_RING_SLOTS,
  claimOffset,
  encodeEntry,
  entryOffset,
  FILLER_RUN,
  LOG_COUNTERS_OFFSET,
  type LogEntry,
  MAX_TRANSACTION,
} from "../format/index.ts";
import { formatVolume, type VolumeMedia } from "./index.ts";

const code = (expected: string) => ({ code: expected });

function paths(media: VolumeMedia): string[] {
  const { entries, findings } = media.poll();
  assert.deepEqual(findings, []);
  return entries.map(({ entry }) => (entry.type === "mkdir" ? entry.path : entry.type));
}

test("what one node appends another node replays, in order and once", async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open(), await volume.open({ writable: false })];
  const writer = await a.takeOver(taker(0, 1));
  assert.equal(writer.append([directory("one")]), 0);
  assert.equal(writer.append([directory("two"), directory("three")]), 1);
  assert.deepEqual(
    b.poll().entries.map(({ index, entry }) => [index, entry.type]),
    [
      [0, "mkdir"],
      [1, "mkdir"],
      [2, "mkdir"],
    ],
  );
  assert.deepEqual(paths(b), []);
  writer.append([directory("four")]);
  assert.deepEqual(paths(b), ["four"]);
  assert.equal(b.position, 4);
  assert.equal(writer.nextIndex, 4);
  assert.equal(writer.freeSlots, 15420 - FILLER_RUN - 4);
  assert.deepEqual(paths(a), ["one", "two", "three", "four"]);
  await writer[Symbol.asyncDispose]();
});

test("the same without coherent caches", async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open({ coherent: false }), await volume.open({ coherent: false })];
  await using writer = await a.takeOver(taker(0, 1));
  writer.append([directory("one")]);
  assert.deepEqual(paths(b), ["one"]);
  await using successor = await b.takeOver(taker(1, 2));
  assert.throws(() => writer.append([directory("two")]), code("OWNER_STALE"));
  successor.append([directory("three")]);
  assert.deepEqual(
    paths(a).filter((path) => path !== "filler"),
    ["one", "three"],
  );
});

test("a stale owner is refused for good, and nothing of its append is seen", async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open(), await volume.open()];
  await using old = await a.takeOver(taker(0, 1));
  old.append([directory("kept")]);
  await using owner = await b.takeOver(taker(1, 2));
  assert.equal(old.holds(), false);
  assert.throws(() => old.append([directory("lost")]), code("OWNER_STALE"));
  assert.throws(() => old.publishReservations([]), code("OWNER_STALE"));
  assert.throws(() => old.recordChanged(0, 1, { seconds: 0, nanoseconds: 0 }), code("OWNER_STALE"));
  old.release();
  assert.ok(owner.holds(), "a stale release changes nothing");
  owner.append([directory("next")]);
  assert.deepEqual(
    paths(a).filter((path) => path !== "filler"),
    ["kept", "next"],
  );
});

test("after a release no filler is needed; without one the run is longer than any transaction", async () => {
  await using volume = await simulatedVolume();
  const media = await volume.open();
  const first = await media.takeOver(taker(0, 1));
  assert.equal(first.nextIndex, 0);
  first.release();
  assert.equal(first.holds(), false);
  assert.throws(() => first.append([directory("late")]), code("OWNER_STALE"));
  await first[Symbol.asyncDispose]();
  const second = await media.takeOver(taker(1, 2));
  assert.equal(second.nextIndex, 0);
  await second[Symbol.asyncDispose](); // like a crash
  await using third = await media.takeOver(taker(1, 3));
  assert.equal(third.nextIndex, FILLER_RUN);
  assert.equal(media.readSlot(1).value?.fillerIndex, 0);
  const { entries, findings } = media.poll();
  assert.deepEqual(findings, []);
  assert.ok(entries.every(({ entry }) => entry.type === "filler" && entry.first === 0 && entry.run === FILLER_RUN));
});

test("an epoch that is not above all in the memory is refused", async () => {
  await using volume = await simulatedVolume();
  const media = await volume.open();
  assert.equal(media.highestEpoch(), 0);
  await using _writer = await media.takeOver(taker(0, 5));
  assert.equal(media.highestEpoch(), 5);
  for (const epoch of [0, 4, 5, 5.5]) await assert.rejects(media.takeOver(taker(1, epoch)), code("OWNER_STALE"));
  await assert.rejects(media.takeOver(taker(media.writerSlots, 6)), code("INVALID_ARGUMENT"));
  await assert.rejects(media.takeOver(taker(-1, 6)), code("INVALID_ARGUMENT"));
});

test("claims that change but leave the log to its owner do not stop it", async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open(), await volume.open()];
  const old = await a.takeOver(taker(0, 1));
  await using owner = await b.takeOver(taker(1, 2));
  // The old owner's line changes although it is stale already: a release that was on its way.
  a.window.copyIn(claimOffset(0), new Uint8Array(64));
  assert.ok(owner.holds());
  a.window.copyIn(
    claimOffset(5),
    Uint8Array.from({ length: 64 }, () => 9),
  ); // a claim nobody can read
  owner.append([directory("more")]);
  assert.ok(owner.holds());
  await old[Symbol.asyncDispose]();
});

test("a full log is LOG_FULL, and a transaction is whole or not there", async () => {
  await using volume = await simulatedVolume();
  const [media, reader] = [await volume.open(), await volume.open()];
  await using writer = await media.takeOver(taker(0, 1));
  const eight: LogEntry[] = Array.from({ length: MAX_TRANSACTION }, (_, at) => directory(`d${at}`));
  while (writer.freeSlots >= MAX_TRANSACTION) writer.append(eight);
  assert.equal(writer.freeSlots, (15420 - FILLER_RUN) % MAX_TRANSACTION);
  assert.throws(() => writer.append(eight), code("LOG_FULL"));
  while (writer.freeSlots > 0) writer.append([directory("rest")]);
  assert.throws(() => writer.append([directory("none")]), code("LOG_FULL"));
  assert.equal(reader.poll(15_420).entries.length, 15_420 - FILLER_RUN);
  assert.throws(() => writer.append([]), code("INVALID_ARGUMENT"));
  assert.throws(() => writer.append([...eight, directory("x")]), code("INVALID_ARGUMENT"));
  // Taking over a full log needs no room for fillers.
  await using next = await reader.takeOver(taker(1, 2));
  assert.equal(next.freeSlots, 0);
});

test("a formatted-again region stops owner and reader", async () => {
  await using volume = await simulatedVolume();
  const media = await volume.open();
  const late = await volume.open();
  await using writer = await media.takeOver(taker(0, 1));
  assert.ok(native.guardHolds(media.regionGuard()), "claims do not concern it");
  await formatVolume(volume.device, volume.region, {
    uuid: "11111111-2222-3333-4444-555555555555",
    name: "other",
    uid: 0,
    gid: 0,
    mode: 0o700,
    generation: 2,
    createdSeconds: 0,
  });
  assert.equal(media.isCurrent(), false);
  for (const view of [media, late]) assert.equal(native.guardHolds(view.regionGuard()), false);
  assert.equal(writer.holds(), false);
  assert.throws(() => writer.append([directory("foreign")]), code("OWNER_STALE"));
  await assert.rejects(media.takeOver(taker(0, 9)), code("OWNER_STALE"));
});

test("a taker waits for entries that have not arrived, and refuses a log that stays bad", async () => {
  await using volume = await simulatedVolume();
  const media = await volume.open();
  const { window, logOffset } = media;
  window.store64(logOffset + LOG_COUNTERS_OFFSET + 8, 1n);
  const entry = encodeEntry(0, directory("late"));
  setTimeout(() => window.copyIn(logOffset + entryOffset(0), entry), 20);
  await using writer = await media.takeOver(taker(0, 1));
  assert.equal(writer.nextIndex, 1);
  window.zero(logOffset + entryOffset(0), entry.byteLength);
  await assert.rejects(media.takeOver(taker(1, 2)), { code: "LOG_CORRUPT", details: { index: 0 } });
});

test("an owner notices that somebody without a claim appended", async () => {
  await using volume = await simulatedVolume();
  const media = await volume.open();
  await using writer = await media.takeOver(taker(0, 1));
  media.window.store64(media.logOffset + LOG_COUNTERS_OFFSET + 8, 1n);
  assert.throws(() => writer.append([directory("over")]), /somebody appended/);
});

test("reservations of other nodes are seen until they are withdrawn", async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open(), await volume.open()];
  await using writer = await a.takeOver(taker(0, 1));
  const ranges = [{ offset: 2 ** 24, length: 2 ** 21 }];
  writer.publishReservations(ranges);
  assert.deepEqual(b.reservationsOfOthers(1), { ranges, findings: [] });
  assert.deepEqual(b.reservationsOfOthers(0).ranges, []);
  await using successor = await b.takeOver(taker(1, 2));
  assert.deepEqual(b.reservationsOfOthers(1).ranges, ranges, "a take-over leaves them alone");
  successor.release();
  await using again = await a.takeOver(taker(0, 3));
  assert.deepEqual(b.reservationsOfOthers(1).ranges, ranges, "so does the next epoch of the same node");
  again.publishReservations([]);
  assert.deepEqual(b.reservationsOfOthers(1).ranges, []);
  const [slot] = a.ownerSlots().slots;
  assert.deepEqual([slot?.nodeId, slot?.bootId, slot?.epoch], ["node-0", "boot-of-node-0", 3]);
});

test("changes in place are named, or all are after an overflow", async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open(), await volume.open()];
  await using writer = await a.takeOver(taker(0, 1));
  const { seen: start, ...none } = b.changesSince(undefined);
  assert.deepEqual([none, start.next], [{ type: "changes", changes: [] }, 0]);
  const mtime = { seconds: 7, nanoseconds: 8 };
  writer.recordChanged(3, 1, mtime);
  writer.recordChanged(4, 1, mtime);
  const { seen, ...two } = b.changesSince(start);
  assert.deepEqual(two, {
    type: "changes",
    changes: [
      { sequence: 0, epoch: 1, file: 3, generation: 1, mtime },
      { sequence: 1, epoch: 1, file: 4, generation: 1, mtime },
    ],
  });
  assert.equal(seen.next, 2);
  assert.deepEqual(b.changesSince(seen), { type: "changes", seen, changes: [] });
  for (let round = 0; round <= CHANGE_RING_SLOTS; round++) writer.recordChanged(round, 2, mtime);
  const after = b.changesSince(seen);
  assert.deepEqual([after.type, after.seen.next], ["overflow", CHANGE_RING_SLOTS + 3]);
});

test("a reader that missed an owner which took over without a release doubts all contents after the next one", async () => {
  await using volume = await simulatedVolume();
  const [a, b, reader] = [await volume.open(), await volume.open(), await volume.open()];
  const first = await a.takeOver(taker(0, 1));
  const { seen } = reader.changesSince(undefined);
  await first[Symbol.asyncDispose](); // like a crash
  const second = await b.takeOver(taker(1, 2));
  second.release();
  await second[Symbol.asyncDispose]();
  await using third = await a.takeOver(taker(2, 3));
  assert.ok(third.clean);
  const found = reader.changesSince(seen);
  assert.equal(found.type, "overflow");
  assert.equal(reader.changesSince(found.seen).type, "changes", "once");
});

test("memory that fails is MEMORY_ERROR for reader and owner, and the process lives", async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open(), await volume.open()];
  await using writer = await a.takeOver(taker(0, 1));
  const fd = openSync(volume.path, "r+");
  ftruncateSync(fd, 4096);
  assert.throws(() => b.poll(), code("MEMORY_ERROR"));
  assert.throws(
    () => writer.append([directory("x")]),
    (error: Error) => "code" in error,
  );
});
