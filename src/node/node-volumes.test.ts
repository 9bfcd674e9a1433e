import assert from "node:assert/strict";
import { open, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { updateRecord } from "../state/index.ts";
import { eventually, failingStore } from "./testing/fixtures.ts";
import { codeIs, mountsBelow, run } from "./testing/probes.ts";
import { testCluster } from "./testing/test-node.ts";

const skip = skipWithoutMounts();

test("what cannot be is refused with the code that CSI gives it", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await assert.rejects(a.stage("nope"), codeIs("NOT_FOUND"));
  await assert.rejects(a.publish("nope", "pod"), codeIs("NOT_FOUND"));
  await assert.rejects(a.publish("v1", "pod"), codeIs("FAILED_PRECONDITION", /not staged/));
  await assert.rejects(a.stats("v1", a.target("pod")), codeIs("NOT_FOUND"));
  await assert.rejects(
    a.stage("v1", "MULTI_NODE_MULTI_WRITER", { stagingTargetPath: "relative" }),
    codeIs("INVALID_ARGUMENT"),
  );
  await assert.rejects(a.stage("v1", "MULTI_NODE_MULTI_WRITER", { volumeId: "" }), codeIs("INVALID_ARGUMENT"));
  const volumeContext = { device: "/dev/dax0.0" };
  await assert.rejects(a.stage("v1", undefined, { volumeContext }), codeIs("INVALID_ARGUMENT", /"device" is unknown/));
  const publishContext = { "famfs.csi.dev/role": "root" };
  await assert.rejects(a.stage("v1", undefined, { publishContext }), codeIs("INVALID_ARGUMENT", /publish_context/));
  const block = { volumeCapability: { accessMode: { mode: "SINGLE_NODE_WRITER" }, block: {} } };
  await assert.rejects(a.stage("v1", "SINGLE_NODE_WRITER", block), codeIs("FAILED_PRECONDITION", /block/));
  await assert.rejects(a.publish("v1", "pod", block), codeIs("FAILED_PRECONDITION", /block/));
  await assert.rejects(
    a.publish("v1", "pod", { stagingTargetPath: "" }),
    codeIs("FAILED_PRECONDITION", /staging_target_path is missing/),
  );

  await writeFile(a.stagingPath("file"), "");
  const onFile = { stagingTargetPath: a.stagingPath("file") };
  await assert.rejects(a.stage("v1", "MULTI_NODE_MULTI_WRITER", onFile), codeIs("ALREADY_EXISTS", /not a directory/));
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.staged, {}, "a failed stage leaves nothing");
  assert.deepEqual(await mountsBelow(cluster.directory), []);

  await a.stage("v1");
  const elsewhere = { stagingTargetPath: a.stagingPath("other") };
  await assert.rejects(a.stage("v1", "MULTI_NODE_MULTI_WRITER", elsewhere), codeIs("ALREADY_EXISTS", /is staged at/));
  await assert.rejects(a.stage("v1", "SINGLE_NODE_WRITER"), codeIs("ALREADY_EXISTS", /not as asked for/));
  await assert.rejects(
    a.publish("v1", "pod", { mode: "SINGLE_NODE_WRITER" }),
    codeIs("FAILED_PRECONDITION", /staged as MULTI_NODE_MULTI_WRITER .* published as SINGLE_NODE_WRITER/),
  );
  await a.publish("v1", "pod");
  await assert.rejects(a.publish("v1", "pod", { readonly: true }), codeIs("ALREADY_EXISTS", /other options/));
  await assert.rejects(a.unstage("v1"), codeIs("FAILED_PRECONDITION", /still published/));
  await assert.rejects(a.stats("v1", "/"), codeIs("INVALID_ARGUMENT"));
  await assert.rejects(a.stats("v1", "/tmp"), codeIs("NOT_FOUND"));
  await assert.rejects(a.stats("v1", "some/path"), codeIs("NOT_FOUND"));
  const outward = { volumeId: "v1", targetPath: `${a.target("pod")}/../pod` };
  await assert.rejects(a.client.call("node", "NodeUnpublishVolume", outward), codeIs("INVALID_ARGUMENT"));

  await cluster.volume("v2", { published: {}, phase: "Ready" });
  await assert.rejects(a.stage("v2"), codeIs("UNAVAILABLE", /not published to node a/));
});

test("a volume that is in use is not unstaged; the call succeeds when it comes again later", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  const file = await open(join(a.stagingPath("v1"), "f"), "w");
  await file.write("x");
  const inUse = new RegExp(`staging/v1 is in use by .*process ${process.pid} .*try again`);
  await assert.rejects(a.unstage("v1"), codeIs("UNAVAILABLE", inUse));
  await file.write("y");
  await file.close();
  await a.unstage("v1");
  await a.stage("v1");
  assert.equal(await readFile(join(a.stagingPath("v1"), "f"), "utf8"), "xy");
});

test("whether a volume is still published is judged by its own mount, also when that is gone from the staging path", {
  skip,
}, async (t) => {
  // Two plugins on one host that know nothing of each other and have the same names.
  const [here, elsewhere] = [await testCluster(t), await testCluster(t)];
  const [a, namesake] = [await here.node("a"), await elsewhere.node("a")];
  for (const [cluster, node] of [
    [here, a],
    [elsewhere, namesake],
  ] as const) {
    await cluster.volume("v1");
    await node.stage("v1");
    await node.publish("v1", "pod");
  }
  await run("umount", [a.stagingPath("v1")]);
  await assert.rejects(a.unstage("v1"), codeIs("FAILED_PRECONDITION", /still published at .*pods\/pod$/));
  await a.restart();
  await a.unpublish("v1", "pod");
  await run("umount", [a.stagingPath("v1")]);
  await a.unstage("v1");
  assert.deepEqual(await mountsBelow(here.directory), []);
  assert.equal((await mountsBelow(elsewhere.directory)).length, 2);
});

