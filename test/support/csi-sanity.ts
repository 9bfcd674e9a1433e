/** Runs csi-sanity, the CSI project's own conformance suite, and judges what it says. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { csiSanityProgram } from "./prerequisites.ts";

export interface SanityOptions {
  /** Socket of the identity and node services, and of the controller service unless that has one of its own. */
  readonly node: string;
  readonly controller?: string;
  /** The suite makes and removes two directories in it. */
  readonly directory: string;
  /** What precedes the command. */
  readonly enter?: readonly string[];
  readonly timeoutMs: number;
}

export interface SanityResult {
  readonly status: number | null;
  readonly output: string;
}

export function csiSanity({
  node,
  controller,
  directory,
  enter = [],
  timeoutMs,
}: SanityOptions): Promise<SanityResult> {
  const { promise, resolve, reject } = Promise.withResolvers<SanityResult>();
  const [program, ...args] = [
    ...enter,
    csiSanityProgram,
    `--csi.endpoint=unix://${node}`,
    ...(controller === undefined ? [] : [`--csi.controllerendpoint=unix://${controller}`]),
    // Neither may exist: the suite makes and removes them.
    `--csi.mountdir=${join(directory, "targets")}`,
    `--csi.stagingdir=${join(directory, "staging")}`,
    "--csi.testnodevolumeattachlimit",
    "--ginkgo.no-color",
    "--ginkgo.v",
  ];
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
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

/** Throws with what went wrong; answers the suite's own summary. */
export function checkSanity({ status, output }: SanityResult, served = ""): string {
  const lines = output.split("\n");
  const summary = lines.filter((line) => /^Ran \d+ of \d+ Specs|^(SUCCESS|FAIL)!/.test(line)).join(" ");
  // What failed, and what was expected there.
  const failures = lines.flatMap((line, index) => (/\[FAILED\] [^i]/.test(line) ? lines.slice(index, index + 16) : []));
  const names = lines.filter((line) => line.includes("[FAIL]"));
  assert.equal(status, 0, [summary, ...names, ...failures, served].join("\n"));
  assert.match(summary, /SUCCESS! -- [1-9]\d* Passed \| 0 Failed/);
  const reasons = [...output.matchAll(/^ +\[SKIPPED\] (?!in )(.+)$/gm)].map((match) => match[1] ?? "");
  assert.deepEqual(
    reasons.filter((reason) => !NOT_ADVERTISED.includes(reason)),
    [],
  );
  // 52 for what we advertise; one more is disabled in the suite's source.
  assert.ok(Number(/Ran (\d+) of/.exec(summary)?.[1]) >= 52, summary);
  return `csi-sanity: ${summary}`;
}
