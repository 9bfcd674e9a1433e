/** Parts that stop and start again while volumes are in use. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { pathOf } from "../support/api.ts";
import { driverValues, helm, NAMESPACE } from "../support/driver.ts";
import { describeDriver, limits } from "../support/driver-suite.ts";
import { claim, pod, storageClass, VOLUMES } from "../support/objects.ts";
import type { Pod } from "../support/space.ts";
import { until } from "../support/until.ts";

interface Volume {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly adopted: boolean };
  readonly status: {
    readonly phase: string;
    readonly regions: readonly { readonly deviceUuid: string; readonly offset: number; readonly length: number }[];
  };
}

/** The process of the node's plugin that serves its mounts. */
function fuseServerOf(node: string): number {
  const found = readdirSync("/proc").find((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const [line, environment] = ["cmdline", "environ"].map((file) => readFileSync(`/proc/${pid}/${file}`, "latin1"));
      return /fuse-server\/main\.js/.test(line ?? "") && environment?.split("\0").includes(`NODE_NAME=${node}`);
    } catch {
      return false; // ended meanwhile, or not for us to see
    }
  });
  assert.ok(found !== undefined, `no FUSE server on ${node}`);
  return Number(found);
}

describeDriver("restarts", (group) => {
  const pods = async (component: string) => {
    const selector = `labelSelector=app.kubernetes.io/component=${component}`;
    return group.cluster.api.list<Pod>(`${pathOf("v1", "Pod", { namespace: NAMESPACE })}?${selector}`);
  };
  const isReady = ({ status }: Pod) => status.conditions?.find(({ type }) => type === "Ready")?.status === "True";
  const allReady = (component: string, count: number) =>
    until(
      `${count} ready pods of the ${component}`,
      async () => {
        const there = (await pods(component)).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
        return there.length === count && there.every(isReady);
      },
      { timeoutMs: 90_000 },
    );
  /** A volume in use before, during and after; `both` on node-a and node-b. */
  const inUse = async (name: string) => {
    const { space } = group;
    await space.create(
      claim(name),
      pod(`${name}-a`, name, { node: "node-a" }),
      pod(`${name}-b`, name, { node: "node-b" }),
    );
    await space.ready(`${name}-a`, `${name}-b`);
    await space.sh(`${name}-a`, "echo before > /data/before && sync /data");
    return { a: `${name}-a`, b: `${name}-b` };
  };

  test("the kubelet: pods go on, new ones start", limits, async () => {
    const { cluster, space } = group;
    const { a, b } = await inUse("kubelet");
    const node = cluster.node("node-a");
    await node.stopKubelet();
    try {
      // Nobody of ours notices: both sides of the volume work.
      await space.sh(b, "echo during > /data/during && sync /data");
    } finally {
      node.startKubelet();
    }
    await until("exec on the node works again", async () => (await space.sh(a, "cat /data/during")) === "during\n", {
      timeoutMs: 60_000,
    });
    await space.create(pod("kubelet-new", "kubelet", { node: "node-a" }));
    await space.ready("kubelet-new");
    await space.sh("kubelet-new", "echo after > /data/after && sync /data");
    assert.equal(
      await space.sh(b, "cat /data/before /data/during; ls /data"),
      "before\nduring\nafter\nbefore\nduring\n",
    );
    // The restarted kubelet knows what it must take off.
    await space.deletePods(a, b, "kubelet-new");
  });

  test("the API server: files go on, claims are served afterwards", limits, async () => {
    const { cluster, space } = group;
    const { a, b } = await inUse("api");
    // Runs while nobody can exec: reads all the time and says what went wrong.
    const reading = `while :; do cat /data/before > /dev/null || echo error; usleep 20000; done > /tmp-errors 2>&1 &`;
    await space.sh(b, reading);
    await cluster.plane.stopApiServer();
    await cluster.plane.startApiServer();
    await until("the API server serves exec", async () => (await space.sh(b, "cat /tmp-errors")) === "", {
      timeoutMs: 60_000,
    });
    await space.sh(a, "echo after > /data/after && sync /data");
    await until("seen on the other node", async () => (await space.sh(b, "cat /data/after || true")) === "after\n");
    await space.create(claim("api-new"), pod("api-new", "api-new"));
    await space.ready("api-new");
    await space.deletePods(a, b, "api-new");
  });

  test("the node plugin: pods that start afterwards work, data is there", limits, async () => {
    const { cluster, space } = group;
    const { a, b } = await inUse("plugin");
    const [plugin] = (await pods("node")).filter(({ spec }) => spec.nodeName === "node-a");
    assert.ok(plugin !== undefined);
    await cluster.api.remove(pathOf("v1", "Pod", { name: plugin.metadata.name, namespace: NAMESPACE }));
    await allReady("node", 2);
    // Its mounts were served by the plugin that is gone.
    await space.event(
      "PersistentVolumeClaim",
      "plugin",
      /^MountsBroken: .*pod restarts\/plugin-a\b.*delete these pods/,
    );
    await space.sh(b, "echo after > /data/after && sync /data");
    await space.deletePods(a);
    await space.create(pod("plugin-new", "plugin", { node: "node-a" }));
    await space.ready("plugin-new");
    assert.equal(await space.sh("plugin-new", "cat /data/before /data/after"), "before\nafter\n");
    await space.sh("plugin-new", "echo more > /data/more && sync /data");
    await space.deletePods(b, "plugin-new");
  });

  test(
    "the FUSE server, three times: containers with HostToContainer go on, new pods start at once",
    limits,
    async () => {
      const { space } = group;
      await space.create(
        claim("healed"),
        pod("healed", "healed", { node: "node-a", mountPropagation: "HostToContainer" }),
      );
      await space.ready("healed");
      await space.sh("healed", "echo before > /data/before && sync /data");
      for (const round of ["1", "2", "3"]) {
        process.kill(fuseServerOf("node-a"), "SIGKILL");
        await until(
          "the container reads again",
          async () => (await space.sh("healed", "cat /data/before || true")) === "before\n",
          {
            timeoutMs: 30_000,
          },
        );
        await space.sh("healed", `echo ${round} > /data/round-${round} && sync /data`);
        await space.create(pod(`new-${round}`, "healed", { node: "node-a" }));
        await space.ready(`new-${round}`);
        assert.equal(await space.sh(`new-${round}`, `cat /data/round-${round}`), `${round}\n`);
      }
      await space.event("PersistentVolumeClaim", "healed", /^FuseServerDied: .*3 times within/);
      // They did not say so, and were there when the server died.
      await space.event("PersistentVolumeClaim", "healed", /^MountsBroken: .*pod restarts\/new-1\b.*delete these pods/);
      await space.deletePods("healed", "new-1", "new-2", "new-3");
    },
  );

  test("a controller that dies in the middle of 20 creations: 20 volumes, none twice, none lost", limits, async (t) => {
    const { cluster, space } = group;
    const { api } = cluster;
    await api.create(storageClass("immediate", { bindingMode: "Immediate" }));
    const known = new Set((await api.list<Volume>(VOLUMES)).map(({ metadata }) => metadata.name));
    const names = Array.from({ length: 20 }, (_, index) => `many-${index}`);
    const started = performance.now();
    await space.create(...names.map((name) => claim(name, { storageClassName: "immediate" })));
    const volumes = async () => (await api.list<Volume>(VOLUMES)).filter(({ metadata }) => !known.has(metadata.name));
    await until("some are being made", async () => (await volumes()).length >= 3, { periodMs: 10 });
    // The one whose provisioner leads is the one that is in the middle of it.
    const lease = await api.get<{ spec: { holderIdentity: string } }>(
      pathOf("coordination.k8s.io/v1", "Lease", { name: "famfs-csi-dev", namespace: NAMESPACE }),
    );
    const leader = (await pods("controller")).find(({ metadata }) => lease.spec.holderIdentity.includes(metadata.name));
    assert.ok(leader !== undefined, lease.spec.holderIdentity);
    await api.delete(pathOf("v1", "Pod", { name: leader.metadata.name, namespace: NAMESPACE }), {
      gracePeriodSeconds: 0,
    });
    const finished = (await volumes()).filter(({ status }) => status.phase === "Ready").length;
    const handles = new Set<string>();
    for (const name of names) handles.add(await space.bound(name, 100_000));
    t.diagnostic(
      `killed with ${finished} ready; all bound after ${((performance.now() - started) / 1000).toFixed(1)} s`,
    );
    assert.equal(handles.size, 20);
    const made = await volumes();
    assert.deepEqual(made.map(({ metadata }) => metadata.name).sort(), [...handles].sort());
    const regions = made.flatMap(({ status }) => status.regions).sort((x, y) => x.offset - y.offset);
    assert.equal(regions.length, 20);
    for (const [index, { offset }] of regions.entries()) {
      const before = regions[index - 1];
      assert.ok(before === undefined || before.offset + before.length <= offset, "regions overlap");
    }
    await allReady("controller", 2);
  });

  test("helm upgrade with RollingUpdate replaces every pod of the driver; claims and data stay", limits, async () => {
    const { cluster, space } = group;
    await space.create(claim("kept"), pod("before", "kept", { node: "node-a" }));
    await space.ready("before");
    await space.sh("before", "echo rows > /data/table && sync /data");
    const volume = await space.bound("kept");
    const running = async () => {
      const pods = await group.cluster.api.list<Pod>(pathOf("v1", "Pod", { namespace: NAMESPACE }));
      return pods.filter(({ status }) => status.phase === "Running").map(({ metadata }) => metadata.uid);
    };
    const old = new Set(await running());

    const { node, ...values } = driverValues(cluster);
    const updateStrategy = { type: "RollingUpdate" };
    await helm(cluster, "upgrade", { ...values, node: { ...node, updateStrategy }, logLevel: "debug" });
    await until("only new pods run", async () => {
      const now = await running();
      return now.length === old.size && now.every((uid) => !old.has(uid));
    });
    assert.equal(await space.bound("kept"), volume);
    await space.create(pod("elsewhere", "kept", { node: "node-b" }));
    await space.deletePods("before");
    await space.create(pod("again", "kept", { node: "node-a" }));
    await space.ready("elsewhere", "again");
    await space.sh("again", "echo more > /data/journal && sync /data");
    await until("the other node has both", async () => {
      return (await space.sh("elsewhere", "cat /data/table /data/journal || true")) === "rows\nmore\n";
    });
    await space.create(claim("fresh"), pod("fresh", "fresh"));
    await space.ready("fresh");
  });
});
