import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { EmbeddedStore } from "./embedded-store.ts";
import { updateRecord } from "./store.ts";
import { exampleNode, exampleVolume, testStoreConformance } from "./store-conformance.ts";

async function temporaryState(): Promise<{ stateDir: string } & AsyncDisposable> {
  const stateDir = await mkdtemp(join(tmpdir(), "famfs-state-"));
  return { stateDir, [Symbol.asyncDispose]: () => rm(stateDir, { recursive: true, force: true }) };
}

testStoreConformance("embedded store", async () => {
  const { stateDir, [Symbol.asyncDispose]: dispose } = await temporaryState();
  return { open: () => EmbeddedStore.open({ stateDir, pollMs: 5 }), [Symbol.asyncDispose]: dispose };
});

test("the state is readable by its owner alone", async () => {
  await using state = await temporaryState();
  const stateDir = join(state.stateDir, "made", "here");
  await using _store = await EmbeddedStore.open({ stateDir });
  assert.equal((await stat(stateDir)).mode & 0o777, 0o700);
  assert.equal((await stat(join(stateDir, "state.sqlite"))).mode & 0o777, 0o600);
});

test("what a newer version put into a record survives a change by this one", async () => {
  await using state = await temporaryState();
  await using store = await EmbeddedStore.open(state);
  await store.create("volumes", "v", exampleVolume);
  using database = new DatabaseSync(join(state.stateDir, "state.sqlite"));
  database.exec("UPDATE records SET body = json_set(body, '$.later', 1, '$.writer.later', 2)");
  await updateRecord(store, "volumes", "v", (volume) => ({ ...volume, jobNode: "node-a", waiters: [] }));
  await updateRecord(store, "volumes", "v", (volume) => ({ ...volume, jobNode: undefined }));
  const { body } = database.prepare("SELECT body FROM records").get() ?? {};
  const { later, writer, jobNode, waiters } = JSON.parse(String(body)) as Record<string, unknown>;
  assert.deepEqual({ later, writer }, { later: 1, writer: { ...exampleVolume.writer, later: 2 } });
  assert.deepEqual({ jobNode, waiters }, { jobNode: undefined, waiters: [] }, "what is ours goes when it shall");
});

/** A process that raises the epoch of volume `v` for ever and prints each number that was acknowledged. */
const WRITER = `
  import { EmbeddedStore } from ${JSON.stringify(new URL("./embedded-store.ts", import.meta.url).href)};
  import { updateRecord } from ${JSON.stringify(new URL("./store.ts", import.meta.url).href)};
  const store = await EmbeddedStore.open({ stateDir: process.argv[1] });
  for (;;) {
    const volume = await updateRecord(store, "volumes", "v", (old) => ({ ...old, epoch: old.epoch + 1 }));
    process.stdout.write(volume.epoch + "\\n");
  }`;

test("processes that are killed lose nothing they were told is stored, and give no number twice", async () => {
  await using state = await temporaryState();
  await using store = await EmbeddedStore.open(state);
  await store.create("volumes", "v", { ...exampleVolume, epoch: 0 });
  const acknowledged: number[] = [];
  const killed = [0, 1].map(async () => {
    const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", WRITER, state.stateDir]);
    const text: string[] = [];
    child.stdout.setEncoding("utf8").on("data", (part: string) => text.push(part));
    child.stderr.resume();
    const exited = once(child, "close");
    while (text.join("").split("\n").length < 20 && child.exitCode === null) await once(child.stdout, "data");
    child.kill("SIGKILL");
    await exited;
    // The last line may be cut.
    acknowledged.push(...text.join("").split("\n").slice(0, -1).map(Number));
  });
  await Promise.all(killed);
  assert.ok(acknowledged.length >= 38, `${acknowledged.length} numbers`);
  assert.equal(new Set(acknowledged).size, acknowledged.length);
  const { epoch } = (await store.get("volumes", "v")) ?? { epoch: -1 };
  assert.ok(epoch >= Math.max(...acknowledged), `${epoch} is stored, ${Math.max(...acknowledged)} was acknowledged`);
});

test("a lock held by another process is waited for without stopping this one", async () => {
  await using state = await temporaryState();
  await using store = await EmbeddedStore.open(state);
  const other = new DatabaseSync(join(state.stateDir, "state.sqlite"));
  other.exec("BEGIN IMMEDIATE");
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  setTimeout(() => other.exec("ROLLBACK"), 100);
  await store.create("nodes", "n", exampleNode);
  clearInterval(timer);
  assert.ok(ticks >= 5, `${ticks} ticks of a timer while waiting`);
  other.close();
});

