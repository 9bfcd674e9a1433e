import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { chmod, open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { Device, formatVolume } from "../media/index.ts";
import { updateRecord } from "../state/index.ts";
import { mountAt, parseMountTable } from "./mount-table.ts";
import { eventually } from "./testing/fixtures.ts";
import { codeIs, mountsBelow, otherMountNamespace, run, writeElsewhere } from "./testing/probes.ts";
import { capability, testCluster } from "./testing/test-node.ts";

const skip = skipWithoutMounts();

test("what one node writes another node reads, and nothing stays mounted", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const [a, b] = [await cluster.node("a"), await cluster.node("b")];
  await cluster.volume("v1");
  for (const node of [a, b]) {
    await node.stage("v1");
    await node.publish("v1", "pod");
  }
  await writeFile(join(a.target("pod"), "model.bin"), Buffer.alloc(3_000_000, 7));
  await a.unpublish("v1", "pod"); // seals it
  const seen = join(b.target("pod"), "model.bin");
  await eventually("node b sees the file", () => existsSync(seen) || undefined);
  assert.deepEqual(await readFile(seen), Buffer.alloc(3_000_000, 7));

  const { usage, volumeCondition } = await b.stats("v1", b.target("pod"));
  const [bytes, inodes] = usage;
  assert.equal(bytes?.unit, "BYTES");
  assert.ok(bytes && bytes.used >= 3_000_000n && bytes.used + bytes.available <= bytes.total);
  assert.equal(inodes?.unit, "INODES");
  assert.ok(inodes && inodes.used >= 1n && inodes.total > 10_000n);
  assert.equal(volumeCondition?.abnormal, false);

  await b.unpublish("v1", "pod");
  for (const node of [a, b]) await node.unstage("v1");
  assert.deepEqual(await mountsBelow(cluster.directory), []);
  assert.equal(existsSync(a.target("pod")), false, "the target is removed");
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.staged, {});
});

test("the right to write moves between idle nodes, with their data", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const [a, b] = [await cluster.node("a"), await cluster.node("b")];
  await cluster.volume("v1");
  for (const node of [a, b]) {
    await node.stage("v1");
    await node.publish("v1", "pod");
  }
  const epochs: number[] = [];
  for (const [round, node] of [a, b, a, b].entries()) {
    await writeElsewhere(join(node.target("pod"), `round${round}`), `by ${node.nodeId}`);
    const writer = (await cluster.store.get("volumes", "v1"))?.writer;
    assert.equal(writer?.nodeId, node.nodeId);
    epochs.push(writer?.epoch ?? 0);
  }
  assert.ok(
    epochs.every((epoch, index) => index === 0 || epoch > (epochs[index - 1] ?? 0)),
    String(epochs),
  );
  for (const node of [a, b]) {
    await eventually("all rounds are seen", async () => (await readdir(node.target("pod"))).length === 4 || undefined);
    assert.equal(await readFile(join(node.target("pod"), "round2"), "utf8"), "by a");
  }
});

test("that another node took the log over is told until this node has it again", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const [a, b] = [await cluster.node("a"), await cluster.node("b")];
  await cluster.volume("v1");
  for (const node of [a, b]) await node.stage("v1");
  await writeElsewhere(join(a.stagingPath("v1"), "one"), "by a");
  // As if a had been silent for longer than its lease.
  await updateRecord(cluster.store, "volumes", "v1", (volume) => ({ ...volume, writer: undefined }));
  await writeElsewhere(join(b.stagingPath("v1"), "two"), "by b");
  const reasonsOf = async () =>
    ((await cluster.store.get("volumes", "v1"))?.conditions ?? []).map(({ reason }) => reason);
  await eventually("it is told", async () => (await reasonsOf()).includes("OwnerLost") || undefined);
  assert.equal((await a.stats("v1", a.stagingPath("v1"))).volumeCondition?.abnormal, true);
  await writeElsewhere(join(a.stagingPath("v1"), "three"), "by a");
  await eventually("it is over", async () => (await reasonsOf()).length === 0 || undefined);
  assert.equal((await a.stats("v1", a.stagingPath("v1"))).volumeCondition?.abnormal, false);
});

