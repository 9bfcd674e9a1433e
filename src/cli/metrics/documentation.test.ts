import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { METRICS } from "./definitions.ts";

const page = readFileSync(new URL("../../../docs/metrics.md", import.meta.url), "utf8");

test("docs/metrics.md lists exactly the metrics that are exported, as they are defined", () => {
  const rows = page.split("\n").filter((line) => line.startsWith("| `"));
  const expected = Object.entries(METRICS).map(([name, { type, labels, by, help }]) => {
    const cells = [`\`${name}\``, type, labels.map((label) => `\`${label}\``).join(", "), by, help];
    return `| ${cells.join(" | ")} |`.replaceAll("|  |", "| |");
  });
  assert.deepEqual(rows, expected, `the table should be:\n${expected.join("\n")}`);
});

test("names are Prometheus' kind of names, and the label that its targets have is not taken on a node", () => {
  for (const [name, { type, labels, by }] of Object.entries(METRICS)) {
    assert.match(name, /^(famfs_csi|process)(_[a-z]+)+$/);
    assert.equal(name.endsWith("_total"), type === "counter", name);
    const names: readonly string[] = labels;
    assert.ok(by === "controller" || !names.includes("node"), name);
  }
});
