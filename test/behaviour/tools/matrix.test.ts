/** The tool matrix on a real mount, each case with its expected outcome; printed as a table. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { skipWithoutMounts } from "../../support/kernel.ts";
import { manifest } from "../../support/manifest.ts";
import { type Mounted, mountDevice, runProgram, type SimulatedDevice, simulatedDevice } from "../../support/program.ts";
import { CASES } from "./cases/index.ts";
import { makeInputs } from "./inputs.ts";
import { directoryName, expectedOutcome, missingFor, type Place, runCase } from "./run-case.ts";
import { readTable, renderTable } from "./table.ts";

const skip = skipWithoutMounts();
const lines: string[] = [];

describe("the tool matrix on a real mount", { skip }, () => {
  let device: SimulatedDevice;
  let mounted: Mounted;
  let place: Place;

  before(async () => {
    device = simulatedDevice("64Gi");
    mounted = await mountDevice(device.url);
    const scratch = mkdtempSync(join(tmpdir(), "tools-"));
    place = { directory: mounted.directory, inputs: join(scratch, "in"), scratch, elsewhere: false };
    mkdirSync(place.inputs);
    makeInputs(place.inputs);
  });

  after(async () => {
    process.stdout.write(`\n${lines.join("\n")}\n\n`);
    await mounted.unmount();
    rmSync(place.scratch, { recursive: true, force: true });
    device[Symbol.dispose]();
  });

  for (const one of CASES) {
    test(one.name, { skip: missingFor(one) }, async () => {
      const verdict = await runCase(one, place);
      lines.push(
        `${verdict.outcome.padEnd(18)} ${Math.round(verdict.milliseconds).toString().padStart(6)} ms  ${one.name}`,
      );
      assert.equal(verdict.outcome, expectedOutcome(one, place), verdict.output);
    });
  }

  test("what the cases left is clean for fsck and the same after a remount", async () => {
    const seen = manifest(mounted.directory);
    await mounted.unmount();
    const fsck = await runProgram("fsck", device.url);
    assert.equal(fsck.status, 0, fsck.stdout + fsck.stderr);
    mounted = await mountDevice(device.url);
    assert.deepEqual(manifest(mounted.directory), seen);
  });
});

test("the matrix has at least 45 cases, each with a directory of its own", () => {
  assert.ok(CASES.length >= 45, `${CASES.length} cases`);
  assert.equal(new Set(CASES.map(directoryName)).size, CASES.length);
  for (const one of CASES) assert.equal(Number(one.bash === undefined) + Number(one.python === undefined), 1, one.name);
});

test("docs/tools.md shows the matrix as it is", () => {
  assert.equal(readTable(), renderTable(), "run: node test/behaviour/tools/table.ts --write");
});
