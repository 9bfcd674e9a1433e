/**
 * The chart and the examples without a cluster: combinations of values render to what a real API server takes, wrong
 * ones are refused with a reason.
 */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadAll } from "js-yaml";
import { PARAMETERS } from "../../src/state/parameters.ts";
import { ApiServer, NODE_NAMESPACE } from "./api-server.ts";
import { missingApiServer, programs } from "./support/programs.ts";
import { run } from "./support/run.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const chart = join(root, "deploy", "helm", "famfs-csi");
const examples = join(root, "deploy", "examples");
const skip = existsSync(programs.helm) ? false : "needs helm (test/e2e/support/install-cluster binaries)";

const helm = async (args: readonly string[], values: object) =>
  (await run([programs.helm, ...args, "--values=-"], { input: JSON.stringify(values) })).stdout;
const template = (values: object) =>
  helm(["template", "release", chart, "--namespace=famfs", "--kube-version=1.34.4"], values);
const rendered = async (values: object) =>
  (loadAll(await template(values)) as (Rendered | null)[]).filter((object) => object !== null);
/** Each combination of values and the objects it renders to; made when it is first asked for. */
const renderedCombinations = lazily(async () => {
  const all: { values: object; objects: Rendered[] }[] = [];
  for (const values of combinations()) all.push({ values, objects: await rendered(values) });
  return all;
});

function lazily<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/** One of each group is taken in every way, */
const CHOICES: readonly (readonly object[])[] = [
  [
    {},
    { controller: { replicas: 1 } },
    { controller: { nodeSelector: { a: "b" }, tolerations: [{ operator: "Exists" }] } },
    { controller: { affinity: { nodeAffinity: {} }, priorityClassName: "", podDisruptionBudget: false } },
  ],
  [
    {},
    {
      node: {
        devices: ["/dev/dax0.0", "file:///pool/0?size=1Gi"],
        simulatedDevicesDir: "/pool",
        stockToolsDir: "/opt/famfs",
      },
    },
    {
      node: {
        kubeletDir: "/data/kubelet",
        devices: ["auto"],
        nodeSelector: { memory: "shared" },
        updateStrategy: { type: "RollingUpdate" },
      },
    },
    {
      node: {
        registrar: { enabled: true },
        tolerations: [],
        priorityClassName: "",
        affinity: { nodeAffinity: {} },
        updateStrategy: { type: "RollingUpdate", maxUnavailable: "10%" },
      },
    },
  ],
  [{}, { storageClasses: [] }, { storageClasses: [{ name: "s", parameters: { "stripe.buckets": 4, mode: "0750" } }] }],
];

/** and these go along, sometimes one, sometimes another. */
const CHANGING: readonly (readonly object[])[] = [
  [{}, { metrics: { podMonitors: { enabled: true, labels: { release: "prometheus" } }, alerts: { enabled: true } } }],
  [{}, { networkPolicy: { enabled: false }, imagePullSecrets: [{ name: "secret" }], nodeNamespace: { create: false } }],
  [{}, { uninstall: { force: true }, test: { storageClassName: "fast" } }],
  [{}, { customResources: { install: false } }],
];

function combinations(): object[] {
  const all = CHOICES.reduce<object[]>(
    (some, choice) => some.flatMap((values) => choice.map((one) => ({ ...values, ...one }))),
    [{}],
  );
  return all.map((values, index) =>
    Object.assign({}, values, ...CHANGING.map((choice, bit) => choice[(index >> bit) % choice.length])),
  );
}

test("helm lint --strict finds nothing", { skip }, async () => {
  await run([programs.helm, "lint", "--strict", "--kube-version=1.34.4", chart]);
});

test("combinations of values render to objects with a kind and a name of their own", {
  skip,
  timeout: 300_000,
}, async () => {
  for (const { values, objects } of await renderedCombinations()) {
    assert.ok(objects.length > 10, JSON.stringify(values));
    const ids = objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    assert.deepEqual(
      ids.filter((id, index) => ids.indexOf(id) !== index && !/^Role/.test(id)),
      [],
      "twice",
    );
  }
});

