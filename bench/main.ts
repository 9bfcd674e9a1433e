/**
 * `npm run bench [-- --rounds N] [-- --output json]`: one table, everything measured in one run on one machine. Rounds
 * go over all file systems in turn and medians are compared, so that what the machine does besides hits all alike.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { residentMegabytes } from "./memory.ts";
import { type Bench, openBench, type Peer } from "./peers.ts";
import { LOG_ENTRIES, measureReplay } from "./replay.ts";
import { DATA_FILE, DATA_MIB, MANY_DIRECTORY, MANY_FILES, measureRow, ROWS } from "./rows.ts";
import { measureSeen } from "./seen.ts";

/** What the aims of the project say where there is no peer to compare with. */
const REPLAY_MS = 50;
const SEEN_MS = 50 + 5;
const MEMORY_MB = 150;

type Name = Peer["name"];

interface Result {
  readonly row: string;
  readonly unit: string;
  readonly values: Partial<Record<Name, number>>;
  readonly aim: string;
  readonly there: boolean;
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** The files that the rows read, the same everywhere; sealed on famfs. */
function prepare(directory: string): void {
  const mebibyte = Buffer.alloc(2 ** 20, 0x5a);
  const file = openSync(join(directory, DATA_FILE), "w");
  for (let i = 0; i < DATA_MIB; i++) writeSync(file, mebibyte);
  closeSync(file);
  const many = join(directory, MANY_DIRECTORY);
  mkdirSync(many);
  for (let i = 0; i < MANY_FILES; i++) writeFileSync(join(many, String(i)), "x");
  for (const path of [many, directory]) {
    const handle = openSync(path, "r");
    fsyncSync(handle);
    closeSync(handle);
  }
}

async function compare({ measure, peers }: Bench, rounds: number): Promise<Result[]> {
  const samples = new Map<string, number[]>();
  const of = (row: string, peer: Name) => {
    const list = samples.get(`${row}|${peer}`) ?? [];
    samples.set(`${row}|${peer}`, list);
    return list;
  };
  for (let round = 0; round <= rounds; round++) {
    process.stderr.write(`round ${round} of ${rounds}${round === 0 ? " (warms up, not counted)" : ""}\n`);
    for (const row of ROWS) {
      for (const { name, directory } of peers) {
        const value = await measureRow(measure, row, directory);
        if (round > 0) of(row.name, name).push(value);
      }
    }
  }
  return ROWS.map((row) => {
    const [famfs, libfuse, tmpfs] = (["famfs", "libfuse", "tmpfs"] as const).map((peer) => median(of(row.name, peer)));
    return {
      row: row.name,
      unit: row.unit,
      values: { famfs, libfuse, tmpfs } as Record<Name, number>,
      aim: `${row.aim}x libfuse`,
      there: (famfs ?? 0) >= row.aim * (libfuse ?? 0),
    };
  });
}

/** A row where less is better and the aim is a number of its own. */
function limited(row: string, unit: string, famfs: number, limit: number, more: Result["values"] = {}): Result {
  return { row, unit, values: { famfs, ...more }, aim: `<= ${limit} ${unit}`, there: famfs <= limit };
}

function show(value: number | undefined): string {
  if (value === undefined) return "-".padStart(9);
  const text = value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 10 ? 1 : 2);
  return text.padStart(9);
}

function printTable(results: readonly Result[], rounds: number): void {
  const model = cpus()[0]?.model ?? "unknown processor";
  const ratio = (a: number | undefined, b: number | undefined) =>
    a === undefined || b === undefined ? undefined : a / b;
  const heads = ["famfs", "libfuse", "tmpfs", "/libfuse", "/tmpfs"].map((head) => head.padStart(9));
  const lines = results.map(({ row, unit, values: { famfs, libfuse, tmpfs }, aim, there }) =>
    [
      row.padEnd(30),
      unit.padEnd(10),
      ...[famfs, libfuse, tmpfs, ratio(famfs, libfuse), ratio(famfs, tmpfs)].map(show),
      ` ${aim.padEnd(11)} ${there ? "yes" : "not yet"}`,
    ].join(" "),
  );
  process.stdout.write(
    [
      `medians of ${rounds} rounds on ${cpus().length} x ${model}; libfuse is passthrough_ll in C over tmpfs`,
      "",
      ["".padEnd(30), "".padEnd(10), ...heads, " aim         there"].join(" "),
      ...lines,
      "",
    ].join("\n"),
  );
}

const { values: flags } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, output: { type: "string" } },
});
const rounds = Math.max(1, Number(flags.rounds) || 5);

await using bench = await openBench();
for (const { directory } of bench.peers) prepare(directory);
const results = await compare(bench, rounds);

// After the load, so that it counts what serving it took.
const memory = Object.fromEntries(
  bench.peers.flatMap(({ name, pid }) => (pid === undefined ? [] : [[name, residentMegabytes(pid)]])),
) as Partial<Record<Name, number>>;
process.stderr.write("replay and visibility\n");
const replay = median(await measureReplay(bench.scratch, rounds));
const seen = median(await measureSeen(bench.scratch, rounds * 4));

results.push(
  limited(`replay of ${LOG_ENTRIES.toLocaleString("en")} log entries`, "ms", replay, REPLAY_MS),
  limited("sealed to seen on another mount", "ms", seen, SEEN_MS),
  limited("resident memory", "MB", memory.famfs ?? Number.NaN, MEMORY_MB, memory),
);
if (flags.output === "json") process.stdout.write(`${JSON.stringify(results, undefined, 2)}\n`);
else printTable(results, rounds);
