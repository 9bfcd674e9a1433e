/** The driver in a cluster: what users do, with real pods. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Cluster } from "./cluster.ts";
import { buildSidecarImages, installDriver, NAMESPACE } from "./support/driver.ts";
import { buildFamfsImage, TOOLS_IMAGE } from "./support/images.ts";
import { missingCluster } from "./support/programs.ts";
import { until } from "./support/until.ts";

const claim = (name: string, accessModes: readonly string[] = ["ReadWriteMany"], storageClassName = "famfs") => ({
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name, namespace: "default" },
  spec: { accessModes, storageClassName, resources: { requests: { storage: "64Mi" } } },
});

const pod = (name: string, claimName: string, node: string) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "default" },
  spec: {
    // Not nodeName, which would pass the scheduler and so the choice of the volume's place.
    nodeSelector: { "kubernetes.io/hostname": node },
    terminationGracePeriodSeconds: 0,
    containers: [
      {
        name: "shell",
        image: TOOLS_IMAGE,
        imagePullPolicy: "Never",
        volumeMounts: [{ name: "data", mountPath: "/data" }],
      },
    ],
    volumes: [{ name: "data", persistentVolumeClaim: { claimName } }],
  },
});

describe("the driver in a cluster", { skip: missingCluster(), timeout: 600_000 }, () => {
  let cluster: Cluster;
  const images = mkdtempSync(join(tmpdir(), "famfs-images-"));

  before(async () => {
    const famfs = join(images, "famfs.tar");
    await buildFamfsImage(famfs);
    cluster = await Cluster.start({ imageArchives: [famfs, ...(await buildSidecarImages(images))] });
    try {
      await installDriver(cluster);
    } catch (error) {
      process.stderr.write(await report(cluster));
      throw error;
    }
  });

  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
    rmSync(images, { recursive: true, force: true });
  });

  const sh = (podName: string, script: string) => cluster.kubectl(["exec", podName, "--", "sh", "-c", script]);
  const ready = async (name: string) => {
    try {
      await cluster.kubectl(["wait", "--for=condition=Ready", `pod/${name}`, "--timeout=60s"]);
    } catch (error) {
      process.stderr.write(await report(cluster));
      throw error;
    }
  };

  test("both nodes register with their kubelet and reach the pool", async () => {
    for (const node of ["node-a", "node-b"]) {
      const registered = await until("registered", async () => {
        const jsonpath = "{.spec.drivers[*].name} {.spec.drivers[*].topologyKeys[*]}";
        const text = await cluster.kubectl(["get", "csinode", node, `--output=jsonpath=${jsonpath}`]);
        return text.includes("famfs.csi.dev") && text;
      });
      assert.equal(registered, "famfs.csi.dev famfs.csi.dev/fabric");
    }
    const table = await until("the device with both nodes", async () => {
      const text = await cluster.kubectl(["get", "famfsdevices"]);
      return text.includes("node-a,node-b") && text;
    });
    assert.match(table, /default\s+rack-1\s+2 GiB/);
  });

  test("a claim is bound, a file written on one node is seen on the other", async () => {
    await cluster.apply(claim("shared"), pod("writer", "shared", "node-a"));
    await ready("writer");
    await cluster.apply(pod("reader", "shared", "node-b"));
    await ready("reader");
    await sh("writer", "echo hello from node-a > /data/greeting && sync");
    const greeting = await until("the file on the other node", async () => {
      return (await sh("reader", "cat /data/greeting 2>/dev/null || true")) || undefined;
    });
    assert.equal(greeting, "hello from node-a\n");
    const table = await cluster.kubectl(["get", "famfsvolumes"]);
    assert.match(table, /Ready\s+64 MiB\s+default\s+node-a\s+\d+\s+node-a,node-b/);
  });

  test("deleting the claim gives the memory back", async () => {
    await cluster.kubectl(["delete", "pod", "writer", "reader", "--timeout=60s"]);
    await cluster.kubectl(["delete", "pvc", "shared", "--timeout=60s"]);
    await until(
      "no volume is left",
      async () => (await cluster.kubectl(["get", "famfsvolumes", "-o", "name"])) === "",
      {
        timeoutMs: 60_000,
      },
    );
  });
});

/** What a person would look at first. */
async function report(cluster: Cluster): Promise<string> {
  const ask = (args: string) => cluster.kubectl(args.split(" ")).catch(String);
  const logs = (component: string) =>
    `logs --namespace=${NAMESPACE} --selector=app.kubernetes.io/component=${component} --all-containers --prefix --tail=40`;
  return [
    await ask("get pods,pvc,pv,famfsvolumes,famfsdevices --all-namespaces --output=wide"),
    await ask(`describe pods --namespace=${NAMESPACE}`),
    await ask("get events --all-namespaces --sort-by=.lastTimestamp"),
    await ask(logs("controller")),
    await ask(logs("node")),
    cluster.logs(),
  ].join("\n---\n");
}