test("what is in the store is checked, not believed", async () => {
  await using state = await temporaryState();
  await using store = await EmbeddedStore.open(state);
  const { resourceVersion: _v, ...rest } = await store.create("volumes", "v", exampleVolume);
  const other = new DatabaseSync(join(state.stateDir, "state.sqlite"));
  const write = other.prepare("UPDATE records SET body = ? WHERE kind = 'volumes'");
  for (const [body, message] of [
    ["{", /is not JSON/],
    ["[]", /an object should be/],
    [JSON.stringify({ ...rest, phase: "Sealed" }), /volumes v\.phase: "Sealed" where Pending or Formatting/],
    [JSON.stringify({ ...rest, epoch: 2 ** 60 }), /volumes v\.epoch/],
    [JSON.stringify({ ...rest, regions: [{ deviceUuid: "d", offset: -1, length: 1 }] }), /regions\[0\]\.offset: -1/],
  ] as const) {
    write.run(body);
    await assert.rejects(store.get("volumes", "v"), (error: { code: string; message: string }) => {
      assert.equal(error.code, "INTERNAL");
      assert.match(error.message, message);
      return true;
    });
  }
  other.close();
});

test("a record that cannot be read does not hide the others from an informer, and is named by it", async () => {
  await using state = await temporaryState();
  await using store = await EmbeddedStore.open(state);
  await store.create("nodes", "bad", exampleNode);
  const other = new DatabaseSync(join(state.stateDir, "state.sqlite"));
  other.exec("UPDATE records SET body = '{}'");
  other.close();
  await store.create("nodes", "good", exampleNode);
  const nodes = store.informer("nodes");
  await nodes.synced();
  assert.deepEqual(
    [...nodes.list()].map(({ name }) => name),
    ["good"],
  );
  assert.deepEqual(
    [...nodes.unreadable()].map(({ name }) => name),
    ["bad"],
  );
  await assert.rejects(store.get("nodes", "bad"), { code: "INTERNAL" });
});

test("a record that cannot be read is passed over, and named with its devices to those who must know", async () => {
  await using state = await temporaryState();
  await using store = await EmbeddedStore.open(state);
  for (const name of ["bad", "good", "worse"]) await store.create("volumes", name, exampleVolume);
  const other = new DatabaseSync(join(state.stateDir, "state.sqlite"));
  const write = other.prepare("UPDATE records SET body = ? WHERE name = ?");
  const regions = [{ deviceUuid: "d7", offset: 0, length: 1 }];
  write.run(JSON.stringify({ ...exampleVolume, phase: "Expanding", regions }), "bad");
  write.run("{", "worse");
  other.close();
  const names = (list: readonly { readonly name: string }[]) => list.map(({ name }) => name);
  assert.deepEqual(names(await store.list("volumes")), ["good"]);
  const { records, unreadable } = await store.listAll("volumes");
  assert.deepEqual(names(records), ["good"]);
  assert.deepEqual(
    unreadable.map(({ name, devices }) => [name, devices]),
    [
      ["bad", ["d7"]],
      ["worse", undefined],
    ],
  );
  assert.match(unreadable[0]?.reason ?? "", /volumes bad\.phase: "Expanding"/);
});

const FOREVER = new AbortController().signal;

test("an informer outlives a database that does not answer for a while", async () => {
  await using state = await temporaryState();
  await using store = await EmbeddedStore.open(state);
  const other = new DatabaseSync(join(state.stateDir, "state.sqlite"));
  other.exec("ALTER TABLE records RENAME TO hidden");
  const seen = store.informer("nodes").until(() => store.informer("nodes").get("n"), { signal: FOREVER });
  await assert.rejects(store.list("nodes"), { code: "STORE_UNAVAILABLE" });
  other.exec("ALTER TABLE hidden RENAME TO records");
  other.close();
  await store.create("nodes", "n", exampleNode);
  await seen;
});

test("a file that is no store is refused and left as it is", async () => {
  await using state = await temporaryState();
  const path = join(state.stateDir, "state.sqlite");
  await writeFile(
    path,
    "something else entirely, and long enough to be read as a header of a database file".repeat(20),
  );
  await assert.rejects(EmbeddedStore.open(state), { code: "STORE_UNAVAILABLE" });
});
