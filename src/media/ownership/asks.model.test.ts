/** Turns at the log, searched as the product takes them; with a rule taken out, the search must find what it prevents. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { importMutated, type Mutation } from "../../../test/support/mutated.ts";
import { SCENES, searchScene } from "../testing/asks-model.ts";

const LISTENS = "a holder that listens";

for (const scene of Object.keys(SCENES).filter((name) => name !== LISTENS)) {
  test(`${scene}: nobody sleeps who is waited for, none is passed over, none that stopped counts as living`, (t) => {
    const { harm, states, trace } = searchScene(scene);
    t.diagnostic(`${states} states`);
    assert.equal(harm, undefined, trace.join("\n"));
  });
}

test("a holder that listens can be told from one that stopped", () => {
  assert.match(searchScene(LISTENS).harm ?? "no state", /counts as living/);
});

const asks = (text: string, by: string): Mutation => ({ file: "ownership/asks.ts", text, by });

const BROKEN: readonly [string, readonly Mutation[], string, RegExp][] = [
  [
    "the bell before the line",
    [
      asks(
        '  yield* all(durable(askAt(places, line.slot), encodeAsk(line)));\n  yield { type: "store64", at: places.bellAt',
        '  yield { type: "store64", at: places.bellAt',
      ),
      asks(
        '  yield { type: "fence" };\n  return line;',
        '  yield { type: "fence" };\n  yield* all(durable(askAt(places, line.slot), encodeAsk(line)));\n  return line;',
      ),
    ],
    "one that asks",
    /the holder sleeps/,
  ],
  [
    "a line that is not durable when the bell rings",
    [
      asks(
        '  yield* all(durable(askAt(places, line.slot), encodeAsk(line)));\n  yield { type: "store64", at: places.bellAt',
        '  yield { type: "store", at: askAt(places, line.slot), bytes: encodeAsk(line) };\n  yield { type: "store64", at: places.bellAt',
      ),
    ],
    "one that asks",
    /the holder sleeps/,
  ],
  [
    "lines that are read before the bell",
    [
      asks(
        "  const bell = yield* loadWord(places.bellAt);\n  if (bell === last) return { bell };\n  return { bell, asks: yield* waiting(places) };",
        "  const asks = yield* waiting(places);\n  const bell = yield* loadWord(places.bellAt);\n  return bell === last ? { bell } : { bell, asks };",
      ),
    ],
    "one that asks",
    /the holder sleeps/,
  ],
  [
    "only the line that the bell names",
    [
      asks(
        "return { bell, asks: yield* waiting(places) };",
        "return { bell, asks: (yield* waiting(places)).filter(({ slot }) => BigInt(slot) === bell % 65536n) };",
      ),
    ],
    "two that ask, and one of them thinks better of it",
    /the holder sleeps/,
  ],
  [
    "one ticket for all",
    [asks("Math.max(0, ...lines.map((line) => line.ticket)) + 1", "Math.max(1, lines.length - lines.length)")],
    "two that ask",
    /asked before/,
  ],
  [
    "the lowest slot first",
    [asks("return a.ticket - b.ticket || a.slot - b.slot;", "return a.slot - b.slot;")],
    "two that ask",
    /asked before/,
  ],
  [
    "numbers that do not grow",
    [asks("?.number ?? 0) + 1", "?.number ?? 0) + (lines.some((line) => line.slot === slot) ? 0 : 1)")],
    "one that thinks better of it, and asks anew",
    /the holder sleeps/,
  ],
  [
    "the bell before the claim is released",
    [
      asks("  const released = yield* release(next);\n", ""),
      asks(
        "nextNumber(lines, slot), ticket: 0 });\n",
        "nextNumber(lines, slot), ticket: 0 });\n  const released = yield* release(next);\n",
      ),
    ],
    "one that is given the log",
    /and that sleeps/,
  ],
  [
    "silence judged by what was heard at any time",
    [asks("return yield* loadWord(askAt(places, slot) + HEARD_OFFSET);", "return yield* loadWord(places.bellAt);")],
    "a holder that stopped",
    /counts as living/,
  ],
];

for (const [name, mutations, scene, expected] of BROKEN) {
  test(`${name}: the search finds the harm`, async () => {
    const model = await importMutated<typeof import("../testing/asks-model.ts")>(
      new URL("../testing/asks-model.ts", import.meta.url),
      mutations,
    );
    const { harm, states } = model.searchScene(scene);
    assert.match(harm ?? `none in ${states} states`, expected);
  });
}
