/** The files that the cases copy from: the same bytes in every run, on an ordinary file system. */
import { createCipheriv } from "node:crypto";
import { chmodSync, lutimesSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const MIB = 2 ** 20;

/** `length` bytes that look random and are the same for the same seed. */
export function patterned(seed: number, length: number): Buffer {
  return createCipheriv("aes-128-ctr", Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(length));
}

/**
 * Fills `directory`: one, two (1 MiB), three (3 MiB and a bit), small, text, tree/ with all kinds, plain/ with files
 * only.
 */
export function makeInputs(directory: string): void {
  const at = (...path: string[]) => join(directory, ...path);
  for (const folder of ["tree/sub/deeper", "tree/empty", "plain/sub"]) mkdirSync(at(folder), { recursive: true });
  writeFileSync(at("one"), patterned(1, MIB));
  writeFileSync(at("two"), patterned(2, MIB));
  writeFileSync(at("three"), patterned(3, 3 * MIB + 4711));
  writeFileSync(at("small"), "a small file\n");
  writeFileSync(at("text"), Array.from({ length: 2000 }, (_, i) => `line ${i} ${(i * 7919) % 1009}\n`).join(""));

  writeFileSync(at("tree/a.txt"), "the first file of the tree\n");
  writeFileSync(at("tree/sub/b.bin"), patterned(4, 2 * MIB + 17));
  writeFileSync(at("tree/sub/empty"), "");
  writeFileSync(at("tree/sub/deeper/page"), patterned(5, 4096));
  writeFileSync(at("tree/sub/deeper/script"), "#!/bin/sh\necho script\n");
  const long = `a-name-of-two-hundred-bytes-${"x".repeat(172)}`;
  writeFileSync(at("tree/sub/deeper", long), "long\n");
  symlinkSync("sub/b.bin", at("tree/link"));
  symlinkSync("sub", at("tree/link-to-directory"));
  symlinkSync("nowhere/at/all", at("tree/broken"));
  for (const [path, mode] of [
    ["tree/a.txt", 0o640],
    ["tree/sub/b.bin", 0o444],
    ["tree/sub/deeper/script", 0o755],
    ["tree/empty", 0o1777],
    ["tree/sub/deeper", 0o750],
  ] as const) {
    chmodSync(at(path), mode);
  }
  writeFileSync(at("plain/x"), patterned(6, 70_000));
  writeFileSync(at("plain/sub/y"), patterned(7, 5));

  // Times in the past, in whole seconds (tar and zip keep no more), parents last.
  let time = 1_000_000_000;
  for (const link of ["link", "link-to-directory", "broken"]) lutimesSync(at("tree", link), time, time++);
  for (const path of [
    "a.txt",
    "sub/b.bin",
    "sub/empty",
    "sub/deeper/page",
    "sub/deeper/script",
    `sub/deeper/${long}`,
  ]) {
    utimesSync(at("tree", path), time, time++);
  }
  for (const path of ["sub/deeper", "sub", "empty", "."]) utimesSync(at("tree", path), time, time++);
}
