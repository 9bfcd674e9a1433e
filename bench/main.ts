/**
 * `npm run bench`: one table, everything measured in one run on one machine. Rounds go over all file systems in turn
 * and medians are compared, so that what the machine does besides hits all of them alike.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openBench, type Peer } from "./peers.ts";
import { DATA_FILE, DATA_MIB, MANY_DIRECTORY, MANY_FILES, measureRow, ROWS } from "./rows.ts";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" }, output: { type: "string" } } });
const rounds = Math.max(1, Number(values.rounds) || 5);

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

const number = (value: number) =>
  value >= 100 ? Math.round(value).toLocaleString("en").padStart(9) : value.toFixed(value >= 10 ? 1 : 2).padStart(9);

function line(name: string, unit: string, cells: readonly string[]): void {
  process.stdout.write(`${name.padEnd(31)} ${unit.padEnd(10)} ${cells.join(" ")}\n`);
}

const results: Record<string, unknown>[] = [];

await using bench = await openBench();
for (const { directory } of bench.peers) prepare(directory);

const samples = new Map<string, number[]>();
const key = (row: string, peer: Peer["name"]) => `${row}|${peer}`;
for (let round = 0; round <= rounds; round++) {
  process.stderr.write(`round ${round} of ${rounds}${round === 0 ? " (warms up, not counted)" : ""}\n`);
  for (const row of ROWS) {
    for (const { name, directory } of bench.peers) {
      const value = await measureRow(bench.measure, row, directory);
      if (round > 0) samples.set(key(row.name, name), [...(samples.get(key(row.name, name)) ?? []), value]);
    }
  }
}

line("", "", ["    famfs", "  libfuse", "    tmpfs", " /libfuse", "   /tmpfs", "     aim"]);
for (const row of ROWS) {
  const of = (peer: Peer["name"]) => median(samples.get(key(row.name, peer)) ?? []);
  const [famfs, libfuse, tmpfs] = [of("famfs"), of("libfuse"), of("tmpfs")];
  const there = famfs / libfuse >= row.aim ? "yes" : "no";
  line(
    row.name,
    row.unit,
    [famfs, libfuse, tmpfs, famfs / libfuse, famfs / tmpfs].map(number).concat(`${row.aim}x ${there}`.padStart(8)),
  );
  results.push({ row: row.name, unit: row.unit, famfs, libfuse, tmpfs, aim: row.aim });
}
