import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ALLOC_UNIT, type Extent } from "../base/index.ts";
import { FreeSpace } from "./free-space.ts";
import { PoolSpace } from "./pool-space.ts";
import { allocateStrips } from "./striping.ts";

const UNITS = 96;
const START = 5;

const step = fc.oneof(
  fc.record({ do: fc.constant("allocate" as const), units: fc.integer({ min: 1, max: 20 }) }),
  fc.record({ do: fc.constant("at" as const), at: fc.nat(UNITS + 10), units: fc.integer({ min: 1, max: 12 }) }),
  fc.record({
    do: fc.constant("extents" as const),
    units: fc.integer({ min: 1, max: 60 }),
    limit: fc.integer({ min: 1, max: 6 }),
  }),
  fc.record({ do: fc.constant("strips" as const), units: fc.integer({ min: 1, max: 40 }), seed: fc.nat() }),
  fc.record({ do: fc.constant("take" as const), at: fc.nat(UNITS + 10), units: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ do: fc.constant("free" as const), which: fc.nat() }),
);

/** The units in use, one by one: the plain model. */
class Model {
  readonly used = new Set<number>();
  readonly held: Extent[] = [];

  claim(piece: Extent): void {
    assert.equal(piece.offset % ALLOC_UNIT, 0);
    assert.equal(piece.length % ALLOC_UNIT, 0);
    assert.ok(piece.length > 0);
    for (const unit of units(piece)) {
      assert.ok(unit >= START && unit < START + UNITS, `unit ${unit} is outside`);
      assert.ok(!this.used.has(unit), `unit ${unit} was given twice`);
      this.used.add(unit);
    }
    this.held.push(piece);
  }

  largestHole(): number {
    let largest = 0;
    for (let unit = START, run = 0; unit < START + UNITS; unit++) {
      run = this.used.has(unit) ? 0 : run + 1;
      largest = Math.max(largest, run);
    }
    return largest;
  }
}

function units({ offset, length }: Extent): number[] {
  return Array.from({ length: length / ALLOC_UNIT }, (_, position) => offset / ALLOC_UNIT + position);
}

test("space is never given twice, never outside, and all that is freed comes back", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const whole = { offset: START * ALLOC_UNIT, length: UNITS * ALLOC_UNIT };
      const space = new FreeSpace(whole);
      const model = new Model();
      for (const step of steps) {
        switch (step.do) {
          case "allocate": {
            const fits = model.largestHole() >= step.units;
            const piece = space.allocate(step.units * ALLOC_UNIT - 17);
            assert.equal(piece !== undefined, fits, "a hole that fits is found");
            if (piece !== undefined) model.claim(piece);
            break;
          }
          case "at": {
            const piece = { offset: step.at * ALLOC_UNIT, length: step.units * ALLOC_UNIT };
            const possible = units(piece).every(
              (unit) => unit >= START && unit < START + UNITS && !model.used.has(unit),
            );
            assert.equal(space.allocateAt(piece.offset, piece.length), possible);
            if (possible) model.claim(piece);
            break;
          }
          case "extents": {
            const free = space.freeBytes;
            const pieces = space.allocateExtents(step.units * ALLOC_UNIT, step.limit);
            if (pieces === undefined) assert.equal(space.freeBytes, free, "a refusal changes nothing");
            else {
              assert.ok(pieces.length <= step.limit);
              assert.ok(pieces.reduce((sum, piece) => sum + piece.length, 0) >= step.units * ALLOC_UNIT);
              for (const piece of pieces) model.claim(piece);
            }
            break;
          }
          case "strips": {
            const free = space.freeBytes;
            let seed = step.seed;
            const random = () => {
              seed = (seed * 48271 + 1) % 0x7fffffff;
              return seed / 0x7fffffff;
            };
            const striping = { nbuckets: 6, nstrips: 4, chunkSize: 2 * ALLOC_UNIT };
            const strips = allocateStrips(space, step.units * ALLOC_UNIT, striping, { whole, random });
            if (strips === undefined) assert.equal(space.freeBytes, free, "a refusal changes nothing");
            else {
              const buckets = strips.map((strip) => Math.floor((strip.offset / ALLOC_UNIT - START) / 16));
              assert.equal(new Set(buckets).size, 4, "each strip has a bucket of its own");
              assert.ok(strips.reduce((sum, strip) => sum + strip.length, 0) >= step.units * ALLOC_UNIT);
              for (const strip of strips) model.claim(strip);
            }
            break;
          }
          case "take": {
            const piece = { offset: step.at * ALLOC_UNIT, length: step.units * ALLOC_UNIT };
            space.take(piece.offset + 1, piece.length - 1);
            for (const unit of units(piece)) {
              if (unit < START || unit >= START + UNITS || model.used.has(unit)) continue;
              model.claim({ offset: unit * ALLOC_UNIT, length: ALLOC_UNIT });
            }
            break;
          }
          case "free": {
            if (model.held.length === 0) break;
            const [piece] = model.held.splice(step.which % model.held.length, 1);
            if (piece === undefined) break;
            space.free(piece.offset, piece.length);
            for (const unit of units(piece)) model.used.delete(unit);
            assert.throws(() => space.free(piece.offset, piece.length), /not wholly in use/);
            break;
          }
        }
        assert.equal(space.freeBytes, (UNITS - model.used.size) * ALLOC_UNIT);
        assert.equal(space.largestFreeBytes, model.largestHole() * ALLOC_UNIT);
      }
      for (const piece of model.held) space.free(piece.offset, piece.length);
      assert.deepEqual([...space.holes()], [whole]);
    }),
  );
});

test("regions of a pool never overlap, leave the labels alone and all come back", () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 4 });
  const requests = fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 40 });
  fc.assert(
    fc.property(sizes, requests, fc.array(fc.nat(), { maxLength: 20 }), (devices, wanted, frees) => {
      const pool = PoolSpace.of(
        devices.map((unitCount, position) => ({ uuid: `d${position}`, sizeBytes: unitCount * ALLOC_UNIT + 4096 })),
        [],
      );
      const free = pool.freeBytes;
      assert.equal(free, devices.reduce((sum, unitCount) => sum + unitCount - 1, 0) * ALLOC_UNIT);
      const held: ReturnType<PoolSpace["require"]>[] = [];
      const used = new Set<string>();
      const key = (device: string, unit: number) => `${device}:${unit}`;
      for (const [position, length] of wanted.entries()) {
        const largest = pool.largestFreeBytes;
        const region = pool.allocate(length * ALLOC_UNIT);
        assert.equal(region !== undefined, largest >= length * ALLOC_UNIT);
        if (region === undefined) {
          assert.throws(() => pool.require(length * ALLOC_UNIT), { code: "POOL_FULL" });
        } else {
          const count = devices[Number(region.deviceUuid.slice(1))] ?? 0;
          for (const unit of units(region)) {
            assert.ok(unit >= 1 && unit < count, "outside the device, or over its label");
            assert.ok(!used.has(key(region.deviceUuid, unit)));
            used.add(key(region.deviceUuid, unit));
          }
          held.push(region);
        }
        const which = frees[position];
        if (which === undefined || held.length === 0) continue;
        const [region2] = held.splice(which % held.length, 1);
        if (region2 === undefined) continue;
        pool.free(region2);
        for (const unit of units(region2)) used.delete(key(region2.deviceUuid, unit));
      }
      for (const region of held) pool.free(region);
      assert.equal(pool.freeBytes, free);
    }),
  );
});
