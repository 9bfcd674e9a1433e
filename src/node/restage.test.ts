import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { FamfsError } from "../base/index.ts";
import { freeze, updateRecord } from "../state/index.ts";
import { abortConnection } from "./mounts.ts";
import { eventually, intercepted } from "./testing/fixtures.ts";
import { codeIs, container, mountsBelow, run, shareMounts } from "./testing/probes.ts";
import { type TestCluster, type TestNode, testCluster } from "./testing/test-node.ts";

const skip = skipWithoutMounts();

const conditionsOf = async ({ store }: TestCluster, volumeId = "v1") =>
  (await store.get("volumes", volumeId))?.conditions ?? [];

async function killServer(node: TestNode): Promise<void> {
  const died = () => node.events.filter(({ reason }) => reason === "FuseServerDied").length;
  const before = died();
  process.kill((await node.plugin.serverPid()) ?? 0, "SIGKILL");
  await eventually("it is noticed", () => died() > before || undefined);
}

/** Files that a server that dies has lost, if it had not sealed them, are not what this is about. */
const sealed = (path: string) => run("setfattr", ["-n", "user.famfs.seal", "-v", "1", path]).catch(() => delay(1500));

test("a FUSE server that is killed, and killed again: containers go on, new pods start, and all of it ends", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  await shareMounts(cluster.directory);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "pod");
  await a.publish("v1", "reader", { readonly: true });
  await writeFile(join(a.target("pod"), "f"), "1");
  await sealed(join(a.target("pod"), "f"));
  const writer = await container(t, a.target("pod"));
  const reader = await container(t, a.target("reader"));
  // As the kubelet does for another container of the pod, with subPath.
  const subPath = join(a.directory, "subpath");
  for (const path of [subPath, join(a.target("pod"), "part")]) await mkdir(path);
  await run("mount", ["--bind", join(a.target("pod"), "part"), subPath]);
  for (const round of ["first", "second", "third"]) {
    await killServer(a);
    for (const path of [a.stagingPath("v1"), a.target("pod"), a.target("reader")]) {
      await eventually(`${path} after the ${round}`, () => readFile(join(path, "f"), "utf8").catch(() => undefined));
    }
    for (const each of [writer, reader]) {
      await eventually(`a container after the ${round}`, () => each.sh("cat f").catch(() => undefined));
    }
    await writer.sh(`echo more > ${round}`);
    assert.equal(await reader.sh(`cat ${round}`), "more\n");
    await sealed(join(a.target("pod"), round));
    await assert.rejects(reader.sh("echo x > refused"), /Read-only file system/);
    await assert.rejects(writeFile(join(a.target("reader"), "refused"), ""), { code: "EROFS" });
    await a.publish("v1", `new-${round}`);
    assert.equal(await readFile(join(a.target(`new-${round}`), "f"), "utf8"), "1");
  }
  const began = a.events.filter(({ reason }) => reason === "FuseServerDied").map(({ message }) => message);
  assert.match(began[0] ?? "", /died \(killed by SIGKILL\): its volumes are served again/);
  assert.match(began[2] ?? "", /3 times within 10 minutes: its volumes are served again in 2 s/);
  await a.restart();
  await writer.sh("echo more > restarted");
  assert.equal(await reader.sh("cat restarted"), "more\n");
  await run("umount", ["-l", subPath]);
  const there = (await mountsBelow(a.directory)).toSorted();
  const followed = ["pod", "reader"].map((name) => a.target(name));
  const others = ["new-first", "new-second", "new-third"].map((name) => a.target(name));
  assert.deepEqual(
    there,
    [...followed, ...followed, ...others, a.stagingPath("v1")].toSorted(),
    "no dead one too many",
  );
  for (const each of [writer, reader]) await each.end();
  for (const target of ["pod", "reader", "new-first", "new-second", "new-third"]) await a.unpublish("v1", target);
  await eventually("nothing is said any more", async () => (await conditionsOf(cluster)).length === 0 || undefined);
  await a.unstage("v1");
  assert.deepEqual(await mountsBelow(a.directory), []);
});

test("a volume whose server hangs is served again when the watchdog has killed it", { skip }, async (t) => {
  const cluster = await testCluster(t, { watchdog: { periodMs: 200, timeoutMs: 500, startMs: 60_000 } });
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "pod");
  await writeFile(join(a.target("pod"), "f"), "1");
  await sealed(join(a.target("pod"), "f"));
  process.kill((await a.plugin.serverPid()) ?? 0, "SIGSTOP");
  await eventually("it is noticed", () => a.events.some(({ reason }) => reason === "FuseServerDied") || undefined);
  await eventually("it is there again", () => readFile(join(a.target("pod"), "f"), "utf8").catch(() => undefined));
});