test("readers need no owner slot", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  const slots = Object.fromEntries(Array.from({ length: 128 }, (_, slot) => [`n${slot}`, slot]));
  await cluster.volume("v1", { slots });
  await assert.rejects(a.stage("v1"), codeIs("FAILED_PRECONDITION", /128 nodes/));
  await a.stage("v1", "MULTI_NODE_READER_ONLY");
  assert.deepEqual(await readdir(a.stagingPath("v1")), []);
});

test("a volume that is damaged, or not the one expected, is refused and harms no other", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  const [device] = await cluster.store.list("devices");
  const region = { deviceUuid: device?.uuid ?? "", offset: 66 * 2 ** 20, length: 64 * 2 ** 20 };
  await cluster.volume("v2", { uuid: "22222222-2222-3333-4444-555555555555", regions: [region] });
  await a.stage("v2");

  const record = await cluster.store.get("volumes", "v1");
  assert.ok(record);
  await cluster.store.replace("volumes", { ...record, regionGeneration: 7 });
  await assert.rejects(a.stage("v1"), codeIs("DATA_LOSS", /generation 1, expected was volume .* generation 7/));

  const file = await open(cluster.devicePath, "r+");
  await file.write(Buffer.alloc(64, 0xff), 0, 64, 2 * 2 ** 20);
  await file.close();
  await assert.rejects(a.stage("v1"), codeIs("DATA_LOSS", /superblock/));

  assert.deepEqual(await mountsBelow(cluster.directory), [a.stagingPath("v2")]);
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.staged, {});
  await writeFile(join(a.stagingPath("v2"), "f"), "still served");
});

test("whatever the store fails at, the next call puts it right", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const failing = failingStore(cluster.store);
  const a = await cluster.node("a", failing);
  await cluster.volume("v1");
  for (let step = 1, more = true; more; step++) {
    failing.failAt(step);
    await a.stage("v1").catch((error: unknown) => assert.ok(codeIs("UNAVAILABLE")(error)));
    more = failing.failed();
    failing.failAt(0);
    await a.stage("v1");
    await a.publish("v1", "pod");
    await writeFile(join(a.target("pod"), `step${step}`), "x");
    await a.unpublish("v1", "pod");
    failing.failAt(step);
    await a.unstage("v1").catch((error: unknown) => assert.ok(codeIs("UNAVAILABLE")(error)));
    more ||= failing.failed();
    failing.failAt(0);
    await a.unstage("v1");
    assert.deepEqual(await mountsBelow(cluster.directory), []);
    const { staged, writer } = (await cluster.store.get("volumes", "v1")) ?? {};
    assert.deepEqual({ staged, writer }, { staged: {}, writer: undefined });
    assert.ok(step < 20, "the calls of one stage are bounded");
  }
});

test("ReadWriteOncePod admits one target path", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  const mode = "SINGLE_NODE_SINGLE_WRITER";
  await cluster.volume("v1", { published: { a: { accessMode: mode, readonly: false } } });
  await a.stage("v1", mode);
  await a.publish("v1", "pod", { mode });
  await a.publish("v1", "pod", { mode });
  await assert.rejects(a.publish("v1", "second", { mode }), codeIs("FAILED_PRECONDITION", /published at .*pods\/pod/));
  await a.unpublish("v1", "pod");
  await a.publish("v1", "second", { mode });
});

test("two calls for one volume: one is told ABORTED at once", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  const results = await Promise.allSettled([a.stage("v1"), a.stage("v1"), a.stage("v1")]);
  assert.equal(results.filter((result) => result.status === "fulfilled").length, 1);
  for (const result of results) if (result.status === "rejected") assert.ok(codeIs("ABORTED")(result.reason));
});

test("a claim whose answer was lost does not outlive NodeUnstageVolume", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  const staged = { a: { bootId: "of this boot" } };
  await updateRecord(cluster.store, "volumes", "v1", (volume) => ({ ...volume, staged }));
  await a.unstage("v1");
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.staged, {});
});

test("pods of a volume whose memory is bad can go all the same", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "pod");
  await writeFile(join(a.target("pod"), "f"), "never sealed");
  await truncate(cluster.devicePath, 4 * 2 ** 20); // the log, and what is behind it
  await a.unpublish("v1", "pod");
  await a.unstage("v1");
  assert.deepEqual(await mountsBelow(cluster.directory), []);
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.staged, {});
});

test("what a server notices comes into the record, also when the store does not answer at first", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const failing = failingStore(cluster.store);
  const a = await cluster.node("a", failing);
  await cluster.volume("v1");
  await a.stage("v1");
  failing.failAt(1);
  await truncate(cluster.devicePath, 4 * 2 ** 20);
  const condition = await eventually("it is there", async () => {
    return (await cluster.store.get("volumes", "v1"))?.conditions[0];
  });
  assert.ok(failing.failed());
  assert.equal(condition.reason, "MemoryError");
});
