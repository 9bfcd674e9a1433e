/**
 * `npm run test:long [-- --share 0.01] [--seed N] [--only PART] [--processes N]`: the property tests of what is hostile
 * with ten million cases instead of some thousands, each process with a seed of its own. Prints a table as it stands in
 * docs/guarantees.md, also when it is interrupted.
 */
import { spawn } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ROWS, type Row } from "./rows.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Of what a process that failed said. */
const TOLD = 6000;

interface Chunk {
  readonly row: Row;
  readonly cases: number;
  readonly seed: number;
}

interface Tally {
  cases: number;
  seconds: number;
  failures: number;
}

const { values } = parseArgs({
  options: {
    share: { type: "string", default: "1" },
    seed: { type: "string", default: "1" },
    only: { type: "string", default: "" },
    processes: { type: "string", default: "2" },
  },
});
const share = Number(values.share);
const firstSeed = Number(values.seed);
const rows = ROWS.filter(({ file, test, what }) => `${what} ${file} ${test}`.includes(values.only));
const chunks = rows.flatMap((row) => chunksOf(row));
const tallies = new Map(rows.map((row): [Row, Tally] => [row, { cases: 0, seconds: 0, failures: 0 }]));
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => stop.abort());

const started = performance.now();
let done = 0;
await Promise.all(Array.from({ length: Number(values.processes) }, work));
process.stdout.write(table());
const failed = [...tallies.values()].some(({ failures }) => failures > 0);
process.exitCode = failed || stop.signal.aborted ? 1 : 0;

function chunksOf(row: Row): Chunk[] {
  const cases = Math.ceil(row.cases * share);
  const count = Math.ceil(cases / row.chunk);
  return Array.from({ length: count }, (_, at) => ({
    row,
    cases: Math.min(row.chunk, cases - at * row.chunk),
    seed: firstSeed * 1000 + at,
  }));
}

async function work(): Promise<void> {
  for (let chunk = chunks.shift(); chunk !== undefined && !stop.signal.aborted; chunk = chunks.shift()) {
    const before = performance.now();
    const output = await run(chunk);
    if (stop.signal.aborted) return;
    const { row, cases, seed } = chunk;
    const tally = tallies.get(row);
    if (tally === undefined) return;
    tally.seconds += (performance.now() - before) / 1000;
    if (output === undefined) tally.cases += cases;
    else {
      tally.failures++;
      const again = `FAMFS_TEST_CASES=${cases} FAMFS_TEST_SEED=${seed}`;
      process.stderr.write(`${row.file}: ${row.test}: failed (${again}):\n${output.slice(0, TOLD)}\n`);
    }
    done++;
    const minutes = ((performance.now() - started) / 60_000).toFixed(1);
    process.stderr.write(`${minutes} min, ${done} of ${done + chunks.length}: ${row.test} ${tally.cases}\n`);
  }
}

/** What it said when it failed; undefined when all cases passed. */
function run({ row, cases, seed }: Chunk): Promise<string | undefined> {
  const pattern = `^${row.test.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`;
  const child = spawn(
    process.execPath,
    [
      "--disable-warning=ExperimentalWarning",
      "--test",
      `--test-name-pattern=${pattern}`,
      "--test-reporter=spec",
      row.file,
    ],
    {
      cwd: root,
      env: { ...process.env, FAMFS_TEST_CASES: String(cases), FAMFS_TEST_SEED: String(seed), PATH: path() },
      stdio: ["ignore", "pipe", "inherit"],
      signal: stop.signal,
    },
  );
  let output = "";
  child.stdout.on("data", (piece: Buffer) => {
    output += piece.toString();
  });
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  child.on("error", (error) => resolve(error.message));
  child.on("close", (status) => resolve(status === 0 && /^ℹ pass 1$/m.test(output) ? undefined : output));
  return promise;
}

function path(): string {
  return `${dirname(process.execPath)}:${process.env["PATH"] ?? ""}`;
}

function table(): string {
  const number = (count: number) => count.toLocaleString("en-US");
  const lines = [...tallies].map(
    ([{ what, file, test }, { cases, seconds, failures }]) =>
      `| ${what} | ${test} | \`${file}\` | ${number(cases)} | ${failures} | ${Math.round(seconds)} |`,
  );
  const total = [...tallies.values()].reduce((sum, { cases }) => sum + cases, 0);
  const failures = [...tallies.values()].reduce((sum, tally) => sum + tally.failures, 0);
  return [
    "| | property | file | cases | failures | seconds |",
    "|---|---|---|---|---|---|",
    ...lines,
    `| | all, seed ${firstSeed} | | ${number(total)} | ${failures} | |`,
    "",
  ].join("\n");
}
