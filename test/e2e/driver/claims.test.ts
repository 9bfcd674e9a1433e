/** From a claim to files: what users do every day. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { pathOf } from "../support/api.ts";
import { describeDriver, limits } from "../support/driver-suite.ts";
import { claim, DEVICES, DRIVER, FABRIC, pod, VOLUMES } from "../support/objects.ts";
import { until } from "../support/until.ts";

describeDriver("claims", (group) => {
  test("both nodes register with their kubelet and reach the pool", limits, async () => {
    const { api } = group.cluster;
    for (const { name } of group.cluster.nodes) {
      const drivers = await until("registered", async () => {
        const path = pathOf("storage.k8s.io/v1", "CSINode", { name });
        const { spec } = await api.get<{ spec: { drivers: { name: string; topologyKeys: string[] }[] | null } }>(path);
        return spec.drivers?.find((driver) => driver.name === DRIVER);
      });
      assert.deepEqual(drivers.topologyKeys, [`${DRIVER}/fabric`]);
      const node = await api.get<{ metadata: { labels: Record<string, string> } }>(pathOf("v1", "Node", { name }));
      assert.equal(node.metadata.labels[`${DRIVER}/fabric`], FABRIC);
    }
    await until("the device with both nodes", async () => {
      const devices = await api.list<{ spec: { pool: string }; status: { nodes: object } }>(DEVICES);
      const pool = devices.find(({ spec }) => spec.pool === "default");
      return Object.keys(pool?.status.nodes ?? {}).length === 2;
    });
    assert.match(await group.cluster.kubectl(["get", "famfsdevices"]), /default\s+rack-1\s+1\.5 TiB/);
  });

  test("a claim is bound and mounted, in the time that people wait", limits, async (t) => {
    const { space } = group;
    // With WaitForFirstConsumer a claim waits for its pod, so both clocks start together.
    const started = performance.now();
    const since = () => `${((performance.now() - started) / 1000).toFixed(2)} s`;
    await space.create(claim("shared"), pod("writer", "shared", { node: "node-a" }));
    await space.bound("shared");
    const bound = since();
    await space.ready("writer");
    t.diagnostic(`claim to Bound ${bound} (target 2 s), pod created to Running ${since()} (target 5 s)`);
  });

  test("a file written on one node is seen on the other within a second of its seal", limits, async (t) => {
    const { space } = group;
    await space.create(pod("reader", "shared", { node: "node-b" }));
    await space.ready("reader");
    // Both shells are there before the clock starts; fsync of the directory seals.
    const reading = space.sh(
      "reader",
      "until [ -s /data/greeting ]; do usleep 5000; done; cat /proc/uptime /data/greeting",
    );
    const writing = space.sh("writer", "echo hello from node-a > /data/greeting && sync /data && cat /proc/uptime");
    const [sealed, seen] = (await Promise.all([writing, reading])).map((text) => Number.parseFloat(text));
    const delay = (seen ?? Number.NaN) - (sealed ?? Number.NaN);
    t.diagnostic(`seen ${delay.toFixed(2)} s after its seal (target 1 s)`);
    assert.ok(delay < 1, `${delay} s`);
    assert.match(await reading, /hello from node-a/);
    const table = await group.cluster.kubectl(["get", "famfsvolumes"]);
    assert.match(table, /Ready\s+64 MiB\s+default\s+node-a\s+\d+\s+node-a,node-b/);
  });

  test("two claims are isolated", limits, async () => {
    const { space } = group;
    await space.create(claim("other"), pod("neighbour", "other", { node: "node-a" }));
    await space.ready("neighbour");
    assert.equal(await space.sh("neighbour", "ls -A /data"), "");
    await space.sh("neighbour", "echo mine > /data/greeting && sync /data");
    assert.equal(await space.sh("writer", "cat /data/greeting"), "hello from node-a\n");
    const regions = (await group.cluster.api.list<Volume>(VOLUMES)).flatMap(({ status }) => status.regions);
    for (const region of regions) {
      const beside = regions.filter((other) => other !== region && other.deviceUuid === region.deviceUuid);
      assert.ok(
        beside.every(
          ({ offset, length }) => offset >= region.offset + region.length || offset + length <= region.offset,
        ),
      );
    }
  });

  test("a pod of another user writes by its fsGroup", limits, async () => {
    const { space } = group;
    const securityContext = { runAsUser: 1000, runAsGroup: 1000, fsGroup: 4000, runAsNonRoot: true };
    await space.create(claim("grouped"), pod("user", "grouped", { node: "node-b", securityContext }));
    await space.ready("user");
    await space.sh(
      "user",
      "echo text > /data/file && mkdir /data/folder && echo more > /data/folder/file && sync /data",
    );
    assert.equal(await space.sh("user", "stat -c '%u %g' /data/file && stat -c %g /data"), "1000 4000\n4000\n");
  });

  test("subPath shows each pod its own folder", limits, async () => {
    const { space } = group;
    await space.create(
      claim("divided"),
      pod("one", "divided", { node: "node-a", subPath: "teams/one" }),
      pod("two", "divided", { node: "node-a", subPath: "teams/two" }),
    );
    await space.ready("one", "two");
    await space.sh("one", "echo one > /data/name && sync /data");
    await space.sh("two", "echo two > /data/name && sync /data");
    assert.equal(await space.sh("one", "cat /data/name; ls /data"), "one\nname\n");
    await space.create(pod("all", "divided", { node: "node-a" }));
    await space.ready("all");
    assert.equal(await space.sh("all", "cat /data/teams/*/name"), "one\ntwo\n");
  });
});

interface Volume {
  readonly status: {
    readonly regions: readonly { readonly deviceUuid: string; readonly offset: number; readonly length: number }[];
  };
}
