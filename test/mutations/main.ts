/**
 * `npm run test:mutations [-- --only NAME,NAME] [-- --output json]`: takes each mechanism of table.ts out, in a copy of
 * the checkout, and runs the tests that must notice. Exits with 1 when one survives.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Checkout, findPiece, root } from "../support/checkout.ts";
import { MUTATIONS, type Mutation } from "./table.ts";

const TIMEOUT_MS = 120_000;

interface Verdict {
  readonly name: string;
  readonly promise: string;
  readonly verdict: "killed" | "survived";
  readonly seconds: number;
  /** The tests that noticed. */
  readonly by: readonly string[];
}

const { values } = parseArgs({ options: { only: { type: "string" }, output: { type: "string", default: "text" } } });
const chosen = choose(values.only);
const tell = (line: string) => process.stderr.write(`${line}\n`);

const stale = chosen.filter(
  ({ file, search }) => findPiece(readFileSync(join(root, file), "utf8"), search) === undefined,
);
for (const { name, file } of stale) tell(`${name}: ${file} does not have what it replaces; bring the table up to date`);
if (stale.length > 0) process.exit(2);

using checkout = Checkout.copy();
await requireGreen(chosen);
const verdicts: Verdict[] = [];
for (const mutation of chosen) {
  const verdict = await attempt(mutation);
  verdicts.push(verdict);
  tell(`${verdict.verdict.padEnd(8)} ${verdict.name} (${verdict.seconds.toFixed(1)} s)`);
}
process.stdout.write(values.output === "json" ? `${JSON.stringify(verdicts, undefined, 2)}\n` : table(verdicts));
process.exitCode = verdicts.some(({ verdict }) => verdict === "survived") ? 1 : 0;

function choose(only: string | undefined): readonly Mutation[] {
  if (only === undefined) return MUTATIONS;
  const names = only.split(",");
  const unknown = names.filter((name) => !MUTATIONS.some((mutation) => mutation.name === name));
  if (unknown.length === 0) return MUTATIONS.filter(({ name }) => names.includes(name));
  process.stderr.write(`no mutation ${unknown.join(", ")}; there are:\n`);
  for (const { name } of MUTATIONS) process.stderr.write(`  ${name}\n`);
  process.exit(64);
}

/** A test that fails anyway notices nothing. */
async function requireGreen(mutations: readonly Mutation[]): Promise<void> {
  const files = [...new Set(mutations.flatMap(({ tests }) => tests))].sort();
  tell(`first without any mutation: ${files.length} test files`);
  for (let attempt = 1; ; attempt++) {
    const { passed, failed } = await checkout.test(files, { timeoutMs: files.length * TIMEOUT_MS });
    if (passed) return;
    tell(`these fail without any mutation: ${failed.join("; ")}`);
    if (attempt === 2) process.exit(2); // once may be due to a busy machine
  }
}

async function attempt(mutation: Mutation): Promise<Verdict> {
  using _mutated = checkout.change(mutation);
  const { passed, failed, seconds } = await checkout.test(mutation.tests, { timeoutMs: TIMEOUT_MS });
  const { name, promise } = mutation;
  return { name, promise, verdict: passed ? "survived" : "killed", seconds, by: failed };
}

function table(all: readonly Verdict[]): string {
  const width = Math.max(...all.map(({ name }) => name.length));
  const rows = all.map(({ name, verdict, seconds, by }) => {
    const others = by.length > 1 ? ` and ${by.length - 1} more` : "";
    const noticed = by[0] === undefined ? "" : `${by[0]}${others}`;
    return `${name.padEnd(width)} ${verdict.padEnd(8)} ${seconds.toFixed(1).padStart(6)}  ${noticed}`;
  });
  const survived = all.filter(({ verdict }) => verdict === "survived").length;
  return `${rows.join("\n")}\n\n${all.length - survived} killed, ${survived} survived\n`;
}
