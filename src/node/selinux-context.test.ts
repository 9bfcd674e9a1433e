/** What every kernel shows; labels on files are seen in test/devdax/selinux.test.ts. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { codeIs, mountsBelow } from "./testing/probes.ts";
import { capability, testCluster } from "./testing/test-node.ts";

const MODE = "MULTI_NODE_MULTI_WRITER";
/** No policy has it. */
const FLAG = 'context="famfs_test_u:object_r:famfs_test_t:s0:c1,c2"';
const labelled = (flag = FLAG) => ({ volumeCapability: capability(MODE, { mountFlags: [flag] }) });

const skip = skipWithoutMounts();
const hasSeLinux = /\tselinuxfs$/m.test(readFileSync("/proc/filesystems", "latin1"));

test("a label that the kernel does not take: the error names the flag and the way out, and nothing stays", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  const way = hasSeLinux ? "policy of this node has no such label: load one" : "SELinux is off .* leave the flag out";
  await assert.rejects(
    a.stage("v1", MODE, labelled()),
    codeIs("FAILED_PRECONDITION", new RegExp(`does not take mount flag ${FLAG} .*${way}`)),
  );
  assert.deepEqual(await mountsBelow(cluster.directory), []);
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.staged, {});
  assert.deepEqual(await readdir(join(a.directory, "run", "volumes")), []);
  await a.stage("v1");
  await writeFile(join(a.stagingPath("v1"), "f"), "served without it");
});

test("a label is that of the whole mount: once staged without, no call adds one", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  const conflict = codeIs("ALREADY_EXISTS", /with no SELinux label, not with .*famfs_test_t:s0:c1,c2/);
  await assert.rejects(a.stage("v1", MODE, labelled()), conflict);
  await assert.rejects(a.publish("v1", "pod", labelled()), conflict);
  assert.deepEqual(await mountsBelow(cluster.directory), [a.stagingPath("v1")]);
  await a.publish("v1", "pod");
});

test("a flag that is no label is refused before anything is mounted", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  for (const flag of ['context="u:r:t:s0",suid', "context=", 'rootcontext="u:r:t:s0"']) {
    await assert.rejects(a.stage("v1", MODE, labelled(flag)), codeIs("INVALID_ARGUMENT", /mount flag "/));
  }
  assert.deepEqual(await mountsBelow(cluster.directory), []);
});