describe("a real API server takes", { skip: skip || missingApiServer(), timeout: 300_000 }, () => {
  let server: ApiServer;

  before(async () => {
    server = await ApiServer.start();
    await server.createNamespaces("famfs", NODE_NAMESPACE);
    // Which a controller makes otherwise; pods are not admitted without.
    for (const namespace of ["famfs", "default"]) {
      await server.kubectl(["create", "serviceaccount", "default", `--namespace=${namespace}`]);
    }
  });

  after(async () => {
    await server?.[Symbol.asyncDispose]();
  });

  /** Nothing unknown is in them, and every rule of the server holds; nothing is made. */
  const dryRun = (input: string) =>
    server.kubectl(["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-"], input);

  test("every object that the chart renders", async () => {
    const different = new Map<string, Rendered>();
    for (const { objects } of await renderedCombinations()) {
      // The custom resources of the Prometheus operator are not there.
      const known = objects.filter(({ apiVersion }) => !apiVersion.startsWith("monitoring.coreos.com"));
      for (const object of known) different.set(JSON.stringify(object), object);
    }
    const answer = await dryRun(JSON.stringify({ apiVersion: "v1", kind: "List", items: [...different.values()] }));
    assert.equal(answer.trim().split("\n").length, different.size);
  });

  for (const file of globSync("*.yaml", { cwd: examples })) {
    test(`the example ${file}`, async () => {
      const text = readFileSync(join(examples, file), "utf8");
      await dryRun(text);
      const images = [...text.matchAll(/image: (\S+)/g)].map(([, image]) => image);
      assert.deepEqual([...new Set(images)], ["busybox:1.37"], "README.md of the examples names this one alone");
      const mounts = [...text.matchAll(/mountPath:.*/g)].map(([line]) => line);
      assert.ok(mounts.length > 0);
      for (const line of mounts) assert.match(line, /mountPropagation: HostToContainer/);
    });
  }
});

test("the chart, the image and the program have one version", () => {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const { appVersion } = loadAll(readFileSync(join(chart, "Chart.yaml"), "utf8"))[0] as { appVersion?: string };
  assert.equal(appVersion, version);
  const dockerfile = readFileSync(join(root, "Dockerfile"), "utf8");
  assert.equal(/^ARG VERSION=(.*)$/m.exec(dockerfile)?.[1], version);
});

test("the schema knows the parameters of a StorageClass that the program knows", () => {
  const schema = JSON.parse(readFileSync(join(chart, "values.schema.json"), "utf8"));
  assert.deepEqual(Object.keys(schema.$defs.parameters.properties).toSorted(), Object.keys(PARAMETERS).toSorted());
});

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
}

/** Names of all values with a place of their own, such as `node.registrar.image`. */
function valuesOf(schema: Schema, path = ""): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, value]) =>
    value.properties === undefined ? [`${path}${name}`] : valuesOf(value, `${path}${name}.`),
  );
}

test("values.yaml shows every value that the schema knows", () => {
  const schema = JSON.parse(readFileSync(join(chart, "values.schema.json"), "utf8")) as Schema;
  const [values] = loadAll(readFileSync(join(chart, "values.yaml"), "utf8"));
  const isThere = (path: string) =>
    path.split(".").reduce<unknown>((value, name) => (value as Record<string, unknown> | undefined)?.[name], values) !==
    undefined;
  assert.deepEqual(
    valuesOf(schema).filter((path) => !isThere(path)),
    ["global"], // Helm's own
  );
});

test("the sidecars that the chart names are those that the tests run", () => {
  const values = readFileSync(join(chart, "values.yaml"), "utf8");
  for (const program of [programs.provisioner, programs.attacher]) {
    const image = `registry.k8s.io/sig-storage/${basename(program).replace(/-(v[0-9.]+)$/, ":$1")}`;
    assert.ok(values.includes(`image: ${image}\n`), image);
  }
});

test("nothing that fails keeps an administrator waiting for ever, or a node plugin from starting", {
  skip,
}, async () => {
  const objects = await rendered({});
  const drains = objects.filter(({ kind }) => kind === "PodDisruptionBudget");
  assert.deepEqual(
    drains.map(({ spec }) => spec["unhealthyPodEvictionPolicy"]),
    ["AlwaysAllow"],
    "a controller that crashes can be drained",
  );
  const hooks = objects.filter(({ kind }) => kind === "Job");
  assert.equal(hooks.length, 2);
  for (const { metadata, spec } of hooks) {
    assert.ok(Number(spec["activeDeadlineSeconds"]) < 300, `${metadata.name} ends before Helm gives up`);
  }
  const [node] = objects.filter(({ kind }) => kind === "DaemonSet").flatMap(podSpecsOf);
  const { periodSeconds = 0, failureThreshold = 0 } = node?.containers[0]?.startupProbe ?? {};
  assert.ok(periodSeconds * failureThreshold >= 300, "it may take minutes to serve again what is mounted");
});

