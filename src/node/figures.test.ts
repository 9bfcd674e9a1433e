import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { open, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { eventually } from "./testing/fixtures.ts";
import { run } from "./testing/probes.ts";
import { type TestNode, testCluster } from "./testing/test-node.ts";

const skip = skipWithoutMounts();

async function volumeOf(node: TestNode, volumeId: string) {
  const { server } = await node.plugin.figures();
  const volume = server?.volumes[volumeId];
  assert.ok(volume !== undefined, `${node.nodeId} has no figures of ${volumeId}`);
  return volume;
}

test("a node tells what was done to its volumes, and how far it is in their logs", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const [a, b] = [await cluster.node("a"), await cluster.node("b")];
  await cluster.volume("v1");
  for (const node of [a, b]) await node.stage("v1");
  assert.equal((await volumeOf(a, "v1")).isWriter, false);
  const path = join(a.stagingPath("v1"), "model.bin");
  const file = await open(path, "w");
  await file.write(Buffer.alloc(300_000, 7));
  const writing = await volumeOf(a, "v1");
  assert.deepEqual(
    [writing.openHandles, writing.unsealed, writing.isWriter, writing.requests.opcodes.WRITE?.bytes],
    [1, 1, true, 300_000],
  );
  await file.close();
  const there = join(b.stagingPath("v1"), "model.bin");
  await eventually("node b sees the file", () => existsSync(there) || undefined);
  assert.equal((await readFile(there)).byteLength, 300_000);

  const [wrote, read] = [await volumeOf(a, "v1"), await volumeOf(b, "v1")];
  assert.equal(wrote.requests.opcodes.CREATE?.requests, 1);
  assert.equal(read.requests.opcodes.READ?.bytes, 300_000);
  for (const { replay, unsealed } of [wrote, read]) {
    assert.equal(replay?.position, replay?.published);
    assert.ok(replay !== undefined && replay.position >= 1);
    assert.equal(unsealed, 0);
  }
  assert.equal(wrote.logSlots.used, read.logSlots.used);

  await assert.rejects(truncate(path, 7), { code: "EPERM" });
  await assert.rejects(writeFile(join(a.stagingPath("v1"), "x".repeat(255), "f"), ""), { code: "ENOENT" });
  const { errnos, opcodes } = (await volumeOf(a, "v1")).requests;
  assert.equal(errnos["EPERM"], 1);
  assert.equal(opcodes.SETATTR?.errors, 1);
});

test("figures come in bounded time while the FUSE server hangs, and its loss is counted", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  const before = await a.plugin.figures();
  assert.ok(before.server !== undefined && before.server.process.cpuSeconds > 0);
  const { memoryBytes, cpuSeconds, mainThreadCpuSeconds } = before.server.process;
  assert.ok(memoryBytes > 2 ** 20 && mainThreadCpuSeconds > 0);
  assert.ok(mainThreadCpuSeconds <= cpuSeconds, "waiting for requests is not work");
  assert.ok(before.leaseRemainingMs > 0);
  assert.equal(before.serverStarts, 1);

  const pid = String(await a.plugin.serverPid());
  await run("kill", ["-STOP", pid]);
  const hanging = await a.plugin.figures();
  assert.equal(hanging.server, undefined);
  assert.ok(hanging.leaseRemainingMs > 0);
  await run("kill", ["-CONT", pid]);
  await eventually("the server answers again", async () => (await a.plugin.figures()).server?.volumes["v1"]);

  await run("kill", ["-KILL", pid]);
  const after = await eventually("another server runs", async () => {
    const figures = await a.plugin.figures();
    return figures.serverStarts === 2 ? figures : undefined;
  });
  assert.equal(
    (await eventually("it answers", async () => (await a.plugin.figures()).server)).volumes["v1"],
    undefined,
  );
  assert.equal(after.heartbeatFailures, 0);
});
