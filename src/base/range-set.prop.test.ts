import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RangeSet } from "./range-set.ts";

const SPACE = 400;
const change = fc.record({
  kind: fc.constantFrom("add", "delete", "cover"),
  start: fc.nat(SPACE - 1),
  length: fc.integer({ min: 0, max: 12 }),
});

test("a range set is a set of integers, whatever is added and removed in whatever order", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 300 }), (changes) => {
      const set = new RangeSet();
      const model = new Set<number>();
      for (const { kind, start, length } of changes) {
        const all = Array.from({ length }, (_, offset) => start + offset);
        if (kind === "add") {
          const possible = length > 0 && all.every((item) => !model.has(item));
          assert.equal(set.add(start, start + length), possible);
          if (possible) for (const item of all) model.add(item);
        } else if (kind === "delete") {
          const possible = length > 0 && all.every((item) => model.has(item));
          assert.equal(set.delete(start, start + length), possible);
          if (possible) for (const item of all) model.delete(item);
        } else {
          set.cover(start, start + length);
          for (const item of all) model.add(item);
        }
        assert.equal(set.total, model.size);
      }
      const listed = [...set];
      assert.equal(set.count, listed.length);
      assert.deepEqual(
        listed.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, offset) => start + offset)),
        [...model].sort((a, b) => a - b),
      );
      for (const [position, range] of listed.entries()) {
        assert.ok((listed[position + 1]?.start ?? Number.POSITIVE_INFINITY) > range.end, "ranges that touch are one");
      }
    }),
  );
});

test("thousands of ranges stay in order when they are added at random", () => {
  fc.assert(
    fc.property(fc.shuffledSubarray(Array.from({ length: 2000 }, (_, item) => item * 2)), (items) => {
      const set = new RangeSet();
      for (const item of items) set.add(item, item + 1);
      assert.deepEqual(
        [...set].map((range) => range.start),
        [...items].sort((a, b) => a - b),
      );
      for (const item of items) assert.ok(set.delete(item, item + 1));
      assert.equal(set.count, 0);
    }),
    { numRuns: 10 },
  );
});
