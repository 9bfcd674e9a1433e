// Compiles the addon with the system's C compiler: every .c file of this folder into build/famfs.node.
// Headers come from the node-api-headers package, so nothing is downloaded; plain Node-API makes one binary
// serve every Node from 20 on.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, renameSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const headers = createRequire(import.meta.url)("node-api-headers").include_dir;
const out = join(here, "build", "famfs.node");
mkdirSync(dirname(out), { recursive: true });
const sources = readdirSync(here).filter((file) => file.endsWith(".c"));
const args = [
  "-std=gnu11",
  "-O2",
  "-g",
  "-fPIC",
  "-shared",
  "-pthread",
  "-D_GNU_SOURCE",
  "-Wall",
  "-Wextra",
  "-Werror",
  ...(process.env.CFLAGS ?? "").split(" ").filter(Boolean),
  "-fvisibility=hidden",
  "-DNAPI_VERSION=9",
  "-isystem",
  headers,
  "-o",
  `${out}.new`,
  ...sources.map((file) => join(here, file)),
];
const result = spawnSync(process.env.CC ?? "cc", args, { stdio: "inherit" });
if (result.error) throw result.error;
if (result.status !== 0) process.exit(result.status ?? 1);
renameSync(`${out}.new`, out); // a process that has the old one loaded keeps it
