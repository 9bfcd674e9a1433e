/** What nodes that share a volume wait for: new files, each other, and memory whose caches do not agree. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { syncDirectory, writeBytes } from "./rows.ts";
import { limited, percentile, type Result } from "./samples.ts";
import { startStack } from "./stack.ts";

const run = promisify(execFile);

const VOLUME_MIB = 4096;
const SEEN_FILES = 40;
const TURNS = 15;
const RACE_MS = 3000;
const TIMEOUT_MS = 120_000;

export interface Programs {
  readonly scratch: string;
  /** The compiled contend.c and measure.c. */
  readonly contend: string;
  readonly measure: string;
}

/** Directories of one volume on so many nodes, while `work` runs. */
async function withVolume(
  scratch: string,
  { nodes, coherency }: { readonly nodes: number; readonly coherency: "single-host" | "flush" },
  work: (directories: string[]) => Promise<void>,
): Promise<void> {
  const poolMebibytes = VOLUME_MIB + 1024;
  await using stack = await startStack({ parent: scratch, nodes, poolMebibytes, coherency });
  const volume = await stack.createVolume("bench", VOLUME_MIB);
  const directories: string[] = [];
  for (let node = 0; node < nodes; node++) directories.push(await volume.attach(node));
  await work(directories);
  for (let node = 0; node < nodes; node++) await volume.detach(node);
}

function numbers(text: string, word: string): number[] {
  const lines = text.split("\n").map((line) => line.trim());
  if (word === "") return lines.filter((line) => line !== "").map(Number);
  return lines.filter((line) => line.startsWith(`${word} `)).map((line) => Number(line.slice(word.length + 1)));
}

async function seen({ contend }: Programs, rounds: number, [a = "", b = ""]: string[]): Promise<number[][]> {
  const samples: number[][] = [];
  for (let round = 0; round < rounds; round++) {
    const { stdout } = await run(contend, ["seen", a, b, String(SEEN_FILES)], { timeout: TIMEOUT_MS });
    samples.push(numbers(stdout, ""));
  }
  return samples;
}

const share = (samples: readonly number[][], at: number) => samples.map((list) => percentile(list, at));

async function handOver({ contend }: Programs, rounds: number, directories: string[]): Promise<Result[]> {
  const turns: number[][] = [];
  const raced: number[][] = [];
  const fairness: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const byTurns = await run(contend, ["turns", String(TURNS), ...directories], { timeout: TIMEOUT_MS });
    turns.push(numbers(byTurns.stdout, "").slice(directories.length)); // the first ones may come from anywhere
    const { stdout } = await run(contend, ["race", String(RACE_MS), ...directories], { timeout: TIMEOUT_MS });
    raced.push(numbers(stdout, "handover"));
    const opens = numbers(stdout, "opens");
    fairness.push(Math.max(...opens) / Math.max(1, Math.min(...opens)));
  }
  const nodes = `${directories.length} nodes`;
  return [
    limited(`hand-over by turns, ${nodes}, p50`, "ms", share(turns, 0.5), 5),
    limited(`hand-over by turns, ${nodes}, p99`, "ms", share(turns, 0.99), 20),
    limited(`hand-over in a race, ${nodes}, p50`, "ms", share(raced, 0.5), 5),
    limited(`hand-over in a race, ${nodes}, p99`, "ms", share(raced, 0.99), 20),
    limited(`race, ${nodes}, fairness`, "max/min", fairness, 1.2),
  ];
}

async function busyPair({ contend }: Programs, rounds: number, directories: string[]): Promise<Result> {
  const rates: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const { stdout } = await run(contend, ["create", String(RACE_MS), ...directories], { timeout: TIMEOUT_MS });
    rates.push(...numbers(stdout, "rate"));
  }
  return { ...limited("two busy writers together", "files/s", rates), better: "more" };
}

/** fsync of a large file where stores have to be written back. */
async function fsyncFlush({ measure }: Programs, rounds: number, [a = ""]: string[]): Promise<number[]> {
  const path = join(a, "large");
  await writeBytes(path, 1024);
  await syncDirectory(a);
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const { stdout } = await run(measure, ["fsync", path, "10"], { timeout: TIMEOUT_MS });
    samples.push(percentile(numbers(stdout, ""), 0.5));
  }
  return samples;
}

export interface SharingRow {
  readonly name: string;
  readonly measure: (programs: Programs, rounds: number) => Promise<Result[]>;
}

export const SHARING_ROWS: readonly SharingRow[] = [
  {
    name: "sealed to seen",
    async measure(programs, rounds) {
      const results: Result[] = [];
      await withVolume(programs.scratch, { nodes: 2, coherency: "single-host" }, async (directories) => {
        const samples = await seen(programs, rounds, directories);
        results.push(
          limited("sealed to seen elsewhere, p50", "ms", share(samples, 0.5)),
          limited("sealed to seen elsewhere, p99", "ms", share(samples, 0.99), 5),
        );
      });
      return results;
    },
  },
  {
    name: "hand-over, busy writers",
    async measure(programs, rounds) {
      const results: Result[] = [];
      await withVolume(programs.scratch, { nodes: 2, coherency: "single-host" }, async (directories) => {
        results.push(...(await handOver(programs, rounds, directories)));
        results.push(await busyPair(programs, rounds, directories));
      });
      await withVolume(programs.scratch, { nodes: 3, coherency: "single-host" }, async (directories) => {
        results.push(...(await handOver(programs, rounds, directories)));
      });
      return results;
    },
  },
  {
    name: "flush",
    async measure(programs, rounds) {
      const results: Result[] = [];
      await withVolume(programs.scratch, { nodes: 2, coherency: "flush" }, async (directories) => {
        const samples = await seen(programs, rounds, directories);
        results.push(
          limited("sealed to seen elsewhere on flush, p99", "ms", share(samples, 0.99)),
          limited("fsync of 4 KiB in 1 GiB on flush", "ms", await fsyncFlush(programs, rounds, directories), 0.2),
        );
      });
      return results;
    },
  },
];
