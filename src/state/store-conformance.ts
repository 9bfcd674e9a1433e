import assert from "node:assert/strict";
import { test } from "node:test";
import { nameOf } from "./informer.ts";
import type { FamfsVolume, NodeRecord } from "./records.ts";
import { type Shown, type Store, updateRecord } from "./store.ts";

/** What the suite needs: stores that share their contents, as two processes would. */
export interface StoreFixture extends AsyncDisposable {
  /** Another way to the same contents: a second connection or client. Disposed by the caller. */
  open(): Promise<Store>;
}

export const exampleNode: NodeRecord = {
  nodeId: "node-a",
  fabric: "rack-1",
  bootId: "boot-1",
  instance: "instance-1",
  renewedAt: "2026-01-01T00:00:00.000Z",
  leaseSeconds: 15,
  maxVolumes: 256,
};

export const exampleVolume: FamfsVolume = {
  csiName: "pvc-1",
  uuid: "00000000-0000-4000-8000-000000000001",
  claim: { namespace: "team", name: "weights" },
  adopted: false,
  pool: "default",
  fabric: "rack-1",
  capacityBytes: 2 ** 40 + 1,
  regions: [{ deviceUuid: "d", offset: 2 ** 21, length: 2 ** 41 }],
  regionGeneration: 7,
  parameters: { dataWriters: "any" },
  phase: "Ready",
  jobNode: undefined,
  failure: undefined,
  published: { "node-a": { accessMode: "MULTI_NODE_MULTI_WRITER", readonly: false } },
  staged: {},
  writer: { nodeId: "node-a", epoch: 3, since: "2026-01-01T00:00:00.000Z" },
  waiters: ["node-b"],
  epoch: 3,
  slots: { "node-a": 0 },
  slotCount: 128,
  conditions: [
    // The API server refuses two of one type.
    { type: "node-a/Abnormal", status: "True", reason: "LogCorrupt", message: "entry 17", lastTransitionTime: "now" },
    { type: "node-b/Abnormal", status: "True", reason: "LogCorrupt", message: "entry 17", lastTransitionTime: "now" },
  ],
};