test("a node waits for the right to write while files are open for writing on another", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const [a, b] = [await cluster.node("a"), await cluster.node("b")];
  await cluster.volume("v1");
  for (const node of [a, b]) await node.stage("v1");
  const busy = await open(join(a.stagingPath("v1"), "long"), "w");
  await busy.write("first half, ");
  const waiting = writeElsewhere(join(b.stagingPath("v1"), "short"), "by b");
  const outcome = await Promise.race([waiting.then(() => "written"), delay(600, "waiting")]);
  assert.equal(outcome, "waiting");
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.waiters, ["b"]);
  await busy.write("second half");
  await busy.close();
  await waiting;
  const { writer, waiters } = (await cluster.store.get("volumes", "v1")) ?? {};
  assert.equal(writer?.nodeId, "b");
  assert.deepEqual(waiters, []);
  assert.equal(await readFile(join(b.stagingPath("v1"), "long"), "utf8"), "first half, second half");
});

test("with dataWriters any, every node writes sealed files in place, and only names need the grant", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const [a, b] = [await cluster.node("a"), await cluster.node("b")];
  await cluster.volume("v1", { parameters: { dataWriters: "any", sealDelay: "0ms" } });
  for (const node of [a, b]) await node.stage("v1");
  await writeFile(join(a.stagingPath("v1"), "arena"), Buffer.alloc(8192));
  const there = join(b.stagingPath("v1"), "arena");
  await eventually("b sees the arena", () => existsSync(there) || undefined);
  const here = join(a.stagingPath("v1"), "arena");
  const [left, right, reader] = [await open(here, "r+"), await open(there, "r+"), await open(here, "r")];
  const text = async () => (await reader.read(Buffer.alloc(6), 0, 6, 4096)).buffer.toString();
  assert.equal(await text(), "\0".repeat(6));
  await left.write("from a", 0);
  await right.write("from b", 4096);
  assert.equal(await text(), "from b", "no page of what was there before stays with a reader");
  await Promise.all([left.close(), right.close(), reader.close()]);
  assert.equal((await cluster.store.get("volumes", "v1"))?.writer?.nodeId, "a");
  await using device = await Device.open(
    { type: "path", path: cluster.devicePath, sizeBytes: undefined },
    { writable: false },
  );
  const memory = Buffer.from(await device.read(2 * 2 ** 20 + 10 * 2 ** 20, 8192));
  assert.ok(memory.includes("from a") && memory.includes("from b"));
});

test("a read-only target refuses writes and is read-only outside the plugin's view", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const outside = await otherMountNamespace(t, cluster.directory);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "writer");
  await a.publish("v1", "reader", { readonly: true });
  await writeFile(join(a.target("writer"), "f"), "data");
  assert.equal(await readFile(join(a.target("reader"), "f"), "utf8"), "data");
  await assert.rejects(writeFile(join(a.target("reader"), "g"), "x"), { code: "EROFS" });
  const table = parseMountTable(await readFile(`/proc/${outside.pid}/mountinfo`, "utf8"));
  assert.ok(mountAt(table, a.target("reader"))?.options.has("ro"));
  assert.equal(mountAt(table, a.target("writer"))?.options.has("ro"), false);
  await assert.rejects(outside.run("sh", "-c", `echo x > ${a.target("reader")}/g`), /Read-only file system/);
  await outside.run("sh", "-c", `echo x > ${a.target("writer")}/g`);
});

test("a volume for readers is mounted read-only by the driver itself", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  const mode = "MULTI_NODE_READER_ONLY";
  await cluster.volume("v1", { published: { a: { accessMode: mode, readonly: true } } });
  await a.stage("v1", mode);
  await a.publish("v1", "pod", { mode });
  await assert.rejects(writeFile(join(a.target("pod"), "g"), "x"), { code: "EROFS" });
  await assert.rejects(writeFile(join(a.stagingPath("v1"), "g"), "x"), { code: "EROFS" });
});

