/** The first read of a sealed file on a node that has just mounted its volume, beside the same file elsewhere. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Peer } from "./peers.ts";
import { syncDirectory, writeBytes } from "./rows.ts";
import { type PeerName, type Result, spreadOf } from "./samples.ts";
import { startStack } from "./stack.ts";

const run = promisify(execFile);

const FILE = "first";
const MEBIBYTES = 1024;
const WAYS = { first: "first read of 1 GiB, by read", touch: "first read of 1 GiB, by mmap" } as const;

export async function measureFirstRead(options: {
  readonly scratch: string;
  readonly measure: string;
  readonly peers: readonly Peer[];
  readonly rounds: number;
}): Promise<Result[]> {
  const { scratch, measure, rounds } = options;
  const others = options.peers.filter(({ name }) => name !== "famfs");
  const stack = await startStack({
    parent: scratch,
    nodes: 2,
    poolMebibytes: 4 * MEBIBYTES,
    coherency: "single-host",
  });
  await using _stack = stack;
  const volume = await stack.createVolume("bench", 2 * MEBIBYTES);
  const writer = await volume.attach(0);
  for (const directory of [writer, ...others.map((peer) => peer.directory)]) {
    await writeBytes(join(directory, FILE), MEBIBYTES);
    await syncDirectory(directory);
  }
  const results: Result[] = [];
  for (const [way, row] of Object.entries(WAYS)) {
    const samples = new Map<PeerName, number[]>();
    const once = async (name: PeerName, directory: string) => {
      const { stdout } = await run(measure, [way, join(directory, FILE)], { timeout: 60_000 });
      samples.set(name, [...(samples.get(name) ?? []), Number(stdout) / 1e6]);
    };
    for (let round = 0; round < rounds; round++) {
      await once("famfs", await volume.attach(1, { readonly: true }));
      await volume.detach(1);
      for (const { name, directory } of others) await once(name, directory);
    }
    results.push(resultOf(row, samples));
  }
  await volume.detach(0);
  return results;
}

function resultOf(row: string, samples: ReadonlyMap<PeerName, readonly number[]>): Result {
  const of = (name: PeerName) => samples.get(name) ?? [];
  const ratios = of("famfs").map((value, round) => value / (of("libfuse")[round] ?? Number.NaN));
  const values = Object.fromEntries([...samples].map(([name, list]) => [name, spreadOf(list)]));
  const ratio = spreadOf(ratios);
  const toTmpfs = spreadOf(of("famfs")).median / spreadOf(of("tmpfs")).median;
  const there = ratio.median >= 3 && toTmpfs >= 0.5;
  return { row, unit: "MB/s", better: "more", values, ratio, aim: ">= 3x libfuse, 0.5x tmpfs", there };
}
