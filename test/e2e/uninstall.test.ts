/** What the chart's hooks run around `helm uninstall`, against a real API server. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { KubernetesStore } from "../../src/state/kubernetes/kubernetes-store.ts";
import { Uninstall } from "../../src/state/kubernetes/uninstall.ts";
import { exampleVolume } from "../../src/state/store-conformance.ts";
import { ApiServer } from "./api-server.ts";
import { missingApiServer } from "./support/programs.ts";
import { run } from "./support/run.ts";

const program = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

const device = {
  uuid: "00000000-0000-4000-8000-00000000000d",
  pool: "default",
  fabric: "rack-1",
  sizeBytes: 2 ** 31,
  incarnation: 1,
  coherency: "flush",
  nodes: { "node-a": { path: "/dev/dax0.0" } },
  generation: 3,
  intent: undefined,
  revision: undefined,
  frozen: undefined,
} as const;

const persistentVolume = (name: string, driver: string, finalizers: readonly string[]) => ({
  apiVersion: "v1",
  kind: "PersistentVolume",
  metadata: { name, finalizers },
  spec: {
    accessModes: ["ReadWriteMany"],
    capacity: { storage: "1Gi" },
    persistentVolumeReclaimPolicy: "Retain",
    csi: { driver, volumeHandle: `handle-${name}` },
  },
});

describe("uninstalling", { skip: missingApiServer(), timeout: 180_000 }, () => {
  let server: ApiServer;
  let store: KubernetesStore;

  before(async () => {
    // Nobody is here who would take the finalizer of that plugin off again.
    server = await ApiServer.startWithRecords({
      apiServerFlags: ["--disable-admission-plugins=StorageObjectInUseProtection"],
    });
    store = await server.openStore();
  });

  after(async () => {
    await store?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  beforeEach(async () => {
    for (const kind of ["volumes", "devices"] as const) {
      for (const { name, resourceVersion } of await store.list(kind)) await store.delete(kind, name, resourceVersion);
    }
    await server.kubectl(["delete", "persistentvolumes", "--all", "--timeout=10s"]);
  });

  const uninstall = async (...args: readonly string[]) =>
    (await run([process.execPath, program, "uninstall", `--kubeconfig=${server.plane.kubeconfig()}`, ...args])).stdout;
  const letGo = async () => {
    using parts = await Uninstall.open({ environment: {}, kubeconfig: server.plane.kubeconfig() });
    await parts.letGo();
  };
  const create = (object: object) => server.kubectl(["create", "-f", "-"], JSON.stringify(object));
  const finalizers = (kind: string, name: string) =>
    server.kubectl(["get", kind, name, "--output=jsonpath={.metadata.finalizers[*]}"]);
  const unused = { ...exampleVolume, published: {}, staged: {} };

  test("nothing is in the way when there are only devices and volumes of the stock tools", async () => {
    await store.create("devices", device.uuid, device);
    await store.create("volumes", "adopted-1", { ...unused, adopted: true });
    await create(persistentVolume("others", "other.example", []));
    assert.match(await uninstall("--check"), /nothing would be left/);
  });

  test("a volume is in the way, and is named with the ways out, unless it is forced", async () => {
    await store.create("volumes", "pvc-1", unused);
    await assert.rejects(
      uninstall("--check"),
      /status 1\n.*pvc-1: 1 TiB, Ready.*uninstall\.force=true.*helm rollback/s,
    );
    await uninstall("--check", "--force");
  });

  test("a volume that a pod uses is in the way even when it is forced", async () => {
    await store.create("volumes", "pvc-1", { ...unused, published: exampleVolume.published });
    await assert.rejects(uninstall("--check", "--force"), /pvc-1: used by pods on node-a.*Delete the pods/s);
    await store.create("volumes", "adopted-1", { ...unused, adopted: true, published: exampleVolume.published });
    await assert.rejects(uninstall("--check", "--force"), /adopted-1: used by pods/);
  });

  test("a PersistentVolume of the driver is in the way: the attacher's finalizer would stay on it", async () => {
    await create(persistentVolume("static", "famfs.csi.dev", []));
    await assert.rejects(uninstall("--check"), /PersistentVolume static: names volume handle-static/);
    await uninstall("--check", "--force");
  });

  test("afterwards nothing waits for the driver, and records of volumes wait for the next one", async () => {
    await store.create("devices", device.uuid, device);
    await store.create("volumes", "pvc-1", unused);
    const ofSidecars = ["external-provisioner.volume.kubernetes.io/finalizer", "external-attacher/famfs-csi-dev"];
    const foreign = "example.com/kept";
    await create(persistentVolume("dynamic", "famfs.csi.dev", [foreign, ...ofSidecars]));
    await create(persistentVolume("others", "other.example", ofSidecars.slice(1)));
    for (const _ of ["once", "again"]) {
      await letGo();
      assert.equal(await finalizers("famfsvolume", "pvc-1"), "");
      assert.equal(await finalizers("famfsdevice", device.uuid), "");
    }
    assert.equal(await finalizers("pv", "dynamic"), foreign);
    assert.match(await finalizers("pv", "others"), /external-attacher/);

    assert.equal(await store.protectRecords(), 2);
    assert.equal(await finalizers("famfsvolume", "pvc-1"), "famfs.csi.dev/memory");
    assert.equal(await store.protectRecords(), 0);

    for (const name of ["dynamic", "others"]) {
      await server.kubectl(["patch", "pv", name, "--type=merge", '--patch={"metadata":{"finalizers":null}}']);
    }
  });

  test("without a volume the records go, and the definitions can be deleted at once", async () => {
    await store.create("devices", device.uuid, device);
    await store.create("volumes", "adopted-1", { ...unused, adopted: true });
    await letGo();
    assert.equal(await server.kubectl(["get", "famfsvolumes,famfsdevices", "--output=name"]), "");
  });

  test("when somebody has deleted the definitions first, only PersistentVolumes are in the way", async () => {
    await server.kubectl(["delete", "crd", "--all", "--timeout=30s"]);
    await create(persistentVolume("dynamic", "famfs.csi.dev", ["external-attacher/famfs-csi-dev"]));
    await assert.rejects(uninstall("--check"), /status 1\n.*PersistentVolume dynamic/s);
    await letGo();
    assert.equal(await finalizers("pv", "dynamic"), "");
    await server.kubectl(["delete", "pv", "dynamic"]);
    assert.match(await uninstall("--check"), /nothing would be left/);
  });
});