const onlyRoot = !/^\s*0\s+0\s+4294967295/.test(readFileSync("/proc/self/uid_map", "utf8"));

test("a volume has one mount group on a node; a pod of that group may write without being root", {
  skip: skip || (onlyRoot && "this user namespace has no other users"),
}, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  const mode = "MULTI_NODE_MULTI_WRITER";
  const group = (volumeMountGroup: string) => ({ volumeCapability: capability(mode, { volumeMountGroup }) });
  await a.stage("v1", mode, group("1234"));
  const other = codeIs("FAILED_PRECONDITION", /staged here with fsGroup 1234, not with fsGroup 4321/);
  await assert.rejects(a.stage("v1", mode, group("4321")), other);
  await assert.rejects(a.publish("v1", "pod", group("4321")), other);
  await a.stage("v1");
  await a.publish("v1", "without");
  await a.publish("v1", "pod", group("1234"));
  assert.equal((await stat(a.target("pod"))).gid, 1234);
  await chmod(cluster.directory, 0o755);
  for (const path of [a.directory, join(a.directory, "pods")]) await chmod(path, 0o755);
  const pod = ["--reuid", "1000", "--regid", "1234", "--clear-groups", "sh", "-c"];
  await run("setpriv", [...pod, `echo hello > ${a.target("pod")}/f`]);
  assert.equal(await readFile(join(a.target("pod"), "f"), "utf8"), "hello\n");
  // What databases and ssh look at before they use it.
  const own = `cd ${a.target("pod")}; mkdir data; chmod 00700 data; echo secret > key; chmod 600 key; stat -c %a data key`;
  assert.equal((await run("setpriv", [...pod, own])).stdout, "700\n600\n");
  await assert.rejects(
    run("setpriv", ["--reuid", "1000", "--regid", "99", "--clear-groups", "sh", "-c", `echo x > ${a.target("pod")}/g`]),
  );
});

test("a device of the stock tools is read-only on a host that does not own it; a writing mode is told whose it is", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const uuid = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
  {
    const spec = { type: "path", path: cluster.devicePath, sizeBytes: 256 * 2 ** 20 } as const;
    await using device = await Device.open(spec, { writable: true });
    const format = { uuid, name: "", uid: 0, gid: 0, mode: 0o755, generation: 0, createdSeconds: 0, stock: true };
    await formatVolume(device, device.whole, format);
  }
  const a = await cluster.node("a");
  const volumeId = `adopted-${uuid}`;
  const published = { a: { accessMode: "MULTI_NODE_READER_ONLY", readonly: false } };
  await updateRecord(cluster.store, "volumes", volumeId, (record) => ({ ...record, published }));
  await assert.rejects(
    a.stage(volumeId),
    codeIs("FAILED_PRECONDITION", /stock tools and belongs to the host with the system UUID 0{8}.*use ReadOnlyMany/),
  );
  await a.stage(volumeId, "MULTI_NODE_READER_ONLY");
  await a.publish(volumeId, "pod", { mode: "MULTI_NODE_READER_ONLY" });
  assert.deepEqual(await readdir(a.target("pod")), []);
  await assert.rejects(writeFile(join(a.target("pod"), "f"), "x"), { code: "EROFS" });
});

test("a node says what it is and what it can", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  const info = await a.client.call("node", "NodeGetInfo", {});
  assert.equal(info.nodeId, "a");
  assert.deepEqual(info.accessibleTopology?.segments, { "famfs.csi.dev/fabric": "rack1" });
  const { capabilities } = await a.client.call("node", "NodeGetCapabilities", {});
  assert.ok(capabilities.some(({ rpc }) => rpc?.type === "VOLUME_MOUNT_GROUP"));
});
