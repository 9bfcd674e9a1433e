/** The driver's records are gone from the API; the memory still knows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { pathOf } from "../support/api.ts";
import { NAMESPACE, poolFile, RELEASE } from "../support/driver.ts";
import { describeDriver } from "../support/driver-suite.ts";
import { claim, pod, VOLUMES } from "../support/objects.ts";
import type { Pod } from "../support/space.ts";
import { until } from "../support/until.ts";

interface Volume {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly adopted: boolean; readonly uuid: string };
  readonly status: { readonly regions: readonly object[] };
}

describeDriver("lost records", (group) => {
  // The attacher compares once a minute what is attached with what the driver lists; until then a node that gave
  // writing back does not get it again (docs/operations.md).
  const limits = { timeout: 300_000 };
  const reattached = { timeoutMs: 150_000 };

  test("device rebuild makes all FamfsVolumes again, and pods use them as before", limits, async (t) => {
    const { cluster, space } = group;
    const { api } = cluster;
    await space.create(claim("one"), pod("one", "one"), claim("two"), pod("two", "two", { node: "node-b" }));
    await space.ready("one", "two");
    for (const name of ["one", "two"]) await space.sh(name, `echo ${name} > /data/name && sync /data`);
    await space.deletePods("one");
    const one = await space.bound("one");
    await until("volume one is attached nowhere", async () => !(await space.isAttached(one)));

    const all = async () => {
      const volumes = (await api.list<Volume>(VOLUMES)).filter(({ spec }) => !spec.adopted);
      return volumes
        .map(({ metadata, spec, status }) => [metadata.name, spec.uuid, status.regions] as const)
        .sort(([a], [b]) => (a < b ? -1 : 1));
    };
    const before = await all();
    assert.equal(before.length, 2);
    // As somebody does who means well: the finalizer is in the way, so it is taken off.
    for (const [name] of before) {
      await api.delete(`${VOLUMES}/${name}`);
      await api.patch(`${VOLUMES}/${name}`, { metadata: { finalizers: null } });
    }
    assert.deepEqual(await all(), []);

    const selector = "labelSelector=app.kubernetes.io/component=node";
    const [plugin] = await api.list<Pod>(`${pathOf("v1", "Pod", { namespace: NAMESPACE })}?${selector}`);
    // Named, because only devdax devices are found by themselves wherever they are.
    const program = ["/usr/bin/node", "/app/src/cli/main.js", "device", "rebuild", poolFile(cluster)];
    const namespace = `--namespace=${NAMESPACE}`;
    const exec = ["exec", "--stdin", namespace, plugin?.metadata.name ?? "", "--", ...program];
    await assert.rejects(cluster.kubectl(exec), /node node-[ab] may .*needs --token/);
    assert.deepEqual(await all(), []);
    const input = await cluster.kubectl(["create", "token", `${RELEASE}-rebuild`, namespace]);
    await cluster.kubectl([...exec, "--token=-"], { input });
    assert.deepEqual(await all(), before);

    await space.create(pod("one-again", "one", { node: "node-b" }), pod("two-again", "two", { node: "node-b" }));
    await space.ready("one-again", "two-again");
    const restored = performance.now();
    for (const [name, data] of [
      ["one-again", "one"],
      ["two-again", "two"],
      ["two", "two"],
    ] as const) {
      assert.equal(await space.sh(name, "cat /data/name"), `${data}\n`);
      const write = () => space.sh(name, `echo more > /data/by-${name} && sync /data && echo done`);
      await until(`pod ${name} writes`, write, reattached);
    }
    t.diagnostic(`all wrote within ${((performance.now() - restored) / 1000).toFixed(0)} s`);
  });
});
