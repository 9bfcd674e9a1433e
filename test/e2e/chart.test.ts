/** The chart without a cluster: every combination of values renders, wrong ones are refused with a reason. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadAll } from "js-yaml";
import { programs } from "./support/programs.ts";
import { run } from "./support/run.ts";

const chart = fileURLToPath(new URL("../../deploy/helm/famfs-csi", import.meta.url));
const skip = existsSync(programs.helm) ? false : "needs helm (test/e2e/support/install-cluster binaries)";

const helm = async (args: readonly string[], values: object) =>
  (await run([programs.helm, ...args, "--values=-"], { input: JSON.stringify(values) })).stdout;
const template = (values: object) =>
  helm(["template", "release", chart, "--namespace=famfs", "--kube-version=1.34.4"], values);

const CHOICES: readonly (readonly object[])[] = [
  [{}, { customResources: { install: false } }],
  [
    {},
    { controller: { replicas: 1 } },
    { controller: { nodeSelector: { a: "b" }, tolerations: [{ operator: "Exists" }] } },
  ],
  [
    {},
    { node: { devices: ["/dev/dax0.0", "file:///pool/0?size=1Gi"], simulatedDevicesDir: "/pool" } },
    { node: { kubeletDir: "/data/kubelet", nodeSelector: { memory: "shared" } } },
  ],
  [{}, { storageClasses: [] }, { storageClasses: [{ name: "s", parameters: { "stripe.buckets": 4, mode: "0750" } }] }],
  [{}, { metrics: { podMonitors: { enabled: true, labels: { release: "prometheus" } }, alerts: { enabled: true } } }],
  [{}, { networkPolicy: { enabled: false }, imagePullSecrets: [{ name: "secret" }], nodeNamespace: { create: false } }],
];

/** Every way to take one of each. */
function combinations(choices: readonly (readonly object[])[]): object[] {
  return choices.reduce<object[]>(
    (some, choice) => some.flatMap((values) => choice.map((one) => ({ ...values, ...one }))),
    [{}],
  );
}

test("helm lint --strict finds nothing", { skip }, async () => {
  await run([programs.helm, "lint", "--strict", "--kube-version=1.34.4", chart]);
});

test("every combination of values renders to objects with a kind and a name", { skip, timeout: 120_000 }, async () => {
  for (const values of combinations(CHOICES)) {
    const objects = loadAll(await template(values)).filter((each) => each !== null && each !== undefined) as {
      kind?: string;
      metadata?: { name?: string };
    }[];
    assert.ok(objects.length > 10, JSON.stringify(values));
    for (const { kind, metadata } of objects) assert.ok(kind && metadata?.name, JSON.stringify(values));
    const ids = objects.map(({ kind, metadata }) => `${kind} ${metadata?.name}`);
    assert.deepEqual(
      ids.filter((id, index) => ids.indexOf(id) !== index && !/^Role/.test(id)),
      [],
      "twice",
    );
  }
});

interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels: Record<string, string> };
  readonly spec: Record<string, unknown>;
}

const monitoring = async (values: object) => {
  const objects = loadAll(await template(values)) as (Rendered | null)[];
  const isAbout = (object: Rendered | null) =>
    object !== null && (/^(PodMonitor|PrometheusRule)$/.test(object.kind) || object.metadata.name.endsWith("-metrics"));
  return objects.filter((object): object is Rendered => isAbout(object));
};

test("without being asked for, nothing of Prometheus is made and no port is opened", { skip }, async () => {
  assert.deepEqual(await monitoring({}), []);
  assert.deepEqual(await monitoring({ networkPolicy: { enabled: false }, metrics: { enabled: true } }), []);
});

test("what Prometheus needs is made: both kinds of pods are found, and their ports are open to it", {
  skip,
}, async () => {
  const from = [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "monitoring" } } }];
  const labels = { release: "prometheus" };
  const values = { metrics: { from, podMonitors: { enabled: true, labels }, alerts: { enabled: true, labels } } };
  const objects = await monitoring(values);
  assert.deepEqual(objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`).toSorted(), [
    "NetworkPolicy release-controller-metrics",
    "NetworkPolicy release-node-metrics",
    "PodMonitor release-controller",
    "PodMonitor release-node",
    "PrometheusRule release",
  ]);
  const pods = (loadAll(await template(values)) as (Rendered | null)[]).flatMap((object) =>
    object?.kind === "Deployment" || object?.kind === "DaemonSet" ? [podOf(object)] : [],
  );
  for (const { kind, metadata, spec } of objects) {
    if (kind !== "NetworkPolicy") assert.equal(metadata.labels["release"], "prometheus");
    const { matchLabels } = (spec["selector"] ?? spec["podSelector"] ?? {}) as { matchLabels?: Record<string, string> };
    if (matchLabels === undefined) continue;
    const [pod, other] = pods.filter((each) =>
      Object.entries(matchLabels).every(([key, value]) => each.labels[key] === value),
    );
    assert.ok(pod !== undefined && other === undefined, `${kind} ${metadata.name} is about one kind of pod`);
    const text = JSON.stringify(spec);
    assert.ok(text.includes(kind === "PodMonitor" ? '"port":"health"' : `"port":${pod.port}`), text);
    if (kind === "NetworkPolicy") assert.ok(text.includes(JSON.stringify({ from }).slice(1, -1)), text);
  }
});

/** Labels of the pods that a workload makes, and where they serve. */
function podOf({ spec }: Rendered): { labels: Record<string, string>; port: number | undefined } {
  const { template: pod } = spec as {
    template: {
      metadata: { labels: Record<string, string> };
      spec: { containers: { ports?: { name: string; containerPort: number }[] }[] };
    };
  };
  const ports = pod.spec.containers.flatMap(({ ports: each }) => each ?? []);
  return { labels: pod.metadata.labels, port: ports.find(({ name }) => name === "health")?.containerPort };
}

for (const [what, values, reason] of [
  ["a typo", { contoller: {} }, /contoller/],
  ["a wrong type", { controller: { replicas: "two" } }, /replicas/],
  ["an unknown parameter", { storageClasses: [{ name: "s", parameters: { dataWriter: "any" } }] }, /dataWriter/],
  ["a device that is none", { node: { devices: ["dax0.0"] } }, /devices/],
  ["an interval that is none", { metrics: { podMonitors: { interval: "often" } } }, /interval/],
  ["a fabric with blanks", { fabric: "rack 1" }, /fabric/],
] as const) {
  test(`the schema refuses ${what} and says so`, { skip }, async () => {
    await assert.rejects(template(values), reason);
  });
}
