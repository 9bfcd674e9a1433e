/** deploy/examples, applied and looked at as their first lines say. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { missingStockImage } from "../support/driver.ts";
import { describeDriver, limits } from "../support/driver-suite.ts";
import { TOOLS_IMAGE } from "../support/images.ts";
import { FABRIC, VOLUMES } from "../support/objects.ts";

const folder = new URL("../../../deploy/examples/", import.meta.url);
const NEEDS_STOCK = "static-pv-stock-famfs.yaml";

/** What the comments tell people to run after `kubectl apply`. */
function commands(text: string): string[][] {
  const lines = text.matchAll(/^# {3}kubectl ((?:wait|rollout|logs) .*?)(?: {2,}#.*)?$/gm);
  return [...lines].map((match) => (match[1] ?? "").trim().split(" "));
}

describeDriver("examples", (group) => {
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".yaml"))) {
    const skip = file === NEEDS_STOCK ? missingStockImage : false;
    test(file, { ...limits, skip }, async () => {
      const { cluster, space } = group;
      const volumes = await cluster.api.list<{ metadata: { name: string }; spec: { adopted: boolean } }>(VOLUMES);
      const adopted = volumes.find(({ spec }) => spec.adopted)?.metadata.name ?? "";
      const text = readFileSync(new URL(file, folder), "utf8");
      const input = text
        .replaceAll("busybox:1.37", TOOLS_IMAGE)
        .replaceAll("adopted-00000000-0000-0000-0000-000000000000", adopted)
        .replaceAll("values: [default]", `values: [${FABRIC}]`);
      const namespace = `--namespace=${space.name}`;
      await cluster.kubectl(["apply", namespace, "-f", "-"], { input });
      const steps = commands(text);
      assert.ok(steps.length > 0);
      for (const [verb = "", ...rest] of steps) {
        const timeout = verb === "logs" ? [] : ["--timeout=90s"];
        const said = await cluster.kubectl([verb, namespace, ...timeout, ...rest]);
        assert.notEqual(said, "", `${verb} ${rest.join(" ")}`);
      }
      await cluster.kubectl(["delete", namespace, "--wait", "--timeout=60s", "-f", "-"], { input });
    });
  }
});
