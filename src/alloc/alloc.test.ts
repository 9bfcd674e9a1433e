import assert from "node:assert/strict";
import { test } from "node:test";
import { ALLOC_UNIT, GIB, TIB } from "../base/index.ts";
import { FreeSpace } from "./free-space.ts";
import { PoolSpace } from "./pool-space.ts";
import { allocateStrips, checkStriping, stripLength } from "./striping.ts";

test("a small region goes into the smallest hole, and the large hole stays whole", () => {
  const devices = [
    { uuid: "a", sizeBytes: 100 * GIB },
    { uuid: "b", sizeBytes: 100 * GIB },
  ];
  const pool = PoolSpace.of(devices, [
    { deviceUuid: "b", offset: 2 * ALLOC_UNIT, length: 60 * GIB },
    { deviceUuid: "elsewhere", offset: 0, length: GIB },
  ]);
  const largest = pool.largestFreeBytes;
  assert.deepEqual(pool.allocate(ALLOC_UNIT), { deviceUuid: "b", offset: ALLOC_UNIT, length: ALLOC_UNIT });
  assert.equal(pool.allocate(GIB)?.deviceUuid, "b");
  assert.equal(pool.largestFreeBytes, largest);
});

test("a region that fits nowhere is refused with the largest that would", () => {
  const pool = PoolSpace.of([{ uuid: "a", sizeBytes: GIB }], []);
  assert.throws(() => pool.require(GIB), {
    code: "POOL_FULL",
    details: { requestedBytes: GIB, largestFreeBytes: GIB - ALLOC_UNIT },
  });
});

test("in fragmented space a file takes the largest holes first and the rest where it fits best", () => {
  const space = new FreeSpace({ offset: 0, length: 20 * ALLOC_UNIT });
  for (const unit of [3, 8, 15]) assert.ok(space.allocateAt(unit * ALLOC_UNIT, ALLOC_UNIT));
  // Holes of 3, 4, 6 and 4 units.
  const extents = space.allocateExtents(9 * ALLOC_UNIT, 2);
  assert.deepEqual(
    extents?.map(({ offset, length }) => [offset / ALLOC_UNIT, length / ALLOC_UNIT]),
    [
      [9, 6],
      [0, 3],
    ],
  );
  assert.equal(space.allocateExtents(8 * ALLOC_UNIT, 1), undefined);
});

test("a file grows in place while the next range is free", () => {
  const space = new FreeSpace({ offset: 0, length: 8 * ALLOC_UNIT });
  assert.ok(space.allocateAt(0, ALLOC_UNIT));
  assert.ok(space.allocateAt(4 * ALLOC_UNIT, ALLOC_UNIT));
  assert.ok(space.allocateAt(ALLOC_UNIT, 3 * ALLOC_UNIT));
  assert.ok(!space.allocateAt(4 * ALLOC_UNIT, ALLOC_UNIT));
});

test("strips are as long as stock makes them", () => {
  const striping = { nbuckets: 8, nstrips: 3, chunkSize: 2 * ALLOC_UNIT };
  assert.equal(stripLength(1, striping), 2 * ALLOC_UNIT);
  assert.equal(stripLength(6 * ALLOC_UNIT, striping), 2 * ALLOC_UNIT);
  assert.equal(stripLength(6 * ALLOC_UNIT + 1, striping), 4 * ALLOC_UNIT);
});

test("strips that do not find enough buckets take nothing", () => {
  const whole = { offset: 0, length: 8 * ALLOC_UNIT };
  const space = new FreeSpace(whole);
  space.take(0, 5 * ALLOC_UNIT);
  const striping = { nbuckets: 4, nstrips: 2, chunkSize: 2 * ALLOC_UNIT };
  assert.equal(allocateStrips(space, 4 * ALLOC_UNIT, striping, { whole, random: Math.random }), undefined);
  assert.equal(space.freeBytes, 3 * ALLOC_UNIT);
});

test("striping that the format cannot say is refused", () => {
  const good = { nbuckets: 8, nstrips: 8, chunkSize: ALLOC_UNIT };
  checkStriping(good, TIB, 15);
  for (const bad of [
    { ...good, nbuckets: 65 },
    { ...good, nbuckets: 0 },
    { ...good, nstrips: 9 },
    { ...good, nbuckets: 32, nstrips: 16 },
    { ...good, nstrips: 0 },
    { ...good, chunkSize: 3 * ALLOC_UNIT },
    { ...good, chunkSize: 4096 },
    { ...good, chunkSize: TIB },
  ]) {
    assert.throws(() => checkStriping(bad, TIB, 15), { code: "INVALID_ARGUMENT" }, JSON.stringify(bad));
  }
});

test("a hundred thousand holes in 64 TiB cost searches, not scans", () => {
  const space = new FreeSpace({ offset: 0, length: 64 * TIB });
  const started = performance.now();
  for (let position = 0; position < 100_000; position++) {
    assert.ok(space.allocateAt(position * 2 * ALLOC_UNIT, ALLOC_UNIT));
  }
  for (let position = 0; position < 50_000; position++) assert.ok(space.allocate(ALLOC_UNIT));
  assert.ok(space.allocate(TIB));
  // Scanning holes or units would take minutes; the bound is loose because test machines are busy.
  assert.ok(performance.now() - started < 10_000);
});
