/** The tests of sharing once more, between hosts whose caches do not agree: what is not written back is not seen. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { directory, simulatedVolume, taker, useIncoherentMemory } from "../../test/support/simulated-volume.ts";
import { MIB } from "../base/index.ts";
import { FILLER_RUN } from "../format/index.ts";
import { formatVolume } from "./index.ts";

useIncoherentMemory();
await import("./log-reader.test.ts");
await import("./log-writer.test.ts");

test("a volume is opened as it is in the memory, not as this host knew it", async () => {
  await using volume = await simulatedVolume();
  const before = await volume.open({ host: "a" });
  const uuid = randomUUID();
  const format = { name: "next", uid: 0, gid: 0, mode: 0o755, generation: 2, createdSeconds: 0, logLength: 16 * MIB };
  await formatVolume(volume.device, volume.region, { uuid, ...format });
  const after = await volume.open({ host: "a" });
  assert.notEqual(after.record?.volumeUuid, before.record?.volumeUuid);
  assert.equal(after.superblock.logLength, 16 * MIB);
});

test("what a taker writes before its first append is seen by all, and tells them where the log goes on", async () => {
  await using volume = await simulatedVolume();
  const [a, b, c] = [await volume.open(), await volume.open(), await volume.open()];
  const dying = await a.takeOver(taker(0, 1));
  assert.equal(b.published(), 0);
  await dying[Symbol.asyncDispose]();
  await using _taker = await c.takeOver(taker(1, 2));
  assert.equal(b.published(), FILLER_RUN);
});

test("a taker judges the claims that are in the memory, not those that its host knew", async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open(), await volume.open()];
  const first = await a.takeOver(taker(0, 1));
  first.release();
  await first[Symbol.asyncDispose]();
  await using second = await b.takeOver(taker(1, 2));
  second.append([directory("one")]);
  await using third = await a.takeOver(taker(0, 3));
  assert.equal(third.clean, false);
  assert.equal(third.nextIndex, 1 + FILLER_RUN);
});

test("a taker goes on with the changes that others named, not with those that its host knew", async () => {
  await using volume = await simulatedVolume();
  const [a, b, c] = [await volume.open(), await volume.open(), await volume.open()];
  const mtime = { seconds: 1, nanoseconds: 0 };
  const { seen } = a.changesSince(undefined);
  const first = await b.takeOver(taker(1, 1));
  first.recordChanged(5, 1, mtime);
  first.release();
  await first[Symbol.asyncDispose]();
  await using second = await a.takeOver(taker(0, 2));
  second.recordChanged(6, 1, mtime);
  const ring = c.changesSince(seen);
  assert.deepEqual(ring.type === "changes" && ring.changes.map(({ file }) => file), [5, 6]);
});

test("the thread that watches the counters notices what another host appends", { timeout: 20_000 }, async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open(), await volume.open()];
  const { promise: told, resolve } = Promise.withResolvers<void>();
  using _watch = b.watch(1, resolve);
  await using writer = await a.takeOver(taker(0, 1));
  writer.append([directory("one")]);
  await told;
});

test("a taker goes on with the changes in place where the former owner ended, or beyond all that anybody saw", async () => {
  await using volume = await simulatedVolume();
  const [a, b, c] = [await volume.open(), await volume.open(), await volume.open()];
  const mtime = { seconds: 1, nanoseconds: 0 };
  const start = c.changesSince(undefined);
  const before = await b.takeOver(taker(1, 1)); // its host knows the counter as it is now
  before.release();
  await before[Symbol.asyncDispose]();
  const first = await a.takeOver(taker(0, 2));
  for (const file of [3, 4]) first.recordChanged(file, 1, mtime);
  first.release();
  await first[Symbol.asyncDispose]();
  const second = await b.takeOver(taker(1, 3));
  second.recordChanged(5, 1, mtime);
  const { type, seen } = c.changesSince(start.seen);
  assert.deepEqual([type, seen.next], ["changes", 3]);
  await second[Symbol.asyncDispose](); // as a crash
  await using _third = await a.takeOver(taker(0, 4));
  assert.equal(c.changesSince(seen).type, "overflow");
});
