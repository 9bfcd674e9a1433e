/**
 * What administrators do with the chart: test it, be kept from uninstalling what is in use, uninstall, install again.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Cluster } from "./cluster.ts";
import {
  buildSidecarImages,
  CHART,
  driverValues,
  NAMESPACE,
  poolFile,
  RELEASE,
  helm as runHelm,
} from "./support/driver.ts";
import { buildFamfsImage, TOOLS_IMAGE } from "./support/images.ts";
import { missingCluster, programs } from "./support/programs.ts";
import { until } from "./support/until.ts";

const claim = {
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name: "kept", namespace: "default" },
  spec: {
    accessModes: ["ReadWriteMany"],
    storageClassName: "famfs",
    resources: { requests: { storage: "64Mi" } },
  },
};

const pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "user", namespace: "default" },
  spec: {
    terminationGracePeriodSeconds: 0,
    containers: [
      {
        name: "shell",
        image: TOOLS_IMAGE,
        imagePullPolicy: "Never",
        volumeMounts: [{ name: "data", mountPath: "/data" }],
      },
    ],
    volumes: [{ name: "data", persistentVolumeClaim: { claimName: "kept" } }],
  },
};

const installDriver = (cluster: Cluster) => runHelm(cluster, "install", driverValues(cluster, { stockDevice: false }));

describe("the chart in a cluster", { skip: missingCluster(), timeout: 900_000 }, () => {
  let cluster: Cluster;
  const images = mkdtempSync(join(tmpdir(), "famfs-images-"));

  before(async () => {
    const famfs = join(images, "famfs.tar");
    await buildFamfsImage(famfs);
    cluster = await Cluster.start({ imageArchives: [famfs, ...(await buildSidecarImages(images))] });
    await installDriver(cluster);
  });

  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
    rmSync(images, { recursive: true, force: true });
  });

  const helm = (verb: string, ...args: readonly string[]) =>
    cluster.run([programs.helm, verb, RELEASE, ...args, `--namespace=${NAMESPACE}`], { timeoutMs: 180_000 });
  const names = async (kinds: string, ...args: readonly string[]) =>
    (await cluster.kubectl(["get", kinds, "--output=name", ...args])).split("\n").filter((name) => name !== "");
  const startPod = async () => {
    await cluster.apply(pod);
    await cluster.kubectl(["wait", "--for=condition=Ready", "pod/user", "--timeout=60s"]);
  };
  /** Mounts and sockets of the driver, as the nodes themselves see them. */
  const leftOnNodes = async () => {
    const left: string[] = [];
    for (const node of cluster.nodes) {
      const mounts = (await node.run(["cat", "/proc/self/mounts"])).split("\n");
      left.push(...mounts.filter((line) => line.includes("famfs-csi") && line.includes(cluster.kubeletDirectory)));
      const sockets = await node.run(["find", cluster.kubeletDirectory, "-type", "s", "-path", "*famfs*"]);
      left.push(...sockets.split("\n").filter((path) => path !== ""));
    }
    return left;
  };
  const read = () => cluster.kubectl(["exec", "user", "--", "cat", "/data/file"]);

  test("helm test writes and reads a volume of its own, and leaves none", async () => {
    assert.match(await helm("test", "--timeout=120s"), /^Phase: +Succeeded$/m); // what it said goes to standard error
    await until("its volume is erased", async () => (await names("famfsvolumes,pv,pvc")).length === 0);
  });

  test("an administrator runs the program in a node plugin's pod", async () => {
    const [plugin = ""] = await names(
      "pods",
      `--namespace=${NAMESPACE}`,
      "--selector=app.kubernetes.io/component=node",
    );
    const program = ["famfs-csi", "device", "rebuild", "--dry-run", poolFile(cluster)];
    const answer = await cluster.kubectl(["exec", plugin, `--namespace=${NAMESPACE}`, "--", ...program]);
    assert.match(answer, /every volume in the memory has its record/);
  });

  test("an upgrade that changes nothing of the pods replaces none", async () => {
    const pods = () => names("pods", `--namespace=${NAMESPACE}`);
    const old = await pods();
    await helm("upgrade", CHART, "--reset-then-reuse-values", "--set=networkPolicy.enabled=false", "--wait");
    assert.deepEqual(await pods(), old);
  });

  test("while a pod uses a volume, uninstalling is refused even when it is forced, and nothing is gone", async () => {
    await cluster.apply(claim);
    await startPod();
    await cluster.kubectl(["exec", "user", "--", "sh", "-c", "echo kept > /data/file"]);
    // The volume's and the pod's mount, and per node the CSI and the registration socket.
    assert.equal((await leftOnNodes()).length, 2 + 2 * 2);
    const before = await names("pods", `--namespace=${NAMESPACE}`, "--field-selector=status.phase=Running");
    await assert.rejects(helm("uninstall", "--timeout=60s"), /used by pods on node-/);
    const roles = await names("clusterroles,clusterrolebindings");
    assert.deepEqual(
      roles.filter((name) => name.includes("uninstall")),
      [],
      "nobody keeps the rights of the hook",
    );
    const history = JSON.parse(await helm("history", "--output=json")) as { revision: number; status: string }[];
    assert.equal(history.at(-1)?.status, "uninstalling", "as docs/install.md says");
    await helm("rollback", String(history.at(-1)?.revision), "--wait");
    await helm("upgrade", CHART, "--reset-then-reuse-values", "--set=uninstall.force=true", "--wait");
    await assert.rejects(helm("uninstall", "--timeout=60s"), /used by pods on node-/);
    assert.equal(await read(), "kept\n");
    const now = await names("pods", `--namespace=${NAMESPACE}`, "--field-selector=status.phase=Running");
    assert.deepEqual(now, before, "no pod of the driver was replaced");
    await cluster.kubectl(["delete", "pod", "user", "--timeout=60s"]);
  });

  test("forced, the volume stays in the memory, nothing waits for a driver, and the next one serves it", async () => {
    await until("detached", async () => (await names("volumeattachments")).length === 0);
    await helm("uninstall", "--wait", "--timeout=120s");
    assert.deepEqual(await names("pods,daemonsets,deployments,jobs,serviceaccounts", `--namespace=${NAMESPACE}`), [
      "serviceaccount/default",
    ]);
    assert.equal((await names("famfsvolumes")).length, 1);
    const jsonpath = "{.items[*].metadata.finalizers[*]}";
    assert.equal(await cluster.kubectl(["get", "famfsvolumes,famfsdevices", `--output=jsonpath=${jsonpath}`]), "");
    assert.equal(await cluster.kubectl(["get", "pv", `--output=jsonpath=${jsonpath}`]), "kubernetes.io/pv-protection");

    await installDriver(cluster);
    await startPod();
    assert.equal(await read(), "kept\n");
    await until("the finalizer is back", async () =>
      (await cluster.kubectl(["get", "famfsvolumes", `--output=jsonpath=${jsonpath}`])).includes(
        "famfs.csi.dev/memory",
      ),
    );
  });

  test("a volume that nobody uses is in the way, too; without volumes nothing is left but the definitions", async () => {
    await cluster.kubectl(["delete", "pod", "user", "--timeout=60s"]);
    await until("detached", async () => (await names("volumeattachments")).length === 0);
    await assert.rejects(helm("uninstall", "--timeout=60s"), /pvc-[-0-9a-f]+: 64 MiB, Ready/);
    await cluster.kubectl(["delete", "pvc", "kept", "--timeout=60s"]);
    await until("erased", async () => (await names("famfsvolumes,pv")).length === 0);
    await helm("uninstall", "--wait", "--timeout=120s");
    assert.deepEqual(await names("famfsvolumes,famfsdevices"), []);
    assert.deepEqual((await names("crd")).toSorted(), [
      "customresourcedefinition.apiextensions.k8s.io/famfsdevices.famfs.csi.dev",
      "customresourcedefinition.apiextensions.k8s.io/famfsvolumes.famfs.csi.dev",
    ]);
    await cluster.kubectl(["delete", "crd", "--all", "--timeout=30s"]);
    assert.deepEqual(await leftOnNodes(), []);
  });
});
