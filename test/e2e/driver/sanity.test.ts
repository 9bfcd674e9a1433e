/** csi-sanity against the deployed controller and node plugin. Nothing is skipped by us. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { checkSanity, csiSanity } from "../../support/csi-sanity.ts";
import { missingCsiSanity } from "../../support/prerequisites.ts";
import { pathOf } from "../support/api.ts";
import { NAMESPACE } from "../support/driver.ts";
import { describeDriver } from "../support/driver-suite.ts";
import { DRIVER, VOLUMES } from "../support/objects.ts";
import type { Pod } from "../support/space.ts";
import { until } from "../support/until.ts";

describeDriver("sanity", (group) => {
  const options = { skip: missingCsiSanity(), timeout: 8 * 60_000 };

  test("csi-sanity passes against the deployed services", options, async (t) => {
    const { cluster } = group;
    const node = cluster.node("node-a");
    const selector = "labelSelector=app.kubernetes.io/component=controller";
    const pods = await cluster.api.list<Pod>(`${pathOf("v1", "Pod", { namespace: NAMESPACE })}?${selector}`);
    const [controller] = pods;
    assert.ok(controller?.spec.nodeName !== undefined);
    const pid = await cluster.node(controller.spec.nodeName).containerPid(controller, "controller");
    const directory = join(cluster.kubeletDirectory, "plugins", DRIVER);
    await node.run(["mkdir", join(directory, "sanity")]);
    const result = await csiSanity({
      // In the node's mounts, because both sides name paths there.
      enter: node.enter,
      node: join(directory, "csi.sock"),
      controller: `/proc/${pid}/root/csi/csi.sock`,
      directory: join(directory, "sanity"),
      timeoutMs: options.timeout,
    });
    t.diagnostic(checkSanity(result));
    // Empty again, or this fails.
    await node.run(["rmdir", join(directory, "sanity")]);
    await until("the suite's volumes are erased", async () => {
      const volumes = await cluster.api.list<{ spec: { csiName: string } }>(VOLUMES);
      return !volumes.some(({ spec }) => spec.csiName.startsWith("sanity"));
    });
  });
});
