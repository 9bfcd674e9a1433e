/**
 * Runs the tool matrix, or the cases whose names contain one of the words given, in any directory:
 * `node test/behaviour/tools/main.ts [--famfs] DIRECTORY [WORD…]`. Without --famfs the directory is taken for an
 * ordinary file system, where what famfs refuses works.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { CASES } from "./cases/index.ts";
import { makeInputs } from "./inputs.ts";
import { expectedOutcome, missingFor, type Place, runCase } from "./run-case.ts";

const { values, positionals } = parseArgs({ options: { famfs: { type: "boolean" } }, allowPositionals: true });
const [parent, ...words] = positionals;
if (parent === undefined) {
  process.stderr.write("usage: main.ts [--famfs] DIRECTORY [WORD…]\n");
  process.exit(64);
}

const scratch = mkdtempSync(join(tmpdir(), "famfs-csi-tools-"));
const inputs = join(scratch, "in");
makeInputs(inputs);
const directory = mkdtempSync(join(parent, "tools-"));
const place: Place = { directory, inputs, scratch, elsewhere: values.famfs !== true };
let failures = 0;
for (const one of CASES) {
  if (words.length > 0 && !words.some((word) => one.name.includes(word))) continue;
  const missing = missingFor(one);
  if (missing !== false) {
    process.stdout.write(`skipped ${one.name}: ${missing}\n`);
    continue;
  }
  const verdict = await runCase(one, place);
  const expected = expectedOutcome(one, place);
  const good = verdict.outcome === expected;
  const time = `${Math.round(verdict.milliseconds)} ms`.padStart(8);
  process.stdout.write(`${good ? "ok     " : "WRONG  "} ${time}  ${one.name}: ${verdict.outcome}\n`);
  if (good) continue;
  failures++;
  process.stdout.write(`${`expected ${expected}\n${verdict.output}`.replaceAll(/^/gm, "          ")}\n`);
}
rmSync(directory, { recursive: true, force: true });
rmSync(scratch, { recursive: true, force: true });
process.stdout.write(`${failures} wrong\n`);
process.exitCode = failures === 0 ? 0 : 1;
