/** The alerts of the chart: each expression parses, and what it and its texts name is exported. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parser } from "@prometheus-io/lezer-promql";
import { load } from "js-yaml";
import { type Definition, METRICS } from "../src/cli/metrics/definitions.ts";

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity?: string };
  readonly annotations: { readonly summary?: string; readonly description?: string };
}

const file = new URL("../deploy/helm/famfs-csi/files/alerts.yaml", import.meta.url);
const { groups } = load(readFileSync(file, "utf8")) as { groups: { rules: Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);

/** What every target of the PodMonitors has. */
const TARGET_LABELS = ["pod", "namespace"];

interface Names {
  readonly wrong: string[];
  readonly metrics: string[];
  readonly matched: string[];
  /** Labels that an aggregation keeps; undefined without one. */
  readonly kept: string[] | undefined;
}

function namesIn(expr: string): Names {
  const found = { wrong: [] as string[], metrics: [] as string[], matched: [] as string[], kept: [] as string[] };
  let aggregated = false;
  parser.parse(expr).iterate({
    enter({ type, from, to, node }) {
      const text = expr.slice(from, to);
      if (type.isError) found.wrong.push(`"${text}" at ${from}`);
      if (type.name === "Identifier") found.metrics.push(text);
      if (type.name === "AggregateExpr") aggregated = true;
      if (type.name !== "LabelName") return;
      (node.parent?.name === "GroupingLabels" ? found.kept : found.matched).push(text);
    },
  });
  return { ...found, kept: aggregated ? found.kept : undefined };
}

/** The metric that a series is of: those of a histogram have names of their own. */
function definitionOf(series: string): Definition | undefined {
  const metrics: Readonly<Record<string, Definition>> = METRICS;
  const histogram = metrics[series.replace(/_(count|sum|bucket)$/, "")];
  return histogram?.type === "histogram" ? histogram : metrics[series];
}

test("every alert reads metrics and labels that there are, and says what is wrong and what to do", () => {
  assert.ok(rules.length > 10);
  for (const { alert, expr, labels, annotations } of rules) {
    const { wrong, metrics, matched, kept } = namesIn(expr);
    assert.deepEqual(wrong, [], alert);
    assert.ok(metrics.length > 0, alert);
    for (const series of metrics) assert.ok(definitionOf(series), `${alert}: no metric ${series}`);
    const there = [...metrics.flatMap((series) => definitionOf(series)?.labels ?? []), ...TARGET_LABELS];
    for (const label of [...matched, ...(kept ?? [])]) assert.ok(there.includes(label), `${alert}: no label ${label}`);
    const told = `${annotations.summary} ${annotations.description}`;
    for (const [, label = ""] of told.matchAll(/\$labels\.(\w+)/g)) {
      assert.ok((kept ?? there).includes(label), `${alert}: its alerts have no label ${label}`);
    }
    assert.ok(annotations.summary && annotations.description, alert);
    assert.match(labels.severity ?? "", /^(warning|critical)$/, alert);
  }
  assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length, "a name is there twice");
});

test("an expression that is none, or names what is not there, is noticed", () => {
  assert.notDeepEqual(namesIn("sum by (pod (up)").wrong, []);
  assert.equal(definitionOf("famfs_csi_pool_byte"), undefined);
  assert.equal(definitionOf("famfs_csi_pool_bytes_count"), undefined);
  assert.deepEqual(namesIn('sum by (a) (x{b="c"})'), { wrong: [], metrics: ["x"], matched: ["b"], kept: ["a"] });
});
