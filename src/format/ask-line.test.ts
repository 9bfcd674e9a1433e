import assert from "node:assert/strict";
import { test } from "node:test";
import { ASK_LINE_SIZE, AskStruct, encodeAsk, encodeBell, HEARD_OFFSET, inspectAsk } from "./ask-line.ts";

const ask = { slot: 511, number: 2 ** 40, ticket: 3 };

test("an ask line survives, and leaves room for what its node heard", () => {
  assert.deepEqual(inspectAsk(encodeAsk(ask), 0, 511), { value: ask, findings: [] });
  assert.ok(AskStruct.size <= HEARD_OFFSET && HEARD_OFFSET + 8 <= ASK_LINE_SIZE);
  assert.deepEqual(inspectAsk(new Uint8Array(64), 0, 0), { value: undefined, findings: [] });
});

test("an ask line of another slot, with a wrong byte or numbers that cannot grow is refused", () => {
  assert.match(inspectAsk(encodeAsk(ask), 0, 1).findings[0]?.message ?? "", /slot 1 says slot 511/);
  const torn = encodeAsk(ask);
  torn[9] = 1;
  assert.match(inspectAsk(torn, 0, 511).findings[0]?.message ?? "", /wrong crc/);
  const last = encodeAsk({ ...ask, ticket: Number.MAX_SAFE_INTEGER });
  assert.match(inspectAsk(last, 0, 511).findings[0]?.message ?? "", /nobody asked more/);
});

test("a bell is another one with each number and each slot", () => {
  const bells = [0, 1, 511].flatMap((slot) => [1, 2, 2 ** 47].map((number) => encodeBell({ slot, number })));
  assert.equal(new Set(bells).size, bells.length);
});
