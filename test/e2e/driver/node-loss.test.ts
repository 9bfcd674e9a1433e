/** A node whose power fails while its pods write. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { pathOf } from "../support/api.ts";
import { NAMESPACE } from "../support/driver.ts";
import { describeDriver } from "../support/driver-suite.ts";
import { claim, pod, VOLUMES } from "../support/objects.ts";
import type { Pod } from "../support/space.ts";
import { until } from "../support/until.ts";

const TAINT = "node.kubernetes.io/out-of-service";

describeDriver("node loss", (group) => {
  const patience = { timeoutMs: 150_000, periodMs: 250 };

  test("with the out-of-service taint its pod goes to the other node, which writes", {
    timeout: 420_000,
  }, async (t) => {
    const { cluster, space } = group;
    const { api } = cluster;
    const lost = cluster.node("node-a");
    const isReady = async () => {
      const path = pathOf("v1", "Node", { name: lost.name });
      const { status } = await api.get<{ status: { conditions: { type: string; status: string }[] } }>(path);
      return status.conditions.find(({ type }) => type === "Ready")?.status === "True";
    };
    await space.create(claim("rows", { mode: "ReadWriteOnce" }), pod("before", "rows", { node: "node-a" }));
    await space.ready("before");
    await space.sh("before", "echo rows > /data/table && sync /data");
    const name = await space.bound("rows");
    const epoch = async () => (await api.get<{ status: { epoch: number } }>(`${VOLUMES}/${name}`)).status.epoch;
    const old = await epoch();

    await lost.crash();
    const started = performance.now();
    await until("the node is not ready", async () => !(await isReady()), patience);
    await cluster.kubectl(["taint", "node", lost.name, `${TAINT}=nodeshutdown:NoExecute`]);
    await space.create(pod("after", "rows", { node: "node-b" }));
    const running = async () => (await space.pod("after")).status.phase === "Running";
    await until("the pod runs on the other node", running, patience);
    t.diagnostic(`running on the other node ${((performance.now() - started) / 1000).toFixed(0)} s after the failure`);
    await space.ready("after");
    assert.equal(await space.sh("after", "cat /data/table"), "rows\n");
    await space.sh("after", "echo more > /data/journal && sync /data");
    assert.ok((await epoch()) > old, "under another epoch");

    await lost.boot();
    await until("the node is ready again", isReady, patience);
    await cluster.kubectl(["taint", "node", lost.name, `${TAINT}-`]);
    const parts = async () => {
      const pods = await api.list<Pod>(pathOf("v1", "Pod", { namespace: NAMESPACE }));
      const ready = pods.filter(({ status }) =>
        status.conditions?.some((c) => c.type === "Ready" && c.status === "True"),
      );
      return ready.length >= 4 && ready.filter(({ spec }) => spec.nodeName === lost.name).length >= 1;
    };
    await until("the driver is whole again", parts, patience);
    await space.create(claim("fresh"), pod("fresh", "fresh", { node: "node-a" }));
    await space.ready("fresh");
  });
});
