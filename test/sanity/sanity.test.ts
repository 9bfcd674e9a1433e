/** csi-sanity, the CSI project's own conformance suite, against `famfs-csi standalone`. Nothing is skipped by us. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { checkSanity, csiSanity } from "../support/csi-sanity.ts";
import { skipWithoutMounts } from "../support/kernel.ts";
import { mountsBelow } from "../support/leftovers.ts";
import { firstMissing, missingCsiSanity } from "../support/prerequisites.ts";
import { simulatedDevice } from "../support/program.ts";
import { startStandalone } from "../support/standalone.ts";

const SUITE_MS = 8 * 60_000;

test("csi-sanity passes against standalone", {
  skip: firstMissing(skipWithoutMounts(), missingCsiSanity()),
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "sanity-"));
  // The suite's volumes are 10 GiB each, and it fills a node; a sparse device costs no memory.
  using device = simulatedDevice("4Ti");
  const { server, socket, stop } = await startStandalone(directory, device.url);
  try {
    const result = await csiSanity({ node: socket, directory, timeoutMs: SUITE_MS });
    process.stdout.write(`${checkSanity(result, `standalone said:\n${server.said().slice(-10_000)}`)}\n`);
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
