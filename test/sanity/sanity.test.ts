/** csi-sanity, the CSI project's own conformance suite, against `famfs-csi standalone`. Nothing is skipped by us. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { skipWithoutMounts } from "../support/kernel.ts";
import { mountsBelow } from "../support/leftovers.ts";
import { csiSanityProgram, firstMissing, missingCsiSanity } from "../support/prerequisites.ts";
import { type Running, simulatedDevice, startProgram } from "../support/program.ts";

const START_MS = 30_000;
const SUITE_MS = 8 * 60_000;

async function socketOf(server: Running, path: string): Promise<void> {
  const deadline = performance.now() + START_MS;
  while (!existsSync(path)) {
    if (server.child.exitCode !== null) throw new Error(`standalone ended:\n${server.said()}`);
    if (performance.now() > deadline) throw new Error(`no socket after ${START_MS} ms:\n${server.said()}`);
    await setTimeout(50);
  }
}

function runSuite(directory: string, socket: string): Promise<{ status: number | null; output: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number | null; output: string }>();
  const child = spawn(
    csiSanityProgram,
    [
      `--csi.endpoint=unix://${socket}`,
      // Neither may exist: the suite makes and removes them.
      `--csi.mountdir=${join(directory, "targets")}`,
      `--csi.stagingdir=${join(directory, "staging")}`,
      "--ginkgo.no-color",
      "--ginkgo.v",
    ],
    { cwd: directory, stdio: ["ignore", "pipe", "pipe"], timeout: SUITE_MS, killSignal: "SIGKILL" },
  );
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  child.on("error", reject);
  child.on("close", (status) => resolve({ status, output }));
  return promise;
}

test("csi-sanity passes against standalone", {
  skip: firstMissing(skipWithoutMounts(), missingCsiSanity()),
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "sanity-"));
  // The suite's volumes are 10 GiB each; a sparse device costs no memory.
  using device = simulatedDevice("1Ti");
  const socket = join(directory, "csi.sock");
  const server = startProgram(
    "standalone",
    `--endpoint=unix://${socket}`,
    "--node-id=sanity-node",
    `--state-dir=${join(directory, "state")}`,
    `--device=${device.url}`,
  );
  try {
    await socketOf(server, socket);
    const { status, output } = await runSuite(directory, socket);
    const summary = output.split("\n").filter((line) => /^Ran \d+ of \d+ Specs|^(SUCCESS|FAIL)!/.test(line));
    process.stdout.write(`csi-sanity: ${summary.join(" ")}\n`);
    for (const line of output.split("\n")) if (/\[FAILED\]|\[FAIL\]/.test(line)) process.stdout.write(`  ${line}\n`);
    assert.equal(status, 0, `${output.slice(-30_000)}\nstandalone said:\n${server.said().slice(-10_000)}`);
    assert.match(summary.join(" "), /SUCCESS! -- [1-9]\d* Passed \| 0 Failed/);
    assert.ok(Number(/Ran (\d+) of/.exec(summary.join(" "))?.[1]) >= 60, "most of the suite ran");
  } finally {
    await server.stop();
  }
  assert.deepEqual(mountsBelow(directory), []);
  assert.deepEqual(
    readdirSync(directory).filter((name) => name !== "state"),
    [],
    "the socket and the suite's directories are gone",
  );
  rmSync(directory, { recursive: true, force: true });
});