/** What every store must do, as tests; `name` precedes their titles. */
export function testStoreConformance(name: string, open: () => Promise<StoreFixture>): void {
  const storeTest = (title: string, body: (store: Store, fixture: StoreFixture) => Promise<void>) =>
    test(`${name}: ${title}`, async () => {
      await using fixture = await open();
      await using store = await fixture.open();
      await body(store, fixture);
    });

  void storeTest("a record comes back as it was written, through every way of reading", async (store, fixture) => {
    const made = await store.create("volumes", "v1", exampleVolume);
    assert.equal(made.name, "v1");
    assert.ok(!Number.isNaN(Date.parse(made.createdAt)));
    const { name: _n, resourceVersion: _v, createdAt: _c, ...body } = made;
    assert.deepEqual(body, exampleVolume);
    await using other = await fixture.open();
    assert.deepEqual(await other.get("volumes", "v1"), made);
    assert.deepEqual(await other.list("volumes"), [made]);
    assert.equal(await store.get("volumes", "v2"), undefined);
    assert.equal(await store.get("nodes", "v1"), undefined, "kinds are apart");
  });

  void storeTest("what no record can be called is missing, like any other", async (store) => {
    for (const name of ["", ".", "..", "a/b", "../famfsdevices/d", "%2e%2e", "A b", "v".repeat(300)]) {
      for (const kind of ["volumes", "devices", "nodes"] as const) {
        assert.equal(await store.get(kind, name), undefined, `${kind} ${JSON.stringify(name)}`);
      }
    }
  });

  void storeTest("lists are in order of name", async (store) => {
    for (const each of ["b", "a-2", "c", "a"]) await store.create("nodes", each, exampleNode);
    assert.deepEqual(
      (await store.list("nodes")).map((record) => record.name),
      ["a", "a-2", "b", "c"],
    );
  });

  void storeTest("create refuses a name that exists; it is free again after delete", async (store) => {
    const first = await store.create("nodes", "n", exampleNode);
    await assert.rejects(store.create("nodes", "n", exampleNode), { code: "CONFLICT" });
    await store.delete("nodes", "n", first.resourceVersion);
    const second = await store.create("nodes", "n", exampleNode);
    assert.notEqual(second.resourceVersion, first.resourceVersion, "versions are never used twice");
    await assert.rejects(store.replace("nodes", first), { code: "CONFLICT" }, "an old copy stays an old copy");
  });

  void storeTest("replace takes the record only at the version that was read", async (store, fixture) => {
    await using other = await fixture.open();
    const read = await store.create("nodes", "n", exampleNode);
    const replaced = await other.replace("nodes", { ...read, bootId: "boot-2" });
    assert.equal(replaced.createdAt, read.createdAt);
    await assert.rejects(store.replace("nodes", { ...read, bootId: "boot-3" }), { code: "CONFLICT" });
    assert.equal((await store.get("nodes", "n"))?.bootId, "boot-2");
    await assert.rejects(store.replace("nodes", { ...read, name: "gone" }), { code: "CONFLICT" });
  });

  void storeTest("delete takes a version too, and does not mind what is gone", async (store) => {
    const read = await store.create("nodes", "n", exampleNode);
    const newer = await store.replace("nodes", { ...read, bootId: "boot-2" });
    await assert.rejects(store.delete("nodes", "n", read.resourceVersion), { code: "CONFLICT" });
    await store.delete("nodes", "n", newer.resourceVersion);
    await store.delete("nodes", "n", newer.resourceVersion);
    assert.equal(await store.get("nodes", "n"), undefined);
  });

  void storeTest("of writers that race by compare-and-swap none is lost", async (store, fixture) => {
    await store.create("volumes", "v", { ...exampleVolume, writer: undefined, epoch: 0 });
    const others = await Promise.all([1, 2, 3].map(() => fixture.open()));
    const rounds = 8;
    const raise = async (one: Store) => {
      for (let round = 0; round < rounds; round++) {
        await updateRecord(one, "volumes", "v", (volume) => ({ ...volume, epoch: volume.epoch + 1 }));
      }
    };
    await Promise.all(others.map(raise));
    assert.equal((await store.get("volumes", "v"))?.epoch, rounds * others.length);
    for (const other of others) await other[Symbol.asyncDispose]();
  });

  void storeTest("of many that create one name exactly one succeeds", async (_store, fixture) => {
    const stores = await Promise.all([1, 2, 3, 4].map(() => fixture.open()));
    const outcomes = await Promise.allSettled(
      stores.map((one, index) => one.create("nodes", "n", { ...exampleNode, instance: `i${index}` })),
    );
    assert.equal(outcomes.filter((outcome) => outcome.status === "fulfilled").length, 1);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") assert.equal((outcome.reason as { code: string }).code, "CONFLICT");
    }
    for (const one of stores) await one[Symbol.asyncDispose]();
  });

  void storeTest(
    "an informer shows what is there, then each change of this and of other processes",
    async (store, fixture) => {
      await using other = await fixture.open();
      await store.create("nodes", "old", exampleNode);
      using seen = collect(store, "nodes");
      await seen.until((changes) => changes.length === 1);
      const made = await store.create("nodes", "mine", exampleNode);
      await other.create("nodes", "theirs", exampleNode);
      await seen.until((changes) => changes.length === 3);
      await other.delete("nodes", "mine", made.resourceVersion);
      await seen.until((changes) => changes.length === 4);
      await store.create("volumes", "v", exampleVolume);
      assert.deepEqual(seen.changes.map(label), ["put old", "put mine", "put theirs", "deleted mine"]);
    },
  );

  void storeTest(
    "an informer never goes back: versions of a record only grow, the last state is seen",
    async (store, fixture) => {
      await using other = await fixture.open();
      await store.create("volumes", "v", { ...exampleVolume, writer: undefined, epoch: 0 });
      using seen = collect(store, "volumes");
      const last = 20;
      await Promise.all(
        [store, other].map(async (one) => {
          for (let i = 0; i < last / 2; i++) {
            await updateRecord(one, "volumes", "v", (volume) => ({ ...volume, epoch: volume.epoch + 1 }));
          }
        }),
      );
      const epochs = () => seen.changes.flatMap((change) => (change.type === "put" ? [change.record.epoch] : []));
      await seen.until(() => epochs().at(-1) === last);
      assert.deepEqual(
        epochs(),
        epochs().toSorted((a, b) => a - b),
      );
    },
  );

  void storeTest(
    "an informer is led from moment to moment: never to a change without those before it",
    async (store, fixture) => {
      await using other = await fixture.open();
      const start = { ...exampleVolume, writer: undefined, epoch: 0 };
      for (const name of ["first", "second"]) await store.create("volumes", name, start);
      const epochs = new Map<string, number>();
      const moments: [first: number, second: number][] = [];
      const informer = store.informer("volumes");
      using _following = informer.onChange((changes) => {
        for (const change of changes) if (change.type === "put") epochs.set(change.record.name, change.record.epoch);
        moments.push([epochs.get("first") ?? -1, epochs.get("second") ?? -1]);
      });
      await informer.resync();
      assert.deepEqual(moments.at(-1), [0, 0]);
      const last = 20;
      for (let epoch = 1; epoch <= last; epoch++) {
        for (const name of ["first", "second"])
          await updateRecord(other, "volumes", name, (found) => ({ ...found, epoch }));
      }
      await informer.resync();
      assert.deepEqual(moments.at(-1), [last, last], "after a resync nothing is missing");
      for (const [first, second] of moments) assert.ok(first === second || first === second + 1, `${first}, ${second}`);
    },
  );

  void storeTest(
    "a handler is shown what is gone, also by a resync, and nothing after its end",
    async (store, fixture) => {
      await using other = await fixture.open();
      const made = await store.create("nodes", "n", exampleNode);
      const seen: string[] = [];
      const informer = store.informer("nodes");
      const following = informer.onChange((changes) => {
        for (const change of changes) seen.push(label(change));
      });
      await informer.resync();
      await other.delete("nodes", "n", made.resourceVersion);
      await informer.resync();
      assert.deepEqual(seen, ["put n", "deleted n"]);
      following[Symbol.dispose]();
      await store.create("nodes", "n", exampleNode);
      await informer.resync();
      assert.equal(seen.length, 2);
    },
  );

  void storeTest("after a resync an informer has what others wrote before it", async (store, fixture) => {
    await using other = await fixture.open();
    const informer = store.informer("nodes");
    assert.equal(store.informer("nodes"), informer, "there is one in a process");
    await informer.synced();
    for (const name of ["b", "c"]) await other.create("nodes", name, exampleNode);
    await informer.resync();
    assert.deepEqual([...informer.list()].map(({ name }) => name).toSorted(), ["b", "c"]);
    assert.deepEqual([informer.size, informer.get("b")], [2, await other.get("nodes", "b")]);
    const shown: string[] = [];
    using _late = informer.onChange((changes) => shown.push(...changes.map(label)));
    assert.deepEqual(shown.toSorted(), ["put b", "put c"], "to a late handler at once");
  });

  void storeTest("the first resync of a process has what was written before it, too", async (store, fixture) => {
    await using other = await fixture.open();
    await other.create("nodes", "n", exampleNode);
    const informer = store.informer("nodes");
    await informer.resync();
    assert.notEqual(informer.get("n"), undefined);
  });

  void storeTest(
    "who waits for a record is woken by its change, and by the end of its signal",
    async (store, fixture) => {
      await using other = await fixture.open();
      const informer = store.informer("nodes");
      await informer.synced();
      const abort = new AbortController();
      let looks = 0;
      const look = () => {
        looks++;
        return informer.get("n")?.bootId;
      };
      const waiting = informer.until(look, { signal: abort.signal, name: "n" });
      await other.create("nodes", "another", exampleNode);
      await informer.resync();
      assert.equal(looks, 1, "the change of another record is none of its business");
      await other.create("nodes", "n", exampleNode);
      assert.equal(await waiting, exampleNode.bootId);
      const never = informer.until(() => undefined, { signal: abort.signal });
      abort.abort();
      assert.equal(await never, undefined);
    },
  );

  void storeTest("everything acknowledged is there after all users have gone", async (store, fixture) => {
    await store.create("volumes", "v", exampleVolume);
    const written = await updateRecord(store, "volumes", "v", (volume) => ({ ...volume, phase: "Reclaiming" }));
    await store[Symbol.asyncDispose]();
    await using reopened = await fixture.open();
    assert.deepEqual(await reopened.get("volumes", "v"), written);
    await assert.rejects(store.get("volumes", "v"), { code: "STORE_UNAVAILABLE" });
  });
}

const label = (change: Shown<"nodes">) => `${change.type} ${nameOf(change)}`;

/** What an informer shows, in a list. `until` waits for a state of it, at most five seconds. */
function collect<K extends "nodes" | "volumes">(store: Store, kind: K) {
  const informer = store.informer(kind);
  const changes: Shown<K>[] = [];
  const following = informer.onChange((step) => changes.push(...step));
  return {
    changes,
    async until(reached: (changes: Shown<K>[]) => boolean): Promise<void> {
      const look = () => reached(changes) || undefined;
      const done = await informer.until(look, { signal: AbortSignal.timeout(5_000) });
      assert.ok(done, `the informer shows ${changes.length} changes and no more`);
    },
    [Symbol.dispose]: () => following[Symbol.dispose](),
  };
}
