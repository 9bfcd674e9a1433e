/** Volumes that were made before layout 2 are served as they are: the tests of owners once more. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { simulatedVolume, taker, useLayout1 } from "../../test/support/simulated-volume.ts";

useLayout1();
await import("./log-writer.test.ts");

test("these volumes have layout 1, and doubts are told by the counter of the one ring", async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open(), await volume.open()];
  assert.deepEqual([a.record?.layout, a.writerSlots], [1, 63]);
  const { seen } = b.changesSince(undefined);
  const first = await a.takeOver(taker(0, 1));
  await first[Symbol.asyncDispose](); // as a crash
  await using _second = await a.takeOver(taker(1, 2));
  assert.equal(b.changesSince(seen).type, "overflow");
});
