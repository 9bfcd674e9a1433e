/** csi-sanity, the CSI project's own conformance suite, against `famfs-csi standalone`. Nothing is skipped by us. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { skipWithoutMounts } from "../support/kernel.ts";
import { mountsBelow } from "../support/leftovers.ts";
import { csiSanityProgram, firstMissing, missingCsiSanity } from "../support/prerequisites.ts";
import { simulatedDevice } from "../support/program.ts";
import { startStandalone } from "../support/standalone.ts";

const SUITE_MS = 8 * 60_000;

function runSuite(directory: string, socket: string): Promise<{ status: number | null; output: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number | null; output: string }>();
  const child = spawn(
    csiSanityProgram,
    [
      `--csi.endpoint=unix://${socket}`,
      // Neither may exist: the suite makes and removes them.
      `--csi.mountdir=${join(directory, "targets")}`,
      `--csi.stagingdir=${join(directory, "staging")}`,
      "--csi.testnodevolumeattachlimit",
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

/** Why the suite itself leaves a test out: what we do not advertise. Anything else that is left out is a failure. */
const NOT_ADVERTISED = [
  "ControllerExpandVolume not supported",
  "ControllerGetVolumeHealth not supported",
  "ControllerListVolumeHealth not supported",
  "ControllerModifyVolume not supported",
  "CreateSnapshot not supported",
  "DeleteSnapshot not supported",
  "GetSnapshot not supported",
  "GroupControllerService not supported",
  "ListSnapshots not supported",
  "Modify Volume not supported",
  "Modify volume not supported",
  "NodeExpandVolume not supported",
  "NodeGetStorageHealth not supported",
  "NodeGetVolumeHealth not supported",
  "Snapshot not supported",
  "Volume Cloning not supported",
];

test("csi-sanity passes against standalone", {
  skip: firstMissing(skipWithoutMounts(), missingCsiSanity()),
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "sanity-"));
  // The suite's volumes are 10 GiB each, and it fills a node; a sparse device costs no memory.
  using device = simulatedDevice("4Ti");
  const { server, socket, stop } = await startStandalone(directory, device.url);
  try {
    const { status, output } = await runSuite(directory, socket);
    const summary = output.split("\n").filter((line) => /^Ran \d+ of \d+ Specs|^(SUCCESS|FAIL)!/.test(line));
    process.stdout.write(`csi-sanity: ${summary.join(" ")}\n`);
    for (const line of output.split("\n")) if (/\[FAILED\]|\[FAIL\]/.test(line)) process.stdout.write(`  ${line}\n`);
    assert.equal(status, 0, `${output.slice(-30_000)}\nstandalone said:\n${server.said().slice(-10_000)}`);
    assert.match(summary.join(" "), /SUCCESS! -- [1-9]\d* Passed \| 0 Failed/);
    const reasons = [...output.matchAll(/^ +\[SKIPPED\] (?!in )(.+)$/gm)].map((match) => match[1] ?? "");
    assert.deepEqual(
      reasons.filter((reason) => !NOT_ADVERTISED.includes(reason)),
      [],
    );
    // 52 for what we advertise; one more is disabled in the suite's source.
    assert.ok(Number(/Ran (\d+) of/.exec(summary.join(" "))?.[1]) >= 52, summary.join(" "));
  } finally {
    await stop();
  }
  assert.deepEqual(mountsBelow(directory), []);
  assert.deepEqual(
    readdirSync(directory).filter((name) => name !== "state"),
    [],
    "the socket and the suite's directories are gone",
  );
  rmSync(directory, { recursive: true, force: true });
});