test("the namespace of the nodes' Leases is not deleted with the release, nor when its name changes", {
  skip,
}, async () => {
  const namespaces = (await rendered({ fabric: "rack-1" })).filter(({ kind }) => kind === "Namespace");
  assert.deepEqual(
    namespaces.map(({ metadata }) => (metadata as { annotations?: object }).annotations),
    [{ "helm.sh/resource-policy": "keep" }],
  );
});

test("helm test goes where the node plugin runs, but not to a node that is away", { skip }, async () => {
  const taint = { key: "memory", operator: "Exists", effect: "NoExecute" };
  const tolerations = [{ operator: "Exists" }, taint];
  const [pod] = (await rendered({ node: { tolerations } })).filter(({ kind }) => kind === "Pod").flatMap(podSpecsOf);
  assert.deepEqual(pod?.tolerations, [{ operator: "Exists", effect: "NoSchedule" }, taint]);
});

/** A pod that only has to be there may not have more than it needs. */
test("only the node plugin is privileged; every other container has nothing but its own files", { skip }, async () => {
  const values = { node: { registrar: { enabled: true } } };
  const containers = (await rendered(values)).flatMap((object) =>
    podSpecsOf(object).flatMap((pod) =>
      pod.containers.map((container) => ({ ...container, pod: pod.securityContext, of: object.metadata.name })),
    ),
  );
  assert.deepEqual(containers.map(({ of, name }) => `${of} ${name}`).toSorted(), [
    "release-controller controller",
    "release-controller csi-attacher",
    "release-controller csi-provisioner",
    "release-node node",
    "release-node registrar",
    "release-test test",
    "release-uninstall-post uninstall",
    "release-uninstall-pre uninstall",
  ]);
  for (const { name, pod, securityContext } of containers) {
    assert.equal(securityContext.readOnlyRootFilesystem, true, name);
    assert.deepEqual(pod?.seccompProfile, { type: "RuntimeDefault" }, name);
    assert.equal(securityContext.privileged ?? false, name === "node", name);
    if (name === "node") continue;
    assert.deepEqual(securityContext.capabilities, { drop: ["ALL"] }, name);
    assert.equal(securityContext.allowPrivilegeEscalation, false, name);
    assert.equal(pod?.runAsNonRoot ?? false, name !== "registrar", name);
  }
});

interface Rendered {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels: Record<string, string> };
  readonly spec: Record<string, unknown>;
}

interface PodSpec {
  readonly tolerations?: readonly object[];
  readonly securityContext?: { readonly seccompProfile?: object; readonly runAsNonRoot?: boolean };
  readonly containers: readonly {
    readonly name: string;
    readonly startupProbe?: { readonly periodSeconds: number; readonly failureThreshold: number };
    readonly securityContext: {
      readonly privileged?: boolean;
      readonly readOnlyRootFilesystem?: boolean;
      readonly allowPrivilegeEscalation?: boolean;
      readonly capabilities?: object;
    };
  }[];
}

/** Of a pod, or of what makes pods. */
function podSpecsOf({ kind, spec }: Rendered): PodSpec[] {
  if (!["Pod", "Job", "Deployment", "DaemonSet"].includes(kind)) return [];
  const { template: pod = { spec } } = spec as { template?: { spec: unknown } };
  return [pod.spec as PodSpec];
}

const monitoring = async (values: object) =>
  (await rendered(values)).filter(
    ({ kind, metadata }) => /^(PodMonitor|PrometheusRule)$/.test(kind) || metadata.name.endsWith("-metrics"),
  );

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
  const pods = (await rendered(values)).flatMap((object) =>
    object.kind === "Deployment" || object.kind === "DaemonSet" ? [podOf(object)] : [],
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
  ["an update strategy that is none", { node: { updateStrategy: { type: "Recreate" } } }, /updateStrategy/],
  ["a word for a switch", { uninstall: { force: "yes" } }, /force/],
  ["a fabric with blanks", { fabric: "rack 1" }, /fabric/],
] as const) {
  test(`the schema refuses ${what} and says so`, { skip }, async () => {
    await assert.rejects(template(values), reason);
  });
}
