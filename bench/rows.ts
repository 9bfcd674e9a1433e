/** The rows that are measured on every file system in turn. */
import { execFile } from "node:child_process";
import { mkdir, open, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

const DATA_FILE = "data";
const DATA_MIB = 256;
const MANY_DIRECTORY = "many";
const MANY_FILES = 1000;
const CREATED_FILES = 1000;
const TAR_FILES = 2000;
const COPY_MIB = 1024;
const MILLISECONDS = 300;
const TIMEOUT_MS = 120_000;
const BLOCK = 2 ** 20;

/** What the rows need beside the file systems. */
export interface Tools {
  /** The compiled measure.c. */
  readonly measure: string;
  /** Outside of all file systems that are measured: sources of copies. */
  readonly sources: string;
}

export interface Measured {
  /** In the row's unit. */
  readonly value: number;
  /** MiB, files or small requests that the server had to deal with. */
  readonly operations: number;
}

export interface Row {
  readonly name: string;
  readonly unit: "MB/s" | "thousand/s";
  /** The aims, as multiples of the peer in C and of plain tmpfs. */
  readonly aim: { readonly libfuse: number; readonly tmpfs?: number };
  readonly measure: (tools: Tools, directory: string) => Promise<Measured>;
}

type Arguments = (directory: string) => readonly string[];

const data = (directory: string) => join(directory, DATA_FILE);
const many = (directory: string) => join(directory, MANY_DIRECTORY);
const MIB = String(BLOCK);
const TIME = String(MILLISECONDS);

/** `measure` prints units per second, `perValue` of which are one of `unit`, and `perOperation` one operation. */
function measured(
  name: string,
  unit: Row["unit"],
  aim: Row["aim"],
  args: Arguments,
  scale: { readonly perValue: number; readonly perOperation: number; readonly seconds?: number },
): Row {
  return {
    name,
    unit,
    aim,
    async measure({ measure }, directory) {
      const { stdout } = await run(measure, [...args(directory)], { timeout: TIMEOUT_MS });
      const rate = Number(stdout);
      const operations = (rate * (scale.seconds ?? MILLISECONDS / 1e3)) / scale.perOperation;
      return { value: rate / scale.perValue, operations };
    },
  };
}

function bytes(name: string, args: Arguments, libfuse = 1): Row {
  return measured(name, "MB/s", { libfuse }, args, { perValue: 1e6, perOperation: BLOCK });
}

function names(name: string, args: Arguments, libfuse = 1): Row {
  return measured(name, "thousand/s", { libfuse }, args, { perValue: 1e3, perOperation: 1 });
}

/** 4 KiB transfers, shown as operations. */
function small(what: "read" | "write", threads: number): Row {
  const name = `${what} 4 KiB direct, ${threads} thread${threads > 1 ? "s" : ""}`;
  const args: Arguments = (d) => [what, "direct", data(d), "4096", TIME, String(threads)];
  return measured(name, "thousand/s", { libfuse: 1 }, args, { perValue: 4096 * 1e3, perOperation: 4096 });
}

/** A program that people use, from its start to its end. */
function timed(
  name: string,
  unit: Row["unit"],
  aim: Row["aim"],
  work: { readonly operations: number; readonly perSecond: number },
  command: (tools: Tools, directory: string) => readonly [string, ...string[]],
): Row {
  return {
    name,
    unit,
    aim,
    async measure(tools, directory) {
      const made = join(directory, "made");
      await mkdir(made);
      try {
        const [program, ...args] = command(tools, made);
        const started = performance.now();
        await run(program, args, { timeout: TIMEOUT_MS });
        const seconds = (performance.now() - started) / 1e3;
        return { value: work.perSecond / seconds, operations: work.operations };
      } finally {
        await rm(made, { recursive: true });
      }
    },
  };
}

const create = measured(
  "create, write 4 KiB, close",
  "thousand/s",
  { libfuse: 1 },
  (d) => ["create", many(d), String(CREATED_FILES)],
  { perValue: 1e3, perOperation: 1, seconds: 0 },
);

export const ROWS: readonly Row[] = [
  timed(
    "cp of a new 1 GiB file",
    "MB/s",
    { libfuse: 1.2, tmpfs: 0.5 },
    { operations: COPY_MIB, perSecond: (COPY_MIB * BLOCK) / 1e6 },
    ({ sources }, made) => ["cp", join(sources, "large"), join(made, "large")],
  ),
  {
    ...create,
    measure: async (tools, directory) => ({
      value: (await create.measure(tools, directory)).value,
      operations: CREATED_FILES,
    }),
  },
  timed(
    "tar -x of 2,000 files of 4 KiB",
    "thousand/s",
    { libfuse: 1 },
    { operations: TAR_FILES, perSecond: TAR_FILES / 1e3 },
    ({ sources }, made) => ["tar", "-xf", join(sources, "small.tar"), "-C", made],
  ),
  small("read", 1),
  small("write", 1),
  small("read", 4),
  small("write", 4),
  bytes("read 1 MiB direct", (d) => ["read", "direct", data(d), MIB, TIME, "1"], 2),
  bytes("write 1 MiB direct", (d) => ["write", "direct", data(d), MIB, TIME, "1"]),
  bytes("read 1 MiB cached", (d) => ["read", "cached", data(d), MIB, TIME, "1"], 0.98),
  bytes("mmap read", (d) => ["map", data(d), TIME], 0.98),
  names("stat", (d) => ["stat", many(d), String(MANY_FILES), TIME], 0.98),
  names("readdir", (d) => ["readdir", many(d), String(MANY_FILES), TIME]),
];

/** What copies are made of. */
export async function prepareSources(sources: string): Promise<void> {
  await mkdir(sources);
  await writeBytes(join(sources, "large"), COPY_MIB);
  const files = join(sources, "small");
  await writeMany(files, TAR_FILES, Buffer.alloc(4096, 0x5a));
  await run("tar", ["-cf", join(sources, "small.tar"), "-C", sources, "small"]);
  await rm(files, { recursive: true });
}

/** The files that the rows read, the same on every file system; sealed on famfs. */
export async function prepareFiles(directory: string): Promise<void> {
  await writeBytes(join(directory, DATA_FILE), DATA_MIB);
  await writeMany(many(directory), MANY_FILES, Buffer.from("x"));
  for (const path of [many(directory), directory]) await syncDirectory(path);
}

async function writeMany(directory: string, count: number, content: Uint8Array): Promise<void> {
  await mkdir(directory);
  for (let i = 0; i < count; i++) await writeFile(join(directory, String(i)), content);
}

/** Not synchronously: the node plugins of a stack are in this process, and opening for write may wait for them. */
export async function writeBytes(path: string, mebibytes: number): Promise<void> {
  const block = Buffer.alloc(BLOCK, 0x5a);
  await using file = await open(path, "w");
  for (let i = 0; i < mebibytes; i++) await file.write(block);
}

/** What lies in a directory of famfs is sealed afterwards. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync().catch(() => undefined); // fuse-native does not have it
}
