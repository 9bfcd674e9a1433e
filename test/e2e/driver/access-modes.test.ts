/** Reading and writing in each access mode, whatever the pods say. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { pathOf } from "../support/api.ts";
import { describeDriver, limits } from "../support/driver-suite.ts";
import { claim, DRIVER, pod, staticVolume, storageClass, VOLUMES } from "../support/objects.ts";
import { until } from "../support/until.ts";

interface Volume {
  readonly status: {
    readonly epoch: number;
    readonly writer?: { readonly nodeId: string };
    readonly published: Readonly<Record<string, { readonly accessMode: string; readonly readonly: boolean }>>;
  };
}

const READ_ONLY = /Read-only file system/;

describeDriver("access modes", (group) => {
  const volume = (name: string) => group.cluster.api.get<Volume>(`${VOLUMES}/${name}`);

  test("ReadWriteMany: the writer role moves to whichever node writes", limits, async () => {
    const { space } = group;
    await space.create(claim("moving"), pod("a", "moving", { node: "node-a" }), pod("b", "moving", { node: "node-b" }));
    await space.ready("a", "b");
    const name = await space.bound("moving");
    const epochs: number[] = [];
    for (const [round, writer] of ["a", "b", "a"].entries()) {
      await space.sh(writer, `echo ${writer} > /data/${round} && sync /data`);
      const { status } = await volume(name);
      assert.equal(status.writer?.nodeId, `node-${writer}`);
      epochs.push(status.epoch);
    }
    assert.ok(new Set(epochs).size === 3 && epochs.toSorted((x, y) => x - y).join() === epochs.join(), epochs.join());
    for (const reader of ["a", "b"]) {
      const ask = async () => (await space.sh(reader, "cat /data/0 /data/1 /data/2 || true")) === "a\nb\na\n";
      await until(`${reader} has all three`, ask);
    }
  });

  test("ReadWriteMany: a pod that mounts it with readOnly cannot write, the one beside it can", limits, async () => {
    const { space } = group;
    await space.create(pod("looker", "moving", { node: "node-a", readOnly: true }));
    await space.ready("looker");
    assert.equal(await space.sh("looker", "cat /data/1"), "b\n");
    await assert.rejects(space.sh("looker", "touch /data/new"), READ_ONLY);
    await assert.rejects(space.sh("looker", "echo x >> /data/1"), READ_ONLY);
    await assert.rejects(space.sh("looker", "rm /data/1"), READ_ONLY);
    await space.sh("a", "echo new > /data/new && sync /data");
  });

  test("ReadOnlyMany, static: refuses writes on every node whatever the pod says", limits, async () => {
    const { api } = group.cluster;
    const { space } = group;
    await api.create(storageClass("kept", { reclaimPolicy: "Retain" }));
    await space.create(claim("source", { storageClassName: "kept" }), pod("author", "source", { node: "node-a" }));
    await space.ready("author");
    await space.sh("author", "echo weights > /data/model && sync /data");
    const volumeHandle = await space.bound("source");
    await space.deletePods("author");
    await space.deleteClaim("source");
    await api.remove(pathOf("v1", "PersistentVolume", { name: volumeHandle }));

    await api.create(staticVolume("models", { volumeHandle, mode: "ReadOnlyMany" }));
    await space.create(
      claim("models", { mode: "ReadOnlyMany", storageClassName: "", volumeName: "models" }),
      pod("plain", "models", { node: "node-a" }),
      pod("mighty", "models", { node: "node-b", privileged: true }),
    );
    await space.ready("plain", "mighty");
    for (const reader of ["plain", "mighty"]) {
      assert.equal(await space.sh(reader, "cat /data/model"), "weights\n");
      await assert.rejects(space.sh(reader, "touch /data/new"), READ_ONLY);
      await assert.rejects(space.sh(reader, "echo x > /data/model"), READ_ONLY);
      await assert.rejects(space.sh(reader, "rm /data/model"), READ_ONLY);
    }
    // Root of the node may make its own mount writable; the file system behind it still has no writer here.
    await space.sh("mighty", "mount -o remount,bind,rw /data");
    await assert.rejects(space.sh("mighty", "touch /data/new"), READ_ONLY);
    assert.equal(await space.sh("plain", "cat /data/model; ls /data"), "weights\nmodel\n");
    const { status } = await volume(volumeHandle);
    assert.deepEqual(new Set(Object.values(status.published).map((each) => each.readonly)), new Set([true]));

    await space.deletePods("plain", "mighty");
    await space.deleteClaim("models");
    // As an administrator gives back what was retained: through the driver, by a volume to delete.
    const path = pathOf("v1", "PersistentVolume", { name: "models" });
    const annotations = { "pv.kubernetes.io/provisioned-by": DRIVER };
    await api.patch(path, { metadata: { annotations }, spec: { persistentVolumeReclaimPolicy: "Delete" } });
    await until("the retained volume is erased", async () => !(await api.exists(`${VOLUMES}/${volumeHandle}`)));
  });

  test("ReadOnlyMany, dynamic: is refused with a hint in an event", limits, async () => {
    const { space } = group;
    await space.create(claim("empty", { mode: "ReadOnlyMany" }), pod("waits", "empty"));
    await space.event("PersistentVolumeClaim", "empty", /claim ReadWriteMany and mount it with readOnly: true/);
    assert.equal((await space.claim("empty")).status.phase, "Pending");
  });

  test("ReadWriteOncePod: admits one pod, also past the scheduler", limits, async () => {
    const { space } = group;
    await space.create(claim("alone", { mode: "ReadWriteOncePod" }), pod("first", "alone", { node: "node-a" }));
    await space.ready("first");
    await space.create(pod("second", "alone", { node: "node-a" }), pod("intruder", "alone", { nodeName: "node-a" }));
    await space.event("Pod", "second", /ReadWriteOncePod access mode/);
    await space.event("Pod", "intruder", /ReadWriteOncePod|already in use/i);
    await space.deletePods("first", "intruder");
    await space.ready("second");
    await space.sh("second", "echo mine > /data/file");
  });

  test("ReadWriteOnce: a pod moved to the other node finds its data and may write", limits, async () => {
    const { space, cluster } = group;
    const { api } = cluster;
    await space.create(claim("moved", { mode: "ReadWriteOnce" }), {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "database" },
      spec: {
        replicas: 1,
        strategy: { type: "Recreate" },
        selector: { matchLabels: { app: "database" } },
        template: {
          metadata: { labels: { app: "database" } },
          spec: pod("database", "moved")["spec"],
        },
      },
    });
    const running = (previous = "") =>
      until(
        "the deployment's pod runs",
        async () => {
          const pods = await api.list<{ metadata: { name: string; labels?: Record<string, string> } }>(
            pathOf("v1", "Pod", { namespace: space.name }),
          );
          const found = pods.find(
            ({ metadata: { name, labels } }) => labels?.["app"] === "database" && name !== previous,
          );
          return found?.metadata.name;
        },
        { timeoutMs: 60_000 },
      );
    const before = await running();
    const [home = ""] = await space.ready(before);
    await space.sh(before, "echo rows > /data/table && sync /data");
    await cluster.kubectl(["cordon", home]);
    try {
      await space.deletePods(before);
      const after = await running(before);
      const [away] = await space.ready(after);
      assert.notEqual(away, home);
      assert.equal(
        await space.sh(after, "cat /data/table && echo more > /data/journal && sync /data && ls /data"),
        "rows\njournal\ntable\n",
      );
    } finally {
      await cluster.kubectl(["uncordon", home]);
    }
    await api.remove(pathOf("apps/v1", "Deployment", { name: "database", namespace: space.name }));
  });
});