test("a restarted plugin serves what was staged and published, without a call", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "pod");
  await a.publish("v1", "reader", { readonly: true });
  await writeFile(join(a.target("pod"), "kept"), "1");
  await a.restart();
  assert.equal(await readFile(join(a.stagingPath("v1"), "kept"), "utf8"), "1");
  assert.equal(await readFile(join(a.target("pod"), "kept"), "utf8"), "1");
  await writeFile(join(a.target("pod"), "new"), "2");
  assert.equal(await readFile(join(a.target("reader"), "new"), "utf8"), "2");
  await assert.rejects(writeFile(join(a.target("reader"), "other"), ""), { code: "EROFS" });
  for (const target of ["pod", "reader"]) await a.unpublish("v1", target);
  await a.unstage("v1");
});

test("what was detached by force while the plugin was away is not served again", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.stop();
  await updateRecord(cluster.store, "volumes", "v1", (volume) => ({ ...volume, published: {} }));
  await a.restart();
  await assert.rejects(readFile(join(a.stagingPath("v1"), "any")), { code: "ENOTCONN" });
  const [condition] = await eventually("it is said", async () => {
    const said = await conditionsOf(cluster);
    return said.length > 0 ? said : undefined;
  });
  assert.match(condition?.message ?? "", /it was detached from this node by force/);
  await assert.rejects(a.publish("v1", "pod"), codeIs("UNAVAILABLE", /no longer published to node a.*try again/));
  await a.unstage("v1");
  assert.deepEqual(await mountsBelow(cluster.directory), []);
});

test("a pod gets a volume that is not served yet as soon as it is, and is told to wait until then", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  // The next look at the memory finds another volume there.
  const generation = (regionGeneration: number) =>
    updateRecord(cluster.store, "volumes", "v1", (volume) => ({ ...volume, regionGeneration }));
  await generation(7);
  await killServer(a);
  await assert.rejects(
    a.publish("v1", "pod"),
    codeIs("UNAVAILABLE", /not served again yet \(.*generation 7.*try again/),
  );
  assert.match((await a.stats("v1", a.stagingPath("v1"))).volumeCondition?.message ?? "", /nothing serves .* SIGKILL/);
  await generation(1);
  await a.publish("v1", "pod");
  await writeFile(join(a.target("pod"), "f"), "1");
  await a.unpublish("v1", "pod");
  await a.unstage("v1");
});

test("a target that cannot be bound again keeps no other from it, and is tried again", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  for (const target of ["first", "covered", "last"]) await a.publish("v1", target);
  await writeFile(join(a.target("first"), "f"), "1");
  await sealed(join(a.target("first"), "f"));
  await run("mount", ["-t", "tmpfs", "theirs", a.target("covered")]);
  await killServer(a);
  for (const target of ["first", "last"]) {
    await eventually(target, () => readFile(join(a.target(target), "f"), "utf8").catch(() => undefined));
  }
  const [condition] = await eventually("it is said", async () => {
    const said = await conditionsOf(cluster);
    return said.some(({ reason }) => reason === "NotServed") ? said : undefined;
  });
  assert.match(condition?.message ?? "", /not mounted again at .*covered: tmpfs theirs was mounted over it/);
  await assert.rejects(a.unstage("v1"), codeIs("FAILED_PRECONDITION", /still published at .*covered/));
  await run("umount", [a.target("covered")]);
  await eventually("covered", () => readFile(join(a.target("covered"), "f"), "utf8").catch(() => undefined));
  for (const target of ["first", "covered", "last"]) await a.unpublish("v1", target);
  await a.unstage("v1");
  assert.deepEqual(await mountsBelow(cluster.directory), []);
});

/** Without the store: what it is asked fails, until `down` is false. */
async function cutOff(t: TestContext) {
  const cluster = await testCluster(t);
  const line = { down: false };
  const store = intercepted(cluster.store, (call) => {
    if (line.down && call !== "watch") throw new FamfsError("STORE_UNAVAILABLE", "the store does not answer");
  });
  const a = await cluster.node("a", { store });
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "pod");
  await writeFile(join(a.target("pod"), "f"), "1");
  await sealed(join(a.target("pod"), "f"));
  return { cluster, line, a, read: () => readFile(join(a.target("pod"), "f"), "utf8").catch(() => undefined) };
}

