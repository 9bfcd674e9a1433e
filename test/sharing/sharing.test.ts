/** A short run of `npm run test:sharing`: a minute in CI. A failure says with which seed it came. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { skipWithoutMounts } from "../support/kernel.ts";
import { judge, render } from "./outcome.ts";
import { runNodes } from "./run.ts";

const skip = skipWithoutMounts();
const SECONDS = process.env["CI"] === "true" ? 30 : 10;

// Clients nap most of the time: two runs at a time keep a small machine busy.
suite("nodes that write by turns", { concurrency: 2 }, () => {
  for (const [nodes, incoherent] of [
    [2, false],
    [3, false],
    [2, true],
  ] as const) {
    const where = incoherent ? ", between hosts whose caches do not agree" : "";
    test(`${nodes} nodes write by turns, are stopped and killed, and nothing acknowledged is lost${where}`, {
      skip,
    }, async (t) => {
      const seed = Date.now() % 100_000;
      const outcome = judge(
        await runNodes({ nodes, seconds: SECONDS, seed, faults: true, incoherent, tell: () => undefined }),
      );
      t.diagnostic(render(outcome));
      assert.deepEqual(outcome.failures, [], render(outcome));
    });
  }
});
