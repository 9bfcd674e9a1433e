/**
 * A node plugin that is stopped or killed at any step and started again: every call repeats, nothing written is lost.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { skipWithoutMounts } from "../support/kernel.ts";
import { mountsBelow } from "../support/leftovers.ts";
import { simulatedDevice } from "../support/program.ts";
import { Claim, type Standalone, startStandalone } from "../support/standalone.ts";

const MIB = 2 ** 20;
const skip = skipWithoutMounts();

for (const how of ["stop", "kill"] as const) {
  test(`after ${how} and start at every step, each call repeats and the files are there`, { skip }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "restart-"));
    using device = simulatedDevice("1Gi");
    let running: Standalone = await startStandalone(directory, device.url);
    const restart = async () => {
      await running[how]();
      running = await startStandalone(directory, device.url);
    };
    try {
      const claim = new Claim(`restarted-${process.pid}-${how}`, directory, "SINGLE_NODE_WRITER");
      const volumeId = await claim.create(running.client, 64 * MIB);
      await restart();
      assert.equal(await claim.create(running.client, 64 * MIB), volumeId, "the same claim finds its volume");

      await claim.attach(running.client, volumeId);
      const file = join(claim.target, "kept");
      // flush = fsync: what an application was told is durable must be there.
      writeFileSync(file, "written before", { flush: true });
      await claim.detach(running.client, volumeId);
      await restart();
      await claim.attach(running.client, volumeId);
      assert.equal(readFileSync(file, "utf8"), "written before");

      // Killed while published: an orchestrator repeats its calls.
      await restart();
      await claim.attach(running.client, volumeId);
      assert.equal(readFileSync(file, "utf8"), "written before");
      writeFileSync(join(claim.target, "after"), "written after");
      await claim.detach(running.client, volumeId);
      await claim.detach(running.client, volumeId);
      await restart();
      await claim.detach(running.client, volumeId);

      await claim.remove(running.client, volumeId);
      await restart();
      await claim.remove(running.client, volumeId);
      const { entries } = await running.client.call("controller", "ListVolumes", {});
      assert.deepEqual(entries, []);
      assert.notEqual(await claim.create(running.client, 64 * MIB), "", "its room is used again");
      rmdirSync(claim.staging);
    } finally {
      await running.stop();
    }
    assert.deepEqual(mountsBelow(directory), []);
    rmSync(directory, { recursive: true, force: true });
  });
}
