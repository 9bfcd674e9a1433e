/** What the token of a node plugin may change, on a real API server with the chart's accounts, roles and policies. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { silentLogger } from "../../src/base/index.ts";
import type { FamfsDevice, FamfsVolume, Store } from "../../src/state/index.ts";
import { freeze, Heartbeat, NodeLiveness, updateRecord, WriterGrants } from "../../src/state/index.ts";
import { VOLUME_FIELDS } from "../../src/state/kubernetes/fields.ts";
import type { KubernetesStore } from "../../src/state/kubernetes/kubernetes-store.ts";
import { exampleNode, exampleVolume } from "../../src/state/store-conformance.ts";
import { skipWithoutMounts } from "../support/kernel.ts";
import { checkLostRecords } from "../support/lost-records.ts";
import type { Account } from "../support/plugins.ts";
import { runProgram } from "../support/program.ts";
import { ApiServer, NODE_NAMESPACE } from "./api-server.ts";
import { loseAllRecords } from "./support/lose-records.ts";
import { missingApiServer, programs } from "./support/programs.ts";
import { run } from "./support/run.ts";
import { until } from "./support/until.ts";

const chart = fileURLToPath(new URL("../../deploy/helm/famfs-csi", import.meta.url));
const skip = missingApiServer() || (existsSync(programs.helm) ? false : "needs helm");
const NODES = ["a", "b", "lost-a", "lost-b"];
const shared = { accessMode: "MULTI_NODE_MULTI_WRITER", readonly: false };
const volume: FamfsVolume = {
  ...exampleVolume,
  published: { a: shared, b: shared, reader: { ...shared, readonly: true } },
  writer: undefined,
  waiters: [],
  slots: { b: 0 },
  conditions: [],
};
const device: FamfsDevice = {
  uuid: "d",
  pool: "default",
  fabric: "rack-1",
  sizeBytes: 2 ** 30,
  incarnation: 1,
  coherency: "flush",
  nodes: { b: { path: "/dev/dax1.0" } },
  generation: 7,
  intent: undefined,
  revision: undefined,
  frozen: undefined,
};
const stock: FamfsVolume = {
  ...volume,
  uuid: "u",
  csiName: "adopted-u",
  claim: undefined,
  adopted: true,
  slotCount: undefined,
  pool: "",
  regions: [{ deviceUuid: "u", offset: 0, length: 2 ** 30 }],
  regionGeneration: 0,
  published: {},
  slots: {},
  epoch: 0,
};
const abnormal = (nodeId: string) =>
  ({ type: `${nodeId}/Abnormal`, status: "True", reason: "R", message: "m", lastTransitionTime: "now" }) as const;

describe("what a node's token may change", { skip, timeout: 600_000 }, () => {
  let server: ApiServer;
  let admin: KubernetesStore;

  before(async () => {
    server = await ApiServer.start();
    await server.createNamespaces("famfs", NODE_NAMESPACE);
    const args = ["template", "release", chart, "--no-hooks", "--namespace=famfs", "--kube-version=1.34.4"];
    const { stdout } = await run([programs.helm, ...args, "--set=nodeNamespace.create=false"]);
    await server.kubectl(["apply", "--server-side", "--filename=-"], stdout);
    await server.untilEstablished();
    await server.create(...NODES.map((name) => ({ apiVersion: "v1", kind: "Node", metadata: { name } })));
    admin = await server.openStore();
    await using a = await asNode("a");
    // Policies are in force a moment after they were made.
    for (const [kind, record] of [
      ["devices", device],
      ["volumes", volume],
      ["nodes", exampleNode],
    ] as const) {
      await until(`the policy about ${kind} is in force`, async () => {
        const tried = await a.create(kind, "probe", record).catch((error: unknown) => String(error));
        if (typeof tried !== "string") await admin.delete(kind, "probe", tried.resourceVersion);
        return typeof tried === "string" && tried.includes("ValidatingAdmissionPolicy");
      });
    }
  });

  after(async () => {
    await admin?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const tokenOf = async (account: string, nodeId?: string) => {
    const bound = nodeId === undefined ? [] : ["--bound-object-kind=Node", `--bound-object-name=${nodeId}`];
    return (await server.kubectl(["create", "token", `release-${account}`, "--namespace=famfs", ...bound])).trim();
  };

  const withToken = async (token: string) => server.openStore(await server.connect({ token }));

  /** The store as the plugin of a node sees it: a real token of its account, bound to its node as kubelets bind it. */
  const asNode = async (nodeId: string) => withToken(await tokenOf("node", nodeId));

  const update = (store: Store, name: string, change: (found: FamfsVolume) => Partial<FamfsVolume>) =>
    updateRecord(store, "volumes", name, (found) => ({ ...found, ...change(found) }));

  test("everything a node has to do is allowed", async () => {
    await using a = await asNode("a");
    const node = { ...exampleNode, nodeId: "a" };
    await using _heartbeat = await Heartbeat.open(a, { node, logger: silentLogger });
    using liveness = await NodeLiveness.open(a);
    await admin.create("devices", "d", device);
    const path = { path: "/dev/dax0.0" };
    await updateRecord(a, "devices", "d", (found) => ({ ...found, nodes: { ...found.nodes, a: path } }));
    await updateRecord(a, "devices", "d", ({ nodes: { a: _a, ...nodes }, ...found }) => ({ ...found, nodes }));
    await freeze(a, "d", "the store was restored");
    await a.create("devices", "mine", { ...device, uuid: "mine", generation: 0, nodes: { a: path } });
    await a.create("volumes", "adopted-u", stock);

    await admin.create("volumes", "bad", { ...volume, phase: "Formatting", jobNode: "a" });
    await update(a, "bad", () => ({ conditions: [abnormal("a")] })); // RecordsLost, while it waits for a person
    const failure = { code: "SYSTEM", message: "no memory" };
    await update(a, "bad", () => ({ phase: "Failed", jobNode: undefined, failure }));
    await admin.create("volumes", "work", { ...volume, phase: "Formatting", jobNode: "a", slotCount: undefined });
    await update(a, "work", () => ({ phase: "Ready", jobNode: undefined, slotCount: 128 }));
    await update(a, "work", ({ staged, slots }) => ({
      staged: { ...staged, a: { bootId: "1" } },
      slots: { ...slots, a: 1 },
    }));
    const grants = new WriterGrants({ store: a, nodeId: "a", liveness });
    const wait = { highestInMemory: () => 1000, timeoutMs: 30_000, signal: AbortSignal.timeout(30_000) };
    const first = await grants.acquire("work", wait);
    await grants.release("work", first.epoch);
    // From a node that nobody has heard of, as from one whose lease ran out: a record may be missing by mistake.
    const held = await update(admin, "work", ({ epoch }) => ({
      epoch: epoch + 1,
      writer: { nodeId: "b", epoch: epoch + 1, since: "now" },
      waiters: ["b"],
    }));
    await update(a, "work", ({ waiters }) => ({ waiters: [...waiters, "a"] }));
    const second = await grants.acquire("work", wait);
    assert.ok(second.epoch > (held?.epoch ?? Infinity));
    await update(a, "work", () => ({ conditions: [abnormal("a")] }));
    // Detached by force: what it gives up then.
    await update(admin, "work", () => ({ published: {} }));
    await grants.release("work", second.epoch);
    await update(a, "work", () => ({ conditions: [], staged: {} }));
    await update(admin, "work", () => ({ phase: "Reclaiming", jobNode: "a" }));
    const erased = await a.get("volumes", "work");
    await a.delete("volumes", "work", erased?.resourceVersion ?? "");
    assert.equal(await admin.get("volumes", "work"), undefined);

    // A record that was made again: what it has mounted is not published yet.
    const rebuilt = { ...abnormal("a"), type: "Rebuilt" };
    await admin.create("volumes", "again", { ...volume, published: {}, conditions: [rebuilt] });
    await update(a, "again", ({ slots }) => ({ staged: { a: { bootId: "1" } }, slots: { ...slots, a: 1 } }));
  });

  const other = { nodeId: "b", epoch: 3, since: "now" };
  const mine = { nodeId: "a", epoch: 4, since: "now" };
  const mineToFormat = { phase: "Formatting", jobNode: "a" } as const;
  const failure = { code: "SYSTEM", message: "no memory" };
  /** What is refused, of which volume (default: one that b writes), and what the answer says. */
  const refused: readonly (readonly [string, Partial<FamfsVolume>, RegExp, Partial<FamfsVolume>?])[] = [
    ["specification", { capacityBytes: 2 ** 50 }, /what the controller decides/],
    ["phase", { phase: "Reclaiming" }, /change phase, job and slotCount in no other way/],
    ["slots that its memory has", { slotCount: 1000 }, /change phase, job and slotCount in no other way/],
    ["job", { jobNode: "a" }, /change phase, job and slotCount in no other way/],
    [
      "formatting of another",
      { phase: "Ready", jobNode: undefined },
      /change phase, job and slotCount in no other way/,
      { phase: "Formatting", jobNode: "b" },
    ],
    [
      "end of a job that it has not",
      { phase: "Failed", jobNode: undefined },
      /in no other way/,
      { ...mineToFormat, phase: "Pending" },
    ],
    ["job that has ended", { phase: "Ready" }, /in no other way/, mineToFormat],
    ["job that ends otherwise", { phase: "Reclaiming", jobNode: undefined }, /in no other way/, mineToFormat],
    ["failure of what is Ready", { phase: "Ready", jobNode: undefined, failure }, /in no other way/, mineToFormat],
    ["pool", { pool: "other" }, /what the controller decides/, { pool: "" }],
    ["fabric", { fabric: "other" }, /what the controller decides/, { fabric: "" }],
    ["regions", { regions: [] }, /what the controller decides/],
    ["generation", { regionGeneration: 8 }, /what the controller decides/],
    ["attachment", { published: {} }, /what the controller decides/],
    ["end of another's staging", { staged: {} }, /of itself only what is staged/],
    ["another's boot", { staged: { b: { bootId: "2" } } }, /of itself only what is staged/],
    ["staging for another", { staged: { b: { bootId: "1" }, c: { bootId: "1" } } }, /of itself only what is staged/],
    [
      "staging of what is not attached",
      { staged: { a: { bootId: "1" }, b: { bootId: "1" } } },
      /only what is published to it/,
      { published: { b: shared } },
    ],
    ["slot for another", { slots: { b: 0, c: 5 } }, /an owner slot for itself only, a free one/],
    [
      "slot of nobody any more",
      { slots: {} },
      /an owner slot for itself only/,
      { published: { a: shared }, staged: {} },
    ],
    ["slot of another", { slots: { a: 0, b: 0 } }, /an owner slot for itself only, a free one/],
    [
      "slot of a reader",
      { slots: { a: 1, b: 0 } },
      /it may write to/,
      { published: { a: { ...shared, readonly: true } } },
    ],
    ["grant of another", { writer: undefined }, /under a new epoch, or give up its own/],
    ["grant for another", { writer: { ...other, nodeId: "c", epoch: 4 }, epoch: 4 }, /or give up its own/],
    [
      "its grant to another",
      { writer: other },
      /under a new epoch, or give up its own/,
      { writer: { ...mine, epoch: 3 } },
    ],
    ["grant under an old epoch", { writer: { ...mine, epoch: 3 }, epoch: 4 }, /under a new epoch, or give up its own/],
    [
      "grant of what is not Ready",
      { writer: mine, epoch: 4 },
      /under a new epoch, or give up its own/,
      { phase: "Failed" },
    ],
    ["grant of an adopted volume", { writer: mine, epoch: 4 }, /what it may write to/, { adopted: true }],
    ["grant without a new epoch", { writer: { ...mine, epoch: 3 } }, /under a new epoch, or give up its own/],
    [
      "grant of what is only read",
      { writer: mine, epoch: 4 },
      /what it may write to/,
      { published: { a: { ...shared, readonly: true } } },
    ],
    ["all epochs", { writer: { ...mine, epoch: 2 ** 52 }, epoch: 2 ** 52 }, /under a new epoch, or give up its own/],
    ["epoch", { epoch: 4 }, /raise the epoch only as the writer/],
    ["queue", { waiters: [] }, /put nobody but itself among the waiters, and take nobody out/],
    ["another in the queue", { waiters: ["b", "c"] }, /put nobody but itself among the waiters/],
    ["first in the queue", { waiters: ["a", "b"] }, /as the last/],
    ["reader in the queue", { waiters: ["b", "a"] }, /what it may write to, as the last/, { published: { b: shared } }],
    ["conditions of another", { conditions: [] }, /report the condition a\/Abnormal only/],
    [
      "condition of all",
      { conditions: [abnormal("b"), { ...abnormal("a"), type: "Rebuilt" }] },
      /the condition a\/Abnormal only/,
    ],
  ];
  const target: FamfsVolume = {
    ...volume,
    staged: { b: { bootId: "1" } },
    writer: other,
    waiters: ["b"],
    conditions: [abnormal("b")],
  };

  for (const [index, [what, change, reason, state = {}]] of refused.entries()) {
    test(`of a volume it may not change: ${what}`, async () => {
      await using a = await asNode("a");
      const before = await admin.create("volumes", `target-${index}`, { ...target, ...state });
      const hostile = a.replace("volumes", { ...before, ...change });
      await assert.rejects(hostile, (error) => /node a may/.test(String(error)) && reason.test(String(error)));
      assert.deepEqual(await admin.get("volumes", before.name), before);
    });
  }

  test("each part of a volume's status is in the policy", () => {
    const policy = readFileSync(join(chart, "templates", "node-policy.yaml"), "utf8");
    const parts = Object.entries(VOLUME_FIELDS).filter(([, { part }]) => part === "status");
    const forgotten = parts.filter(([name]) => !new RegExp(`\\boldObject\\.status\\.\\??${name}\\b`).test(policy));
    assert.deepEqual(forgotten, []);
  });

  test("it makes and deletes volumes only where that is its job", async () => {
    await using a = await asNode("a");
    const mayNot = async (what: Promise<unknown>, reason: RegExp) => {
      await assert.rejects(what, (error) => /node a may/.test(String(error)) && reason.test(String(error)));
    };
    await mayNot(a.create("volumes", "new", { ...volume, uuid: "n" }), /and no others.*needs --token/);
    for (const [field, more] of Object.entries({
      regions: { regions: [{ deviceUuid: "d", offset: 0, length: 2 ** 30 }] },
      published: { published: { a: shared } },
      staged: { staged: { b: { bootId: "1" } } },
      writer: { writer: { ...mine, epoch: 0 } },
      slots: { slots: { b: 0 } },
      waiters: { waiters: ["b"] },
      epoch: { epoch: 1 },
      conditions: { conditions: [abnormal("b")] },
      pool: { pool: "default" },
      phase: { phase: "Reclaiming" as const },
      job: { jobNode: "b" },
      uuid: { uuid: "other" },
      name: { csiName: "other" },
    })) {
      const record = { ...stock, uuid: field, csiName: `adopted-${field}`, regions: [], ...more };
      await mayNot(a.create("volumes", `adopted-${field}`, record), /and no others/);
    }
    const states = {
      "in-use": {},
      "of-another": { jobNode: "b" },
      quarantined: { jobNode: "a", staged: target.staged },
    };
    for (const [name, state] of Object.entries(states)) {
      const phase = name === "in-use" ? "Ready" : "Reclaiming";
      const { resourceVersion } = await admin.create("volumes", name, { ...volume, phase, ...state });
      await mayNot(a.delete("volumes", name, resourceVersion), /only that it was given to erase/);
      assert.ok(await admin.get("volumes", name));
    }
  });

  test("it changes no metadata: neither finalizers, nor owners, whose absence deletes what they own", async () => {
    const kubeconfig = await kubeconfigWith(await tokenOf("node", "a"));
    await admin.create("volumes", "owned", volume);
    await admin.create("devices", "owned", { ...device, uuid: "owned" });
    const gone = [{ apiVersion: "v1", kind: "Node", name: "gone", uid: "00000000-0000-4000-8000-000000000000" }];
    for (const metadata of [
      { finalizers: null },
      { ownerReferences: gone },
      { labels: { a: "b" } },
      { annotations: { a: "b" } },
    ]) {
      for (const kind of ["famfsvolume", "famfsdevice"]) {
        const patch = ["patch", kind, "owned", "--type=merge", `--patch=${JSON.stringify({ metadata })}`];
        await assert.rejects(run([programs.kubectl, `--kubeconfig=${kubeconfig}`, ...patch]), /node a may/);
      }
    }
  });

  test("of a device it says by which path it reaches it, and nothing else", async () => {
    await using a = await asNode("a");
    const before = await admin.create("devices", "e", { ...device, uuid: "e" });
    const intent = { volume: "v", volumeUuid: "u", regions: [], regionGeneration: 8 };
    for (const change of [
      { pool: "other" },
      { sizeBytes: 2 ** 40 },
      { nodes: {} },
      { nodes: { ...before.nodes, b: { path: "/x" } } },
      { nodes: { ...before.nodes, c: { path: "/x" } } },
      { incarnation: 2 },
      { revision: 2 },
      { generation: 8 },
      { intent },
    ]) {
      await assert.rejects(a.replace("devices", { ...before, ...change }), /only by which path it reaches it itself/);
    }
    const fresh = { ...device, uuid: "f", generation: 0, nodes: {} };
    for (const change of [{ nodes: device.nodes }, { generation: 7 }, { intent }, { uuid: "other" }]) {
      await assert.rejects(a.create("devices", "f", { ...fresh, ...change }), /for itself only/);
    }
    // It may say that the store was restored, and not that all is well again.
    const frozen = { since: "now", reason: "the store was restored" };
    const cold = await admin.create("devices", "cold", { ...device, uuid: "cold", frozen });
    for (const changed of [undefined, { ...frozen, reason: "no" }]) {
      await assert.rejects(
        a.replace("devices", { ...cold, frozen: changed }),
        /only by which path it reaches it itself/,
      );
    }
    await assert.rejects(a.delete("devices", "e", before.resourceVersion), /403.*cannot delete/);
    assert.deepEqual(await admin.get("devices", "e"), before);
  });

  test("its lease is its own, and a token that is bound to no node is good for nothing", async () => {
    await using a = await asNode("a");
    const lease = { ...exampleNode, nodeId: "b" };
    await assert.rejects(a.create("nodes", "b", lease), /node a may write its own lease only, not b/);
    const own = await a.get("nodes", "a");
    const as = own === undefined ? a.create("nodes", "a", lease) : a.replace("nodes", { ...own, nodeId: "b" });
    await assert.rejects(as, /node a may hold its lease itself only/);
    await using unbound = await withToken(await tokenOf("node"));
    await assert.rejects(unbound.create("nodes", "c", { ...exampleNode, nodeId: "c" }), /its own lease only/);
    const before = await admin.create("volumes", "unbound", volume);
    const staged = unbound.replace("volumes", { ...before, staged: { a: { bootId: "1" } } });
    await assert.rejects(staged, /bound to no node/);
    await assert.rejects(unbound.create("devices", "g", { ...device, uuid: "g", generation: 0 }), /bound to no node/);
  });

  test("a record of a thousand nodes is not too much for the rules", async () => {
    await using a = await asNode("a");
    const others = Array.from({ length: 1000 }, (_, index) => `node-${index}.of.a.large.cluster.example`);
    const all = <T>(value: (index: number) => T) =>
      Object.fromEntries(others.map((name, index) => [name, value(index)]));
    await admin.create("volumes", "large", {
      ...volume,
      published: { ...all(() => shared), a: shared },
      staged: all(() => ({ bootId: "00000000-0000-4000-8000-000000000000" })),
      slots: all((index) => index),
      waiters: others.slice(0, 63),
      conditions: others.map((name) => ({ ...abnormal(name), message: "m".repeat(300) })),
    });
    await update(a, "large", ({ staged, slots, conditions }) => ({
      staged: { ...staged, a: { bootId: "1" } },
      slots: { ...slots, a: 1000 },
      conditions: [...conditions, abnormal("a")],
    }));
    await update(a, "large", ({ waiters }) => ({ waiters: [...waiters, "a"] }));
    await update(a, "large", ({ epoch }) => ({
      epoch: epoch + 1,
      writer: { nodeId: "a", epoch: epoch + 1, since: "now" },
      waiters: others.slice(1, 63),
    }));
    await update(a, "large", () => ({ writer: undefined }));
    await admin.create("devices", "large", { ...device, uuid: "large", nodes: all(() => ({ path: "/dev/dax0.0" })) });
    await updateRecord(a, "devices", "large", (found) => ({ ...found, nodes: { ...found.nodes, a: { path: "/x" } } }));
  });

  /** A kubeconfig of an account, at the namespace that its pods run in. */
  const kubeconfigWith = async (token: string) => {
    const config = JSON.parse(readFileSync(server.plane.kubeconfig(), "utf8"));
    config.users[0].user = { token };
    config.contexts[0].context.namespace = "famfs";
    const file = join(server.directory, `${token.slice(-12)}.kubeconfig`);
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    return file;
  };

  test("a controller and two node plugins work with the chart's rights alone, and lost records need others", {
    skip: skipWithoutMounts(),
  }, async () => {
    await loseAllRecords(server);
    const tokens: Record<Account, string> = {
      "lost-a": await tokenOf("node", "lost-a"),
      "lost-b": await tokenOf("node", "lost-b"),
      controller: await tokenOf("controller"),
      rebuild: await tokenOf("rebuild"),
    };
    const flags = new Map<Account, string[]>();
    for (const account of ["lost-a", "lost-b", "controller"] as const) {
      const kubeconfig = await kubeconfigWith(tokens[account]);
      flags.set(account, [`--kubeconfig=${kubeconfig}`, `--node-namespace=${NODE_NAMESPACE}`]);
    }
    const token = join(server.directory, "rebuild.token");
    writeFileSync(token, `${tokens.rebuild}\n`, { mode: 0o600 });
    flags.set("rebuild", [...(flags.get("lost-a") ?? []), `--token=${token}`]);
    await checkLostRecords({
      storeFlags: (_directory, account) => flags.get(account) ?? [],
      async loseRecords(_directory, path) {
        await server.kubectl(["wait", "--for=delete", "famfsvolume/pvc-deleted", "--timeout=30s"]);
        await loseAllRecords(server);
        const own = await runProgram("device", "rebuild", path, ...(flags.get("lost-a") ?? []));
        assert.notEqual(own.status, 0);
        assert.match(own.stderr, /node lost-a may register a device for itself only.*needs --token/);
        assert.deepEqual(await admin.list("volumes"), []);
      },
    });
  });
});
