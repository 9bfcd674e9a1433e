/** The checkout as JavaScript, as the image has it: under emulation a start from TypeScript takes half a minute. */
import { spawnSync } from "node:child_process";
import { cpSync, globSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Compiles into `directory`, which must not exist. */
export function compileCheckout(directory: string): void {
  const compiler = join(root, "node_modules/.bin/tsc");
  const compiled = spawnSync(compiler, ["--noCheck", "--rootDir", root, "--outDir", directory], {
    cwd: root,
    encoding: "utf8",
  });
  if (compiled.status !== 0) throw new Error(`tsc: ${compiled.stdout}${compiled.stderr}`);
  for (const file of globSync("**/*.test.js", { cwd: directory })) rmSync(join(directory, file));
  for (const file of ["package.json", "proto", "native/build"]) {
    cpSync(join(root, file), join(directory, file), { recursive: true });
  }
  symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
}
