import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("main.ts", import.meta.url));
const run = (words: string) =>
  spawnSync("sh", ["-c", `"$NODE" --disable-warning=ExperimentalWarning "$MAIN" ${words}`], {
    env: { ...process.env, NODE: process.execPath, MAIN: main },
    encoding: "utf8",
    timeout: 30_000,
  });

test("--help lists every command, and one that is loaded alone tells about itself", () => {
  const { status, stdout } = run("--help");
  assert.equal(status, 0);
  for (const name of [
    "demo",
    "controller",
    "node",
    "standalone",
    "mkfs",
    "fsck",
    "ls",
    "put",
    "mkdir",
    "mount",
    "device",
  ]) {
    assert.match(stdout, new RegExp(`^  ${name} `, "m"));
  }
  assert.match(run("--output json device --help").stdout, /^Usage: famfs-csi device.*\n {2}init .*\n {2}scan /s);
});

test("an unknown command is a usage error that names what there is", () => {
  const { status, stderr } = run("mout");
  assert.equal(status, 64);
  assert.match(stderr, /unknown command 'mout'.*\n.*Did you mean mount/);
});

test("what a command was called once names the new one, whatever else is said", () => {
  const { status, stderr } = run("device scan --adopt --dry-run --fabric rack1 /dev/null");
  assert.equal(status, 64);
  assert.match(stderr, /"device scan --adopt" is now "device rebuild"/);
});

test("a reader that has seen enough is no error", () => {
  const { stderr } = run("--help | head -c 1 >/dev/null");
  assert.equal(stderr, "");
});
