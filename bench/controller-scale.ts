/**
 * `npm run bench:scale [-- --volumes N] [-- --nodes N] [-- --output json]`: the controller's own process against a real
 * API server, with more and more volumes in it. Needs what the e2e tests build (test/e2e/support/install-cluster).
 */
import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { missingApiServer } from "../test/e2e/support/programs.ts";
import { compileCheckout } from "../test/support/compiled.ts";
import { type Figures, measureController } from "./scale/controller.ts";
import { Population } from "./scale/population.ts";

const READY_MS = 10_000;
const MEMORY_MB = 300;
/** CreateVolume with all volumes, as a multiple of CreateVolume with the fewest: what is still no growth. */
const NO_GROWTH = 1.25;

interface Column {
  readonly head: string;
  readonly of: (figures: Figures) => number;
  readonly digits: number;
}

const COLUMNS: readonly Column[] = [
  { head: "volumes", of: ({ volumes }) => volumes, digits: 0 },
  { head: "start ms", of: ({ readyMs }) => readyMs, digits: 0 },
  { head: "RSS MB", of: ({ residentMb }) => residentMb, digits: 0 },
  { head: "peak MB", of: ({ peakMb }) => peakMb, digits: 0 },
  { head: "idle CPU s/min", of: ({ idleCpuSecondsPerMinute }) => idleCpuSecondsPerMinute, digits: 2 },
  { head: "create p50 ms", of: ({ createMs }) => createMs.p50, digits: 1 },
  { head: "create p95 ms", of: ({ createMs }) => createMs.p95, digits: 1 },
  { head: "publish p50 ms", of: ({ publishMs }) => publishMs.p50, digits: 1 },
  { head: "page of 500 ms", of: ({ listMs }) => listMs.p50, digits: 1 },
  { head: "capacity ms", of: ({ capacityMs }) => capacityMs.p50, digits: 1 },
];

const { values: flags } = parseArgs({
  options: {
    volumes: { type: "string", default: "10000" },
    nodes: { type: "string", default: "200" },
    output: { type: "string" },
  },
});
const missing = missingApiServer();
if (missing !== false) {
  process.stderr.write(`cannot measure: ${missing}\n`);
  process.exit(1);
}
const all = Math.max(100, Number(flags.volumes) || 10_000);
const nodes = Math.max(1, Number(flags.nodes) || 200);

const results: Figures[] = [];
{
  using directory = mkdtempDisposableSync(join(tmpdir(), "famfs-csi-compiled-"));
  const program = join(directory.path, "program", "src/cli/main.js");
  compileCheckout(join(directory.path, "program"));
  await using population = await Population.open({ nodes });
  for (const volumes of [...new Set([100, Math.min(1_000, all), all])]) {
    process.stderr.write(`${volumes} volumes\n`);
    await population.growTo(volumes);
    const figures = await measureController(program, population);
    results.push(figures);
    process.stderr.write(
      `  ${COLUMNS.map(({ head, of, digits }) => `${head} ${of(figures).toFixed(digits)}`).join(", ")}\n`,
    );
  }
}

const [least, most] = [results[0], results.at(-1)];
if (least === undefined || most === undefined) throw new Error("nothing was measured");
const growth = most.createMs.p50 / least.createMs.p50;
const aims = [
  { what: "start to ready", value: most.readyMs, unit: "ms", limit: READY_MS },
  { what: "resident memory", value: most.residentMb, unit: "MB", limit: MEMORY_MB },
  {
    what: `CreateVolume p50 with ${most.volumes} volumes / with ${least.volumes}`,
    value: growth,
    unit: "x",
    limit: NO_GROWTH,
  },
].map((aim) => ({ ...aim, there: aim.value <= aim.limit }));

if (flags.output === "json") process.stdout.write(`${JSON.stringify({ nodes, results, aims }, undefined, 2)}\n`);
else {
  const rows = results.map((figures) => COLUMNS.map(({ of, digits }) => of(figures).toFixed(digits)));
  const lines = [COLUMNS.map(({ head }) => head), ...rows].map((cells) =>
    cells.map((cell, index) => cell.padStart(COLUMNS[index]?.head.length ?? 0)).join("  "),
  );
  const verdicts = aims.map(
    ({ what, value, unit, limit, there }) =>
      `${what}: ${value.toFixed(2)} ${unit}, aim <= ${limit} ${unit}: ${there ? "yes" : "not yet"}`,
  );
  process.stdout.write(
    `${nodes} nodes with heartbeats; one API server, etcd in memory\n\n${[...lines, "", ...verdicts].join("\n")}\n`,
  );
}
