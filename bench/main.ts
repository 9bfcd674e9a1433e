/**
 * `npm run bench [-- --rounds N] [-- --only TEXT] [-- --output json] [-- --compare FILE]`: one table, everything
 * measured in one run on one machine. Rounds go over all file systems in turn and medians are compared, so that what
 * the machine does besides hits all alike.
 */
import { readFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { parseArgs } from "node:util";
import { measureFirstRead } from "./first-read.ts";
import { LOG_ENTRIES, measureMount } from "./full-log.ts";
import { measureManyVolumes } from "./many-volumes.ts";
import { type Bench, openBench } from "./peers.ts";
import { cpuMilliseconds } from "./process.ts";
import { prepareFiles, ROWS, type Row } from "./rows.ts";
import { comparison, limited, type PeerName, type Report, type Result, spreadOf, table } from "./samples.ts";
import { SHARING_ROWS } from "./sharing.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    only: { type: "string", multiple: true },
    output: { type: "string" },
    compare: { type: "string" },
  },
});
const rounds = Math.max(1, Number(flags.rounds) || 5);
const wanted = (name: string) => flags.only === undefined || flags.only.some((text) => name.includes(text));
const progress = (text: string) => process.stderr.write(`${text}\n`);

/** One row in one round, on one file system. */
interface Sample {
  readonly value: number;
  readonly serverMicroseconds: number;
}

async function measureRows(bench: Bench, rows: readonly Row[]): Promise<Result[]> {
  const samples = new Map<string, Sample[]>();
  const of = (row: Row, peer: PeerName) => samples.get(`${row.name}|${peer}`) ?? [];
  for (let round = 0; round <= rounds; round++) {
    progress(`round ${round} of ${rounds}${round === 0 ? " (warms up, not counted)" : ""}`);
    for (const row of rows) {
      for (const { name, directory, pid } of bench.peers) {
        const before = pid === undefined ? 0 : cpuMilliseconds(pid);
        const { value, operations } = await row.measure(bench, directory);
        const taken = pid === undefined ? Number.NaN : cpuMilliseconds(pid) - before;
        const sample = { value, serverMicroseconds: (taken * 1e3) / operations };
        if (round > 0) samples.set(`${row.name}|${name}`, [...of(row, name), sample]);
      }
    }
  }
  return rows.map((row) => {
    const values: Result["values"] = {};
    const serverMicroseconds: NonNullable<Result["serverMicroseconds"]> = {};
    for (const { name, pid } of bench.peers) {
      values[name] = spreadOf(of(row, name).map(({ value }) => value));
      if (pid === undefined) continue;
      serverMicroseconds[name] = spreadOf(of(row, name).map((sample) => sample.serverMicroseconds)).median;
    }
    const ratioTo = (peer: PeerName) =>
      spreadOf(of(row, "famfs").map(({ value }, round) => value / (of(row, peer)[round]?.value ?? Number.NaN)));
    const ratio = ratioTo("libfuse");
    const { libfuse, tmpfs } = row.aim;
    const there = ratio.median >= libfuse && (tmpfs === undefined || ratioTo("tmpfs").median >= tmpfs);
    const aim = `>= ${libfuse}x libfuse${tmpfs === undefined ? "" : `, ${tmpfs}x tmpfs`}`;
    return { row: row.name, unit: row.unit, better: "more", values, ratio, serverMicroseconds, aim, there };
  });
}

async function measureAll(): Promise<Result[]> {
  await using bench = await openBench();
  const { scratch, measure, contend, peers } = bench;
  const results: Result[] = [];
  const rows = ROWS.filter(({ name }) => wanted(name));
  if (rows.length > 0) {
    for (const { directory } of peers) await prepareFiles(directory);
    results.push(...(await measureRows(bench, rows)));
  }
  if (wanted("first read")) {
    progress("first read");
    results.push(...(await measureFirstRead({ scratch, measure, peers, rounds })));
  }
  const mount = `mount of a log of ${LOG_ENTRIES.toLocaleString("en")} entries, CPU`;
  if (wanted(mount)) {
    progress(mount);
    results.push(limited(mount, "ms", await measureMount(scratch, rounds), 100));
  }
  for (const { name, measure: measureSharing } of SHARING_ROWS) {
    if (!wanted(name)) continue;
    progress(name);
    results.push(...(await measureSharing({ scratch, measure, contend }, Math.min(rounds, 3))));
  }
  if (wanted("100 volumes")) {
    progress("100 volumes");
    const { megabytes, idlePercent } = await measureManyVolumes(scratch, rounds);
    results.push(
      limited("100 volumes, idle", "% of core", idlePercent, 1),
      limited("100 volumes, 100,000 files, own memory", "MB", megabytes, 200),
    );
  }
  return results;
}

const before = flags.compare === undefined ? undefined : (JSON.parse(readFileSync(flags.compare, "utf8")) as Report);
const machine = `${cpus().length} processors, ${process.arch}, Linux ${release().split(".").slice(0, 2).join(".")}`;
const report: Report = { machine, rounds, results: await measureAll() };
if (flags.output === "json") process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
else process.stdout.write(table(report));
if (before !== undefined) (flags.output === "json" ? process.stderr : process.stdout).write(comparison(before, report));
