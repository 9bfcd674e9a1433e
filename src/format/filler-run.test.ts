import assert from "node:assert/strict";
import { test } from "node:test";
import { entriesInRuns, type PlacedFiller } from "./filler-run.ts";
import { FILLER_RUN } from "./log-entry.ts";

const at = (index: number, first: number, epoch: number): PlacedFiller => ({
  index,
  filler: { type: "filler", first, run: FILLER_RUN, epoch, nodeIdHash: "00".repeat(8) },
});
const indexes = (...fillers: PlacedFiller[]) => [...entriesInRuns(fillers).keys()].sort((a, b) => a - b);
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, position) => from + position);

test("one filler of a run speaks for all of it", () => {
  for (const index of range(5, 5 + FILLER_RUN)) assert.deepEqual(indexes(at(index, 5, 2)), range(5, 5 + FILLER_RUN));
});

test("a filler that names a run elsewhere speaks for itself only", () => {
  assert.deepEqual(indexes(at(20, 5, 2)), [20]);
  assert.deepEqual(indexes(at(5, 6, 2)), [5]);
});

test("a late filler in a run that begins later speaks for itself only", () => {
  const late = at(8, 0, 0);
  const end = at(2 + FILLER_RUN - 1, 2, 0);
  assert.deepEqual(indexes(late, end), range(2, 2 + FILLER_RUN));
  // Not so one that lies elsewhere.
  assert.deepEqual(indexes(at(1, 0, 0), end), range(0, 2 + FILLER_RUN));
});

test("a log full of fillers is judged in linear time", () => {
  const fillers = range(0, 100_000).map((index) => at(index, index, index));
  assert.equal(entriesInRuns(fillers).size, 100_000 + FILLER_RUN - 1);
});
