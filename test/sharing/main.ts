/**
 * `npm run test:sharing -- --seconds N --seed S [--nodes 2|3] [--faults none|all] [--caches private] [--output json]`:
 * nodes that write one volume by turns while they are stopped and killed, and whether what they acknowledged holds. Two
 * nodes, then three. Exits with 1 when something does not hold.
 */
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { judge, render } from "./outcome.ts";
import { runNodes } from "./run.ts";

const IN_NAMESPACE = "FAMFS_TEST_SHARING";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
    nodes: { type: "string" },
    faults: { type: "string", default: "all" },
    caches: { type: "string", default: "shared" },
    output: { type: "string", default: "text" },
    keep: { type: "string" },
  },
});

if (process.env[IN_NAMESPACE] === undefined) {
  // No mount is left behind, whatever happens.
  const namespace = process.geteuid?.() === 0 ? ["--mount", "--propagation", "private"] : ["-Urm"];
  const { status } = spawnSync(
    "unshare",
    [...namespace, process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    {
      stdio: "inherit",
      env: { ...process.env, [IN_NAMESPACE]: "1" },
    },
  );
  process.exit(status ?? 1);
}

const counts = values.nodes === undefined ? [2, 3] : [Number(values.nodes)];
const seconds = Number(values.seconds);
const seed = Number(values.seed);
if (!(seconds > 0) || !Number.isInteger(seed) || !counts.every((count) => count === 2 || count === 3)) {
  process.stderr.write("--seconds takes a number, --seed an integer, --nodes 2 or 3\n");
  process.exit(64);
}
if (values.faults !== "all" && values.faults !== "none") {
  process.stderr.write("--faults takes none or all\n");
  process.exit(64);
}
if (values.caches !== "shared" && values.caches !== "private") {
  process.stderr.write("--caches takes shared or private\n");
  process.exit(64);
}
const incoherent = values.caches === "private";
const tell = (line: string) => process.stderr.write(`${line}\n`);
const outcomes = [];
for (const nodes of counts) {
  const share = seconds / counts.length;
  const faults = values.faults === "all";
  const run = await runNodes({ nodes, seconds: share, seed, faults, incoherent, keep: values.keep, tell });
  const outcome = judge(run);
  outcomes.push(outcome);
  if (values.output !== "json") process.stdout.write(`${render(outcome)}\n`);
}
if (values.output === "json") process.stdout.write(`${JSON.stringify(outcomes, undefined, 2)}\n`);
const failed = outcomes.some(({ failures }) => failures.length > 0);
if (failed) {
  process.stderr.write(
    `again: npm run test:sharing -- --seconds ${seconds} --seed ${seed} --faults ${values.faults}\n`,
  );
}
process.exitCode = failed ? 1 : 0;