test("a FUSE server that dies while the store does not answer: what is staged is served, and new pods get it", {
  skip,
}, async (t) => {
  const { cluster, line, a, read } = await cutOff(t);
  line.down = true;
  await killServer(a);
  await eventually("it is read", read);
  await a.publish("v1", "new");
  await assert.rejects(writeFile(join(a.target("new"), "g"), ""), { code: "EAGAIN" });
  line.down = false;
  await eventually("it is written", () =>
    writeFile(join(a.target("new"), "g"), "").then(
      () => true,
      () => undefined,
    ),
  );
  await updateRecord(cluster.store, "volumes", "v1", (volume) => ({ ...volume, published: {} }));
  await eventually("it can be taken away", async () => (await read()) === undefined || undefined);
});

test("a plugin that starts while the store does not answer serves what is staged, and goes on when it does", {
  skip,
}, async (t) => {
  const { cluster, line, a, read } = await cutOff(t);
  await a.stop();
  line.down = true;
  const restarted = a.restart();
  await eventually("it is read", read);
  assert.deepEqual(await cluster.store.list("nodes").then((nodes) => nodes.length), 1);
  line.down = false;
  await restarted;
  await writeFile(join(a.target("pod"), "g"), "2");
  assert.equal((await a.stats("v1", a.target("pod"))).volumeCondition?.abnormal, false);
  await a.unpublish("v1", "pod");
  await a.unstage("v1");
  assert.deepEqual(await mountsBelow(cluster.directory), []);
});

test("what was taken away while neither plugin nor store were there is given up when the store is back", {
  skip,
}, async (t) => {
  const { cluster, line, a, read } = await cutOff(t);
  await a.stop();
  line.down = true;
  const restarted = a.restart();
  await eventually("it is read", read);
  await updateRecord(cluster.store, "volumes", "v1", (volume) => ({ ...volume, published: {} }));
  line.down = false;
  await restarted;
  await eventually("it is given up", async () => (await read()) === undefined || undefined);
  assert.deepEqual((await cluster.store.get("volumes", "v1"))?.staged, {});
  await a.unpublish("v1", "pod");
  await a.unstage("v1");
});

test("a store that was restored from a backup takes nothing away from a plugin that starts", { skip }, async (t) => {
  const { cluster, a, read } = await cutOff(t);
  const { store } = cluster;
  const uuid = (await store.list("devices"))[0]?.uuid ?? "";
  const before = await store.get("volumes", "v1");
  await a.stop();
  await updateRecord(store, "volumes", "v1", (volume) => ({ ...volume, published: {}, staged: {} }));
  await freeze(store, uuid, "the store was restored from a backup");
  await a.restart();
  assert.equal(await read(), "1");
  await delay(1500); // it is asked again
  assert.equal(await read(), "1");
  // As device rebuild and the attacher do.
  const { published = {}, staged = {} } = before ?? {};
  await updateRecord(store, "volumes", "v1", (volume) => ({ ...volume, published, staged }));
  await updateRecord(store, "devices", uuid, (device) => ({ ...device, frozen: undefined }));
  await writeFile(join(a.target("pod"), "g"), "2");
});

test("a volume whose record was lost is served by a plugin that starts, while the memory has it", {
  skip,
}, async (t) => {
  const { cluster, a, read } = await cutOff(t);
  const { store } = cluster;
  await a.stop();
  const lost = await store.get("volumes", "v1");
  assert.ok(lost);
  const { name, resourceVersion, ...volume } = lost;
  await store.delete("volumes", name, resourceVersion);
  await a.restart();
  assert.equal(await read(), "1");
  assert.deepEqual(
    a.events.filter(({ reason }) => reason === "NotServed"),
    [],
  );
  await store.create("volumes", name, volume);
  await eventually("it is written", () =>
    writeFile(join(a.target("pod"), "g"), "").then(
      () => true,
      () => undefined,
    ),
  );
});

test("a connection is ended though its server does not answer, and what waits for it fails", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  const pid = (await a.plugin.serverPid()) ?? 0;
  process.kill(pid, "SIGSTOP");
  try {
    const waiting = run("stat", [join(a.stagingPath("v1"), "x")]);
    await abortConnection(a.stagingPath("v1"));
    await assert.rejects(waiting, /not connected|connection abort/i);
    assert.deepEqual(await mountsBelow(a.stagingPath("v1")), [a.stagingPath("v1")]);
  } finally {
    process.kill(pid, "SIGCONT");
  }
});
