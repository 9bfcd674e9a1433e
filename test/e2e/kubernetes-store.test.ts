/** The store on Kubernetes against a real API server: what every store does, and what only this one must survive. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { silentLogger } from "../../src/base/index.ts";
import type { AnsweredRequest } from "../../src/state/kubernetes/connection.ts";
import { LeaderElection } from "../../src/state/kubernetes/leader-election.ts";
import { NodeLiveness } from "../../src/state/liveness.ts";
import { updateRecord } from "../../src/state/store.ts";
import { exampleNode, exampleVolume, testStoreConformance } from "../../src/state/store-conformance.ts";
import { ApiServer, NODE_NAMESPACE } from "./api-server.ts";
import { missingApiServer } from "./support/programs.ts";
import { Relay } from "./support/relay.ts";
import { until } from "./support/until.ts";

describe("store on Kubernetes", { skip: missingApiServer() }, () => {
  let server: ApiServer;

  before(async () => {
    server = await ApiServer.startWithRecords();
  });

  after(async () => {
    await server?.[Symbol.asyncDispose]();
  });

  const open = () => server.openStore();
  /** By way of a relay that can be cut. */
  const openBy = async (relay: Relay, onAnswer?: (request: AnsweredRequest) => void) =>
    server.openStore({ ...(await server.connect({ onAnswer })), server: new URL(`https://127.0.0.1:${relay.port}`) });

  testStoreConformance("Kubernetes store", async () => {
    await using store = await open();
    for (const kind of ["volumes", "devices", "nodes"] as const) {
      for (const { name, resourceVersion } of await store.list(kind)) await store.delete(kind, name, resourceVersion);
    }
    return { open, async [Symbol.asyncDispose]() {} };
  });

  test("a field that must not change is refused by the API server", async () => {
    await using store = await open();
    const made = await store.create("volumes", "immutable", exampleVolume);
    await assert.rejects(store.replace("volumes", { ...made, uuid: "another" }), /uuid never changes/);
    await assert.rejects(store.replace("volumes", { ...made, epoch: 0 }), /epoch never falls/);
    const slots = [{ "node-a": 1 }, { "node-b": 0 }];
    for (const each of slots) {
      await assert.rejects(store.replace("volumes", { ...made, slots: each }), /as long as the node has the volume/);
    }
    await store.delete("volumes", "immutable", made.resourceVersion);
  });

  test("what a newer version put into a record survives a change by this one", async () => {
    await using store = await open();
    const later = { type: "string" };
    await server.kubectl([
      ...["patch", "crd", "famfsvolumes.famfs.csi.dev", "--type=json", "--patch"],
      JSON.stringify(
        ["spec", "status", "status/properties/writer"].map((part) => ({
          op: "add",
          path: `/spec/versions/0/schema/openAPIV3Schema/properties/${part}/properties/later`,
          value: later,
        })),
      ),
    ]);
    await store.create("volumes", "newer", exampleVolume);
    const given = { spec: { later: "a" }, status: { later: "b", writer: { later: "c" } } };
    const read = async () => {
      const text = await server.kubectl(["get", "famfsvolume", "newer", "--output=json"]);
      const { spec, status } = JSON.parse(text) as { spec: typeof given.spec; status: typeof given.status };
      return [spec.later, status.later, status.writer.later];
    };
    // Until the server knows the fields it drops them.
    for (let seen: unknown[] = []; !isDeepStrictEqual(seen, ["a", "b", "c"]); seen = await read()) {
      await server.kubectl(["patch", "famfsvolume", "newer", "--type=merge", `--patch=${JSON.stringify(given)}`]);
    }
    await updateRecord(store, "volumes", "newer", (volume) => ({ ...volume, jobNode: "node-a", waiters: [] }));
    assert.deepEqual(await read(), ["a", "b", "c"]);
    await updateRecord(store, "volumes", "newer", (volume) => ({ ...volume, jobNode: undefined }));
    assert.deepEqual(await read(), ["a", "b", "c"]);
    const last = await store.get("volumes", "newer");
    assert.deepEqual([last?.jobNode, last?.waiters], [undefined, []], "what is ours goes when it shall");
    await store.delete("volumes", "newer", last?.resourceVersion ?? "");
  });

  test("kubectl delete does not take a record away from the driver", async () => {
    await using store = await open();
    await store.create("volumes", "protected", exampleVolume);
    await server.kubectl(["delete", "famfsvolume", "protected", "--wait=false"]);
    const found = await store.get("volumes", "protected");
    assert.equal(found?.phase, "Ready");
    await store.delete("volumes", "protected", found.resourceVersion);
    assert.equal(await store.get("volumes", "protected"), undefined);
  });

  test("kubectl get tells the story", async () => {
    await using store = await open();
    await store.create("volumes", "story", exampleVolume);
    const table = await server.kubectl(["get", "famfsvolumes"]);
    assert.match(table, /NAME\s+PHASE\s+SIZE\s+POOL\s+WRITER\s+EPOCH\s+NODES\s+CLAIM\s+AGE/);
    assert.match(table, /story\s+Ready\s+1 TiB\s+default\s+node-a\s+3\s+node-a\s+team\/weights\s/);
  });

  test("a watch survives an API server that is killed, and requests wait for it", async () => {
    await using store = await open();
    const seen: string[] = [];
    using _following = store.informer("nodes").onChange((changes) => {
      for (const change of changes) {
        if (change.type === "put") seen.push(`${change.record.name} ${change.record.instance}`);
      }
    });
    let record = await store.create("nodes", "survivor", { ...exampleNode, instance: "1" });
    await until("seen", () => seen.includes("survivor 1"));
    await server.plane.stopApiServer();
    const restarted = server.plane.startApiServer();
    record = await store.replace("nodes", { ...record, instance: "2" });
    await restarted;
    await until("seen", () => seen.includes("survivor 2"));
    assert.deepEqual(
      seen.filter((each) => each.startsWith("survivor")),
      ["survivor 1", "survivor 2"],
    );
    await store.delete("nodes", "survivor", record.resourceVersion);
  });

  test("a watch that missed versions which are forgotten (410) tells what differs, deletions too", async () => {
    await using relay = await Relay.open(server.plane.apiPort);
    await using store = await openBy(relay);
    await using other = await open();
    const gone = await other.create("nodes", "gone", exampleNode);
    const kept = await other.create("nodes", "kept", exampleNode);
    await other.create("nodes", "same", exampleNode);
    const seen: string[] = [];
    using _following = store.informer("nodes").onChange((changes) => {
      for (const change of changes) {
        seen.push(change.type === "put" ? `${change.record.name} ${change.record.bootId}` : `${change.name} deleted`);
      }
    });
    await until("seen", () => seen.length === 3);
    relay.cut();
    await other.delete("nodes", "gone", gone.resourceVersion);
    await other.replace("nodes", { ...kept, bootId: "boot-2" });
    await server.plane.compact();
    await server.plane.stopApiServer();
    await server.plane.startApiServer();
    relay.mend();
    await until("seen", () => seen.length >= 5);
    assert.deepEqual(seen.slice(3).toSorted(), ["gone deleted", "kept boot-2"]);
  });

  test("an object that is no record is passed over by lists, and named to those who must know", async () => {
    await using store = await server.openStore();
    await store.create("nodes", "ours", exampleNode);
    const foreign = {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "somebody-elses", namespace: NODE_NAMESPACE },
    };
    await server.create(foreign);
    const names = (await store.list("nodes")).map(({ name }) => name);
    assert.ok(names.includes("ours") && !names.includes("somebody-elses"));
    assert.deepEqual(
      (await store.listAll("nodes")).unreadable.map(({ name }) => name),
      ["somebody-elses"],
    );
    using liveness = await NodeLiveness.open(store);
    assert.ok(liveness.answers(exampleNode.nodeId));
    await server.kubectl(["delete", "lease", "somebody-elses", "ours", `--namespace=${NODE_NAMESPACE}`]);
  });

  test("every request is counted with what came of it, also one that nobody answers", async () => {
    await using relay = await Relay.open(server.plane.apiPort);
    const answers = new Map<string, number>();
    const count = ({ method, code }: AnsweredRequest) => {
      answers.set(`${method} ${code}`, (answers.get(`${method} ${code}`) ?? 0) + 1);
    };
    await using store = await openBy(relay, count);
    answers.clear();
    const made = await store.create("nodes", "counted", exampleNode);
    await assert.rejects(store.create("nodes", "counted", exampleNode), { code: "CONFLICT" });
    assert.equal(await store.get("nodes", "missing"), undefined);
    assert.deepEqual(Object.fromEntries(answers), { "POST 201": 1, "POST 409": 1, "GET 404": 1 });
    relay.cut();
    const waiting = store.get("nodes", "counted");
    await until("a request without an answer", () => answers.has("GET none"));
    relay.mend();
    assert.equal((await waiting)?.resourceVersion, made.resourceVersion);
    assert.equal(answers.get("GET 200"), 1);
    await store.delete("nodes", "counted", made.resourceVersion);
  });

  test("what waits for an API server that is away ends with the store, and with the election", async () => {
    await using relay = await Relay.open(server.plane.apiPort);
    let unanswered = 0;
    const onAnswer = ({ code }: AnsweredRequest) => {
      if (code === "none") unanswered++;
    };
    const direct = await server.connect({ onAnswer });
    const connection = { ...direct, server: new URL(`https://127.0.0.1:${relay.port}`) };
    const store = await server.openStore(connection);
    relay.cut();
    const waiting = [store.get("nodes", "n"), store.list("volumes"), store.informer("devices").synced()].map((each) =>
      each.then(
        () => "answered",
        (error: { code?: unknown }) => error.code,
      ),
    );
    await until("asked", () => unanswered >= waiting.length);
    await store[Symbol.asyncDispose]();
    assert.deepEqual(await Promise.all(waiting), ["STORE_UNAVAILABLE", "STORE_UNAVAILABLE", "STORE_UNAVAILABLE"]);

    unanswered = 0;
    const election = new LeaderElection({ connection, name: "away", identity: "a", logger: silentLogger });
    await until("asked", () => unanswered > 0);
    const before = unanswered;
    await election[Symbol.asyncDispose]();
    assert.equal(unanswered, before, "nothing more is asked");
  });

  test("the leader is replaced when it resigns, and when it is silent, under 20 s", async () => {
    const connection = await server.connect();
    const elect = (identity: string) =>
      new LeaderElection({ connection, name: "famfs-csi-controller", identity, logger: silentLogger });
    const first = elect("a");
    await until("seen", () => first.leading);
    await using second = elect("b");
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal(second.leading, false);
    await first[Symbol.asyncDispose]();
    await until("seen", () => second.leading);

    const silent = { holderIdentity: "vanished", leaseDurationSeconds: 12 };
    const body = {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "other-loop" },
      spec: silent,
    };
    await server.kubectl(["create", "--namespace=default", "-f", "-"], JSON.stringify(body));
    const started = performance.now();
    await using third = new LeaderElection({ connection, name: "other-loop", identity: "c", logger: silentLogger });
    await until("seen", () => third.leading);
    const seconds = (performance.now() - started) / 1000;
    assert.ok(seconds > 11 && seconds < 20, `${seconds} s`);
  });
});
