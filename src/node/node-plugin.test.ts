import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { chmod, open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { RpcError } from "../csi/index.ts";
import { Device, formatVolume } from "../media/index.ts";
import { updateRecord } from "../state/index.ts";
import { mountAt, parseMountTable, readMountTable } from "./mount-table.ts";
import { cleanup, eventually } from "./testing/fixtures.ts";
import { capability, testCluster } from "./testing/test-node.ts";

const skip = skipWithoutMounts();
const run = promisify(execFile);

const codeIs =
  (code: string, message = /./) =>
  (error: unknown) =>
    error instanceof RpcError && error.code === code && message.test(error.message);

async function mountsBelow(directory: string): Promise<string[]> {
  return (await readMountTable()).map((entry) => entry.target).filter((target) => target.startsWith(directory));
}

function isRunning(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

/** A write by another process, as a pod would do it. */
async function writeElsewhere(path: string, text: string): Promise<void> {
  await run("sh", ["-c", 'printf %s "$2" > "$1"', "sh", path, text]);
}

/** A process in a mount namespace of its own that sees what is mounted below `directory` from now on. */
async function otherMountNamespace(t: TestContext, directory: string) {
  await run("mount", ["--bind", directory, directory]);
  await run("mount", ["--make-shared", directory]);
  const child = spawn("unshare", ["-m", "--propagation", "unchanged", "sh", "-c", "echo ready; exec sleep 600"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  cleanup(t).defer(() => void child.kill());
  await once(child.stdout, "data");
  const pid = child.pid ?? 0;
  return { pid, run: (...command: string[]) => run("nsenter", ["-t", String(pid), "-m", ...command]) };
}

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
  const [left, right] = [await open(join(a.stagingPath("v1"), "arena"), "r+"), await open(there, "r+")];
  await left.write("from a", 0);
  await right.write("from b", 4096);
  await Promise.all([left.close(), right.close()]);
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
  assert.equal((await a.stats("v1", a.target("pod"))).volumeCondition?.abnormal, true);
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

test("a FUSE server that is killed is replaced; its volumes have a condition until they are staged again", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "pod");
  await writeFile(join(a.target("pod"), "f"), "1");
  await delay(1500); // sealed by now
  process.kill((await a.plugin.serverPid()) ?? 0, "SIGKILL");
  const condition = await eventually("the record tells", async () => {
    return (await cluster.store.get("volumes", "v1"))?.conditions[0];
  });
  assert.match(condition.message, /FUSE server of node a died \(killed by SIGKILL\)/);
  await assert.rejects(readFile(join(a.target("pod"), "f")), { code: "ENOTCONN" });
  assert.equal((await a.stats("v1", a.target("pod"))).volumeCondition?.abnormal, true);
  await eventually("a new server is there", async () => {
    await a.stage("v1").catch(() => undefined);
    return (await a.stats("v1", a.stagingPath("v1"))).volumeCondition?.abnormal === false || undefined;
  });
  await a.publish("v1", "pod");
  assert.equal(await readFile(join(a.target("pod"), "f"), "utf8"), "1");
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.conditions, []);
});

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
  await assert.rejects(a.stage("v1", "SINGLE_NODE_WRITER", block), codeIs("INVALID_ARGUMENT", /block/));

  await writeFile(a.stagingPath("file"), "");
  const onFile = { stagingTargetPath: a.stagingPath("file") };
  await assert.rejects(a.stage("v1", "MULTI_NODE_MULTI_WRITER", onFile), codeIs("ALREADY_EXISTS", /not a directory/));
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.staged, {}, "a failed stage leaves nothing");
  assert.deepEqual(await mountsBelow(cluster.directory), []);

  await a.stage("v1");
  const elsewhere = { stagingTargetPath: a.stagingPath("other") };
  await assert.rejects(a.stage("v1", "MULTI_NODE_MULTI_WRITER", elsewhere), codeIs("ALREADY_EXISTS", /is staged at/));
  await assert.rejects(a.stage("v1", "SINGLE_NODE_WRITER"), codeIs("ALREADY_EXISTS", /not as asked for/));
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

const onlyRoot = !/^\s*0\s+0\s+4294967295/.test(readFileSync("/proc/self/uid_map", "utf8"));

test("the first mount group rules; a pod of that group may write without being root", {
  skip: skip || (onlyRoot && "this user namespace has no other users"),
}, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  const mode = "MULTI_NODE_MULTI_WRITER";
  const group = (volumeMountGroup: string) => ({ volumeCapability: capability(mode, { volumeMountGroup }) });
  await a.stage("v1", mode, group("1234"));
  await a.stage("v1", mode, group("4321"));
  await a.publish("v1", "pod", group("4321"));
  assert.equal((await stat(a.target("pod"))).gid, 1234);
  await chmod(cluster.directory, 0o755);
  for (const path of [a.directory, join(a.directory, "pods")]) await chmod(path, 0o755);
  const pod = ["--reuid", "1000", "--regid", "1234", "--clear-groups", "sh", "-c"];
  await run("setpriv", [...pod, `echo hello > ${a.target("pod")}/f`]);
  assert.equal(await readFile(join(a.target("pod"), "f"), "utf8"), "hello\n");
  await assert.rejects(
    run("setpriv", ["--reuid", "1000", "--regid", "99", "--clear-groups", "sh", "-c", `echo x > ${a.target("pod")}/g`]),
  );
});

test("a volume that is in use is not unstaged; the call succeeds when it comes again later", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  const file = await open(join(a.stagingPath("v1"), "f"), "w");
  await file.write("x");
  await assert.rejects(a.unstage("v1"), codeIs("INTERNAL", /umount.*EBUSY/));
  await file.write("y");
  await file.close();
  await a.unstage("v1");
  await a.stage("v1");
  assert.equal(await readFile(join(a.stagingPath("v1"), "f"), "utf8"), "xy");
});

test("readers need no owner slot", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  const slots = Object.fromEntries(Array.from({ length: 63 }, (_, slot) => [`n${slot}`, slot]));
  await cluster.volume("v1", { slots });
  await assert.rejects(a.stage("v1"), codeIs("FAILED_PRECONDITION", /63 nodes/));
  await a.stage("v1", "MULTI_NODE_READER_ONLY");
  assert.deepEqual(await readdir(a.stagingPath("v1")), []);
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

test("a device of the stock tools is published read-only; a writing mode is told why not", { skip }, async (t) => {
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
  await assert.rejects(a.stage(volumeId), codeIs("FAILED_PRECONDITION", /stock tools.*read-only/));
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
