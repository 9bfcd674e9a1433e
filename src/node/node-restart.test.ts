import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { isRunning, mountsBelow } from "./testing/probes.ts";
import { testCluster } from "./testing/test-node.ts";

const skip = skipWithoutMounts();

test("every call may come twice, and after a restart of the plugin at every step", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.stage("v1");
  await a.restart();
  await a.stage("v1");
  await a.publish("v1", "pod");
  await a.publish("v1", "pod");
  await writeFile(join(a.target("pod"), "kept"), "1");
  await a.restart();
  await a.stage("v1");
  await a.publish("v1", "pod");
  assert.equal(await readFile(join(a.target("pod"), "kept"), "utf8"), "1");
  assert.equal((await a.stats("v1", a.target("pod"))).volumeCondition?.abnormal, false);
  await a.restart();
  await a.unpublish("v1", "pod");
  await a.unpublish("v1", "pod");
  await a.restart();
  await a.unstage("v1");
  await a.unstage("v1");
  await a.restart();
  await a.unstage("v1");
  assert.deepEqual(await mountsBelow(cluster.directory), []);
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.staged, {});
});

test("a server that hangs is told as a condition; no call waits for it for long", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  const pid = (await a.plugin.serverPid()) ?? 0;
  process.kill(pid, "SIGSTOP");
  try {
    const { volumeCondition } = await a.stats("v1", a.stagingPath("v1"));
    assert.match(volumeCondition?.message ?? "", /does not answer/);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  assert.equal((await a.stats("v1", a.stagingPath("v1"))).volumeCondition?.abnormal, false);
});

test("a plugin that is killed takes its server with it, and the next one waits for that", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stop();
  const killed = spawn(process.execPath, [join(import.meta.dirname, "testing", "run-plugin.ts")], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, FAMFS_TEST_NODE: JSON.stringify({ ...a.settings, clusterDirectory: cluster.directory }) },
  });
  const [line] = (await once(killed.stdout, "data")) as [Buffer];
  const serverPid = Number(line.toString());
  await writeFile(join(a.stagingPath("v1"), "closed"), "not sealed yet");
  killed.kill("SIGKILL");
  await a.restart(); // its FUSE server starts only when the other is gone
  assert.ok(!isRunning(serverPid));
  await a.stage("v1");
  assert.equal(await readFile(join(a.stagingPath("v1"), "closed"), "utf8"), "not sealed yet");
});
