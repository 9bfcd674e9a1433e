/** Paths of requests that are not what they seem: symlinks, files, loops, and places inside other mounts. */
import assert from "node:assert/strict";
import { mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { codeIs, mountsBelow } from "./testing/probes.ts";
import { type TestNode, testCluster } from "./testing/test-node.ts";

const skip = skipWithoutMounts();
const MODE = "MULTI_NODE_MULTI_WRITER";

const unpublishAt = (node: TestNode, targetPath: string) =>
  node.client.call("node", "NodeUnpublishVolume", { volumeId: "v1", targetPath });

test("directories on the way may be symlinks, as below a moved /var/lib/kubelet: one mount, by whatever name", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  const moved = join(cluster.directory, "kubelet");
  await symlink(a.directory, moved);
  const viaLink = { stagingTargetPath: join(moved, "staging", "v1") };
  await a.stage("v1", MODE, viaLink);
  await a.stage("v1");
  await a.publish("v1", "pod", { ...viaLink, targetPath: join(moved, "pods", "pod") });
  await a.publish("v1", "pod");
  assert.deepEqual(
    (await mountsBelow(cluster.directory)).toSorted(),
    [a.target("pod"), a.stagingPath("v1")].toSorted(),
  );
  await writeFile(join(a.target("pod"), "f"), "x");
  assert.equal((await a.stats("v1", join(moved, "pods", "pod"))).volumeCondition?.abnormal, false);
  await unpublishAt(a, join(moved, "pods", "pod"));
  await a.unstage("v1");
  assert.deepEqual(await mountsBelow(cluster.directory), []);
});

test("a path that is itself a symlink is refused, and nothing is mounted or removed where it leads", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  const outside = join(cluster.directory, "outside");
  await mkdir(outside);
  await symlink(outside, a.stagingPath("link"));
  await symlink(join(cluster.directory, "nowhere"), a.stagingPath("dangling"));
  for (const name of ["link", "dangling"]) {
    const stagingTargetPath = a.stagingPath(name);
    await assert.rejects(a.stage("v1", MODE, { stagingTargetPath }), codeIs("ALREADY_EXISTS", /not a directory/));
  }
  await a.stage("v1");
  await symlink(outside, a.target("pod"));
  await assert.rejects(a.publish("v1", "pod"), codeIs("ALREADY_EXISTS", /not a directory/));
  await unpublishAt(a, a.target("pod"));
  assert.deepEqual(await readdir(outside), []);
  assert.deepEqual(await readdir(join(a.directory, "pods")), ["pod"]);
  assert.deepEqual(await mountsBelow(cluster.directory), [a.stagingPath("v1")]);
  assert.ok(!(await readdir(cluster.directory)).includes("nowhere"));
});

test("a symlink to a published volume is not that volume", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "pod");
  await symlink(a.target("pod"), a.target("alias"));
  await assert.rejects(a.stats("v1", a.target("alias")), codeIs("NOT_FOUND"));
  await unpublishAt(a, a.target("alias"));
  assert.ok((await mountsBelow(cluster.directory)).includes(a.target("pod")), "still published");
});

test("paths that lead nowhere are refused with their reason, and are no obstacle to being taken away", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await writeFile(a.target("file"), "");
  await symlink("loop", a.target("loop"));
  const refused: readonly [string, RegExp][] = [
    [a.target("file/pod"), /its parent does not exist/],
    [a.target("missing/pod"), /its parent does not exist/],
    [a.target("loop/pod"), /ELOOP/],
    [a.target("n".repeat(256)), /ENAMETOOLONG/],
    [a.target(`${"n".repeat(256)}/pod`), /ENAMETOOLONG/],
    [`/${"d/".repeat(3000)}pod`, /limit is 4096/],
    [`${a.target("pod")}\n/../../x`, /\.\./],
    ["/", /root directory/],
  ];
  for (const [targetPath, reason] of refused) {
    await assert.rejects(a.publish("v1", "pod", { targetPath }), codeIs("INVALID_ARGUMENT", reason), targetPath);
  }
  for (const path of [a.target("file/pod"), a.target("missing/pod")]) await unpublishAt(a, path);
  assert.deepEqual(await mountsBelow(cluster.directory), [a.stagingPath("v1")]);
});

test("a volume is not published inside itself, nor over a mount of somebody else", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  for (const targetPath of [a.stagingPath("v1"), join(a.stagingPath("v1"), "pod")]) {
    await assert.rejects(a.publish("v1", "pod", { targetPath }), codeIs("ALREADY_EXISTS", /staging path/));
  }
  assert.deepEqual(await readdir(a.stagingPath("v1")), []);
  await assert.rejects(a.publish("v1", "pod", { targetPath: "/proc" }), codeIs("ALREADY_EXISTS", /is mounted there/));
  await assert.rejects(unpublishAt(a, "/proc"), codeIs("ALREADY_EXISTS", /not what is mounted there/));
});
