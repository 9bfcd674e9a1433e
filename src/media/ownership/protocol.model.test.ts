/**
 * The product's own steps, in every order in which hosts can take them (testing/search.ts says what of a memory and of
 * hosts is searched), and with each rule taken out of the source: then the search must find the harm that it prevents.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { importMutated, type Mutation } from "../../../test/support/mutated.ts";
import { SCENES, type Scene, searchScene } from "../testing/ownership-model.ts";

for (const scene of Object.keys(SCENES) as Scene[]) {
  test(`${scene}: nothing acknowledged is lost, nothing is half there, no reader misled`, (t) => {
    const { harm, states } = searchScene(scene);
    t.diagnostic(`${states} states`);
    assert.equal(harm, undefined);
    assert.ok(states > 500, `${states} states`);
  });
}

const protocol = (text: string, by: string): Mutation => ({ file: "ownership/protocol.ts", text, by });
const reader = (text: string, by: string): Mutation => ({ file: "media/log-reader.ts", text, by });
const runs = (text: string, by: string): Mutation => ({ file: "format/filler-run.ts", text, by });

const BROKEN: readonly [string, readonly Mutation[], Scene, RegExp][] = [
  [
    "an append that does not look again",
    [
      protocol(
        `...counters(log, index + bytes.byteLength / log.entrySize),
    { type: "look" },`,
        "...counters(log, index + bytes.byteLength / log.entrySize),",
      ),
    ],
    "owner and taker",
    /is lost/,
  ],
  [
    "finding the end before claiming",
    [
      protocol(
        "  yield* all(durable(ofSlot(slot)",
        "  const early = yield* findEnd();\n  yield* all(durable(ofSlot(slot)",
      ),
      protocol("= yield* findEnd();\n  if (bad", "= early;\n  if (bad"),
    ],
    "owner and taker",
    /is lost/,
  ],
  [
    "no run of fillers",
    [protocol("const fills = !clean &&", "const fills = false &&")],
    "owner and taker",
    /is lost|half/,
  ],
  [
    "the tenth filler after the others",
    [
      protocol(
        "...durable(log.entryAt(first + log.run - 2), bytes.subarray(speaking, behind)),",
        "...durable(log.entryAt(first), bytes.subarray(0, speaking)), /**/",
      ),
      protocol(
        "...durable(log.entryAt(first), bytes.subarray(0, speaking)),\n",
        "...durable(log.entryAt(first + log.run - 2), bytes.subarray(speaking, behind)),\n",
      ),
    ],
    "owner, taker and reader",
    /had|half/,
  ],
  [
    "fillers that say whose they are",
    [
      protocol("epoch: 0, nodeIdHash", "epoch: claim.ballot.round, nodeIdHash"),
      protocol("fillersPlan({ log }: Term", "fillersPlan({ log, claim }: Term"),
    ],
    "owner and two takers",
    /is lost|half/,
  ],
  [
    "counters stored one after the other",
    [
      protocol(
        '{ type: "storePair", at: log.countersAt, value: BigInt(next) },',
        '{ type: "store64", at: log.countersAt, value: BigInt(next) }, { type: "store64", at: log.countersAt + 8, value: BigInt(next) },',
      ),
    ],
    "owner and taker",
    /is lost/,
  ],
  [
    "counters of a taker that did not look since it found the end",
    [protocol('yield* must(term, [{ type: "look" }, ...ring.stores', "yield* must(term, [...ring.stores")],
    "an owner that releases, and two takers",
    /is lost/,
  ],
  [
    "readers that stop at the counter",
    [
      reader(
        "if (!this.#place.extended || published === slots || !this.#isInRun(published)) {",
        "if (published >= 0) {",
      ),
    ],
    "owner and taker",
    /is lost/,
  ],
  [
    "applying what a late transaction put into a run",
    [runs("for (let at = filler.first; at < filler.first + filler.run; at++) runs.set(at, filler);", "")],
    "owner and taker",
    /half|is lost/,
  ],
  ["late fillers that count", [runs("if (outbid) continue;", "")], "a prompt owner and two takers", /vanished/],
  [
    "readers that never begin again",
    [reader("if (ghost !== undefined) {", "if (ghost === -1) {")],
    "owner, taker and reader",
    /had/,
  ],
  [
    "a transaction stored first to last",
    [
      protocol(
        "...(others.byteLength === 0 ? [] : durable(log.entryAt(index + 1), others)),",
        "...durable(log.entryAt(index), bytes.subarray(0, log.entrySize)), /**/",
      ),
      protocol(
        "...durable(log.entryAt(index), bytes.subarray(0, log.entrySize)),\n    ...counters",
        "...(others.byteLength === 0 ? [] : durable(log.entryAt(index + 1), others)),\n    ...counters",
      ),
    ],
    "owner and taker",
    /half/,
  ],
  [
    "expecting claims that were not judged",
    [protocol("if (!owns({ log, claim }, expected, now)) {", "if (now === before) {")],
    "takers after a release",
    /is lost|half/,
  ],
  [
    "clean by claims read before the own one",
    [protocol("isReleased(now, slot)", "isReleased(before, slot)")],
    "takers after a release",
    /is lost|half/,
  ],
  [
    "every take-over is clean",
    [protocol("const clean = ", "const clean = true || ")],
    "owner and taker",
    /is lost|half/,
  ],
  [
    "an own former claim that was not released counts for nothing",
    [protocol(" && former?.released !== false", "")],
    "an owner and its own successor",
    /is lost|half/,
  ],
  [
    "claims that cannot be read count for nothing",
    [protocol("if (findings.length > 0) return false;", ""), protocol(" && before.findings.length === 0", "")],
    "an owner with an unreadable claim, and a taker",
    /is lost|half/,
  ],
  [
    "a taker that rings no guard line",
    [
      protocol(
        "if (log.lines !== undefined) yield* all(durable(log.lines.guardLineAt, log.lines.guardLine(claim.nonce)));",
        "",
      ),
    ],
    "owner and taker",
    /is lost|half/,
  ],
  [
    "a guard line that is expected although it was loaded after the claims",
    [
      protocol(
        "  const expected = yield* load(log.guardAt, log.guardLength);\n  const now = inspect(yield* load(at, length));",
        "  const now = inspect(yield* load(at, length));\n  const expected = yield* load(log.guardAt, log.guardLength);",
      ),
    ],
    "takers after a release",
    /is lost|half/,
  ],
  [
    "a holder that expects what it did not judge",
    [protocol("if (!owns(term, guard, claims)) return false;", "if (claims === undefined) return false;")],
    "owner and taker",
    /is lost|half/,
  ],
  [
    "a data write that does not look again",
    [
      protocol(
        'return [{ type: "look" }, ...durable(at, bytes), { type: "look" }];',
        'return [{ type: "look" }, ...durable(at, bytes)];',
      ),
    ],
    "data of an owner and of a taker",
    /silently/,
  ],
];

for (const [name, mutations, scene, expected] of BROKEN) {
  test(`${name}: the search finds the harm`, async () => {
    const model = await importMutated<typeof import("../testing/ownership-model.ts")>(
      new URL("../testing/ownership-model.ts", import.meta.url),
      mutations,
    );
    const { harm, states } = model.searchScene(scene);
    assert.match(harm ?? `none in ${states} states`, expected);
  });
}

test("a run that is not three longer than a transaction: the search finds the harm of late lines", () => {
  for (const spare of [1, 2]) {
    const { harm, states } = searchScene("owner and taker", { spare });
    assert.match(harm ?? `none in ${states} states`, /is lost|half/, `spare ${spare}`);
  }
});
