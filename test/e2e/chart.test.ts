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

for (const [what, values, reason] of [
  ["a typo", { contoller: {} }, /contoller/],
  ["a wrong type", { controller: { replicas: "two" } }, /replicas/],
  ["an unknown parameter", { storageClasses: [{ name: "s", parameters: { dataWriter: "any" } }] }, /dataWriter/],
  ["a device that is none", { node: { devices: ["dax0.0"] } }, /devices/],
  ["a fabric with blanks", { fabric: "rack 1" }, /fabric/],
] as const) {
  test(`the schema refuses ${what} and says so`, { skip }, async () => {
    await assert.rejects(template(values), reason);
  });
}
