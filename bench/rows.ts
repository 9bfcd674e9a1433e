/** The rows that one C program measures on every file system. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

export const DATA_FILE = "data";
export const DATA_MIB = 256;
export const MANY_DIRECTORY = "many";
export const MANY_FILES = 1000;
const CREATED_FILES = 300;
const MILLISECONDS = "300";

export interface Row {
  readonly name: string;
  readonly unit: "MB/s" | "thousand/s";
  /** What of `measure`'s number is one unit. */
  readonly scale: number;
  readonly arguments: (directory: string) => readonly string[];
  /** The aim, as a multiple of the C peer. */
  readonly aim: number;
}

const data = (directory: string) => `${directory}/${DATA_FILE}`;
const many = (directory: string) => `${directory}/${MANY_DIRECTORY}`;
const MIB = String(2 ** 20);

function bytes(name: string, args: (directory: string) => readonly string[], aim = 1): Row {
  return { name, unit: "MB/s", scale: 1e6, arguments: args, aim };
}

function names(name: string, args: (directory: string) => readonly string[], scale = 1e3): Row {
  return { name, unit: "thousand/s", scale, arguments: args, aim: 1 };
}

/** 4 KiB transfers, shown as operations. */
function small(name: string, what: "read" | "write", threads: number): Row {
  return names(name, (d) => [what, "direct", data(d), "4096", MILLISECONDS, String(threads)], 4096 * 1e3);
}

export const ROWS: readonly Row[] = [
  bytes("read 1 MiB direct", (d) => ["read", "direct", data(d), MIB, MILLISECONDS, "1"], 2),
  bytes("write 1 MiB direct", (d) => ["write", "direct", data(d), MIB, MILLISECONDS, "1"]),
  small("read 4 KiB direct", "read", 1),
  small("write 4 KiB direct", "write", 1),
  small("read 4 KiB direct, 4 threads", "read", 4),
  small("write 4 KiB direct, 4 threads", "write", 4),
  bytes("read 1 MiB cached", (d) => ["read", "cached", data(d), MIB, MILLISECONDS, "1"]),
  bytes("mmap read", (d) => ["map", data(d), MILLISECONDS]),
  names("stat", (d) => ["stat", many(d), String(MANY_FILES), MILLISECONDS]),
  names("readdir", (d) => ["readdir", many(d), String(MANY_FILES), MILLISECONDS]),
  names("create, write 4 KiB, close", (d) => ["create", many(d), String(CREATED_FILES)]),
];

/** One measurement, in the row's unit. */
export async function measureRow(program: string, row: Row, directory: string): Promise<number> {
  const { stdout } = await run(program, [...row.arguments(directory)], { timeout: 60_000 });
  return Number(stdout) / row.scale;
}
