/** Events against a real API server: what people see of them, and what recording one must survive. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { silentLogger } from "../../src/base/index.ts";
import { EVENT_REASONS } from "../../src/state/event-reasons.ts";
import { EventThrottle } from "../../src/state/event-throttle.ts";
import { KubernetesEvents } from "../../src/state/kubernetes/kubernetes-events.ts";
import type { KubernetesStore } from "../../src/state/kubernetes/kubernetes-store.ts";
import type { FamfsVolume } from "../../src/state/records.ts";
import { exampleVolume } from "../../src/state/store-conformance.ts";
import { ApiServer } from "./api-server.ts";
import { missingApiServer, programs } from "./support/programs.ts";
import { Relay } from "./support/relay.ts";
import { run } from "./support/run.ts";
import { until } from "./support/until.ts";

const chart = fileURLToPath(new URL("../../deploy/helm/famfs-csi", import.meta.url));
const account = (component: string) => `system:serviceaccount:famfs:release-${component}`;
const { wayOut } = EVENT_REASONS.FuseServerDied;

interface ApiEvent {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly type: string;
  readonly reason: string;
  readonly note: string;
  readonly series?: { readonly count: number };
  readonly regarding: { readonly kind: string; readonly name: string; readonly namespace?: string };
  readonly related?: { readonly kind: string; readonly name: string };
}

describe("events in Kubernetes", { skip: missingApiServer() }, () => {
  let server: ApiServer;
  let store: KubernetesStore;

  before(async () => {
    server = await ApiServer.startWithRecords({
      users: ["node", "controller"].map((each) => ({ name: account(each), groups: ["system:authenticated"] })),
    });
    await server.createNamespaces("team", "famfs");
    store = await server.openStore();
  });

  after(async () => {
    await store?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const open = async ({ port, throttle, user }: { port?: number; throttle?: EventThrottle; user?: string } = {}) => {
    const direct = await server.connect({ user });
    return new KubernetesEvents({
      connection: port === undefined ? direct : { ...direct, server: new URL(`https://127.0.0.1:${port}`) },
      component: "node",
      instance: "node-a",
      logger: silentLogger,
      ...(throttle === undefined ? {} : { throttle }),
    });
  };

  const volume = (name: string, changes: Partial<FamfsVolume> = {}) =>
    store.create("volumes", name, { ...exampleVolume, claim: undefined, ...changes });

  const eventsAbout = async (name: string): Promise<ApiEvent[]> => {
    const list = await server.kubectl(["get", "events.v1.events.k8s.io", "--all-namespaces", "-o", "json"]);
    const { items } = JSON.parse(list) as { items: ApiEvent[] };
    return items.filter(({ regarding, related }) => (related ?? regarding).name === name);
  };

  const died = (volumeId: string) =>
    ({ reason: "FuseServerDied", volumeId, message: "the FUSE server of node-a died" }) as const;

  test("a volume's event is shown with the volume, its claim and the pods it concerns", async () => {
    const claim = {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name: "weights", namespace: "team" },
      spec: { accessModes: ["ReadWriteMany"], resources: { requests: { storage: "1Gi" } }, storageClassName: "none" },
    };
    const made = await server.kubectl(["create", "-f", "-", "-o", "jsonpath={.metadata.uid}"], JSON.stringify(claim));
    const name = `pvc-${made}`;
    await volume(name, { csiName: name, claim: { namespace: "team", name: "weights" } });
    {
      await using events = await open();
      events.record({ ...died(name), pods: [{ namespace: "team", name: "server-0", uid: "1-2-3" }] });
    }
    for (const args of [
      ["describe", "famfsvolume", name],
      ["describe", "persistentvolumeclaim", "weights", "--namespace=team"],
    ]) {
      const description = await server.kubectl(args);
      assert.match(description, /Warning +FuseServerDied +\S+ +famfs\.csi\.dev\/node.* the FUSE server of node-a died/);
      assert.ok(description.includes(wayOut), description);
    }
    const found = await eventsAbout(name);
    assert.deepEqual(
      found.map(({ regarding, metadata }) => `${metadata.namespace}: ${regarding.kind} ${regarding.name}`).toSorted(),
      [`default: FamfsVolume ${name}`, "team: PersistentVolumeClaim weights", "team: Pod server-0"],
    );
  });

  test("events of a device and of a node are shown with them", async () => {
    await store.create("devices", "dev-1", {
      uuid: "dev-1",
      pool: "default",
      fabric: "rack-1",
      sizeBytes: 2 ** 30,
      incarnation: 1,
      coherency: "hardware",
      nodes: {},
      generation: 0,
      intent: undefined,
      revision: undefined,
      frozen: undefined,
    });
    const node = { apiVersion: "v1", kind: "Node", metadata: { name: "node-a" } };
    await server.kubectl(["create", "-f", "-"], JSON.stringify(node));
    {
      await using events = await open();
      events.record({ reason: "DeviceMissing", deviceUuid: "dev-1", message: "/dev/dax0.0 is gone" });
      events.record({ reason: "DeviceRefused", nodeId: "node-a", message: "/dev/dax1.0 holds an XFS file system" });
    }
    assert.match(
      await server.kubectl(["describe", "famfsdevice", "dev-1"]),
      /Warning +DeviceMissing .*dax0\.0 is gone/,
    );
    assert.match(await server.kubectl(["describe", "node", "node-a"]), /Warning +DeviceRefused .*XFS file system/);
  });

  const skip = existsSync(programs.helm) ? false : "needs helm (test/e2e/support/install-cluster binaries)";
  test("the chart gives both accounts the right to record events, and to nothing else of them", { skip }, async () => {
    const options = ["--namespace=famfs", "--kube-version=1.34.4", "--show-only=templates/rbac.yaml"];
    const command = [programs.helm, "template", "release", chart, ...options];
    await server.kubectl(["apply", "-f", "-"], (await run(command)).stdout);
    for (const component of ["node", "controller"]) {
      await volume(`by-${component}`, { claim: { namespace: "team", name: "weights" } });
      {
        let now = 0;
        await using events = await open({ user: account(component), throttle: new EventThrottle(() => now) });
        events.record(died(`by-${component}`));
        now += 61_000;
        events.record(died(`by-${component}`));
      }
      const found = await eventsAbout(`by-${component}`);
      assert.deepEqual(
        found.map(({ series }) => series?.count),
        [2, 2],
      );
      for (const verb of ["get", "list", "delete"]) {
        const question = ["auth", "can-i", verb, "events.events.k8s.io", `--as=${account(component)}`];
        await assert.rejects(server.kubectl([...question, "--namespace=team"]), /no/, verb);
      }
    }
  });

  test("a repeated event is one that counts", async () => {
    await volume("again");
    let now = 0;
    {
      await using events = await open({ throttle: new EventThrottle(() => now) });
      for (let minute = 0; minute < 3; minute++) {
        events.record(died("again"));
        events.record(died("again"));
        now += 61_000;
      }
    }
    const [event, ...more] = await eventsAbout("again");
    assert.deepEqual(more, []);
    assert.equal(event?.series?.count, 5, "the sixth came right after the fifth, and is told later");
    assert.match(await server.kubectl(["describe", "famfsvolume", "again"]), /FuseServerDied +\S+ \(x5 over/);
  });

  test("a series goes on when the cluster has forgotten its event", async () => {
    await volume("forgotten");
    let now = 0;
    await using events = await open({ throttle: new EventThrottle(() => now) });
    events.record(died("forgotten"));
    const [first] = await until("the first", async () => {
      const found = await eventsAbout("forgotten");
      return found.length > 0 && found;
    });
    await server.kubectl(["delete", "events.v1.events.k8s.io", first?.metadata.name ?? "", "--namespace=default"]);
    now += 61_000;
    events.record(died("forgotten"));
    await until("the second", async () => (await eventsAbout("forgotten")).length === 1);
  });

  test("events wait while the API server does not answer, and nobody waits for them", async () => {
    await volume("late");
    await using relay = await Relay.open(server.plane.apiPort);
    relay.cut();
    await using events = await open({ port: relay.port });
    events.record(died("late"));
    events.record({ reason: "VolumeHealthy", volumeId: "late", message: "served again" });
    assert.deepEqual(await eventsAbout("late"), []);
    relay.mend();
    const found = await until("both", async () => {
      const all = await eventsAbout("late");
      return all.length === 2 && all;
    });
    assert.deepEqual(found.map(({ reason, type }) => `${type} ${reason}`).toSorted(), [
      "Normal VolumeHealthy",
      "Warning FuseServerDied",
    ]);
  });

  test("what is refused keeps nothing else back: a gone namespace, a gone volume, a text that is too long", async () => {
    await volume("orphan", { claim: { namespace: "gone", name: "weights" } });
    {
      await using events = await open();
      events.record(died("no-such-volume"));
      events.record({ ...died("orphan"), message: `é${"x".repeat(2_000)}` });
      events.record({ reason: "VolumeHealthy", volumeId: "orphan", message: "served again" });
    }
    const found = await eventsAbout("orphan");
    assert.deepEqual(found.map(({ reason }) => reason).toSorted(), ["FuseServerDied", "VolumeHealthy"]);
    const long = found.find(({ reason }) => reason === "FuseServerDied")?.note ?? "";
    assert.ok(long.startsWith("éxxx") && long.endsWith("x…") && Buffer.byteLength(long) <= 1024);
    assert.deepEqual(await eventsAbout("no-such-volume"), []);
  });

  test("a deleted claim hears no more of its volume", async () => {
    await volume("reclaimed", { phase: "Reclaiming", claim: { namespace: "team", name: "deleted" } });
    {
      await using events = await open();
      events.record(died("reclaimed"));
    }
    assert.deepEqual(
      (await eventsAbout("reclaimed")).map(({ regarding }) => regarding.kind),
      ["FamfsVolume"],
    );
  });
});
