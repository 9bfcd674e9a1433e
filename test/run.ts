/**
 * `npm test`: every suite in turn that needs no cluster, then one table and the exit status. `npm run test:e2e`: those
 * that need one. `npm test -- all` runs both and the thorough ones, `npm test -- unit tools` these two alone; what
 * follows a suite's name and a slash picks among its files: `npm test -- driver/sharing`.
 *
 * For a person a missing prerequisite is a skip that says what is missing; with CI=true a skip is a failure. Nothing
 * may be left behind: the runner gives every suite one temporary directory and one marker in the environment, and
 * a file, mount or process that bears them at the end is a failure, too.
 */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { findLeftovers } from "./support/leftovers.ts";
import type { Counts } from "./support/reporter.ts";

interface Preparation {
  readonly command: readonly string[];
  readonly timeoutMinutes: number;
}

interface Suite {
  readonly name: string;
  readonly what: string;
  /** Test files, or for a check that is not a test a list of commands that must all end with 0. */
  readonly files?: readonly string[];
  readonly commands?: readonly (readonly string[])[];
  /** Test files that run at the same time; one where they measure time. */
  readonly concurrency?: number;
  readonly mounts?: boolean;
  /** Needs a cluster: not part of plain `npm test`. */
  readonly cluster?: boolean;
  /** Takes long and seldom finds anything: part of `npm test -- all` alone. */
  readonly thorough?: boolean;
  /** All files in one process, which share what takes long to start. A line is printed for each test. */
  readonly together?: boolean;
  /** Brings what it needs besides the tools of all suites. */
  readonly prepare?: readonly Preparation[];
  /** A hanging suite is ended after this. */
  readonly timeoutMinutes: number;
}

const CLUSTER_TOOLS: readonly Preparation[] = [
  { command: ["test/e2e/support/install-cluster", "system"], timeoutMinutes: 10 },
  // Kubernetes from source; at once when the cache has it.
  { command: ["test/e2e/support/install-cluster", "binaries"], timeoutMinutes: 45 },
];

const SUITES: readonly Suite[] = [
  { name: "types", what: "tsc", commands: [["tsc", "--noEmit"]], timeoutMinutes: 2 },
  {
    name: "lint",
    what: "biome and oxlint",
    commands: [
      ["biome", "check", "--error-on-warnings", "."],
      ["oxlint", "--type-aware", "--deny-warnings"],
    ],
    timeoutMinutes: 3,
  },
  {
    name: "structure",
    what: "imports between layers, alerts, custom resources, the repository as a whole",
    files: [
      "test/layers.test.ts",
      "test/repository.test.ts",
      "test/walk.test.ts",
      "test/alerts.test.ts",
      "test/custom-resources.test.ts",
      "test/mutations/table.test.ts",
      "test/long/rows.test.ts",
    ],
    timeoutMinutes: 2,
  },
  {
    name: "unit",
    what: "unit and property tests beside the code",
    files: ["src/**/*.test.ts", "native/**/*.test.ts"],
    concurrency: 2,
    mounts: true,
    timeoutMinutes: 8,
  },
  { name: "vectors", what: "golden images through fsck", files: ["test/vectors.test.ts"], timeoutMinutes: 2 },
  {
    name: "behaviour",
    what: "operations, limits and persistence through a real mount",
    files: ["test/behaviour/*.test.ts"],
    concurrency: 2,
    mounts: true,
    timeoutMinutes: 5,
  },
  {
    name: "tools",
    what: "real programs on a real mount",
    files: ["test/behaviour/tools/*.test.ts"],
    mounts: true,
    timeoutMinutes: 5,
  },
  {
    name: "restart",
    what: "processes stopped and killed at every step",
    files: ["test/restart/*.test.ts"],
    mounts: true,
    timeoutMinutes: 3,
  },
  {
    name: "sharing",
    what: "nodes that write one volume by turns: what is acknowledged holds",
    files: ["test/sharing/*.test.ts"],
    mounts: true,
    timeoutMinutes: 5,
  },
  {
    name: "sanity",
    what: "csi-sanity against standalone",
    files: ["test/sanity/*.test.ts"],
    mounts: true,
    timeoutMinutes: 5,
  },
  {
    name: "asan",
    what: "the addon with AddressSanitizer and UndefinedBehaviorSanitizer",
    commands: [["node", "--disable-warning=ExperimentalWarning", "test/asan.ts"]],
    thorough: true,
    timeoutMinutes: 12,
  },
  {
    name: "kubernetes",
    what: "the store on a real API server, the chart, the cluster of the tests itself",
    files: ["test/e2e/*.test.ts"],
    cluster: true,
    prepare: CLUSTER_TOOLS,
    timeoutMinutes: 15,
  },
  {
    name: "driver",
    what: "the driver installed in a cluster of two nodes, with real pods",
    files: ["test/e2e/driver/*.test.ts"],
    cluster: true,
    together: true,
    prepare: CLUSTER_TOOLS,
    timeoutMinutes: 25,
  },
];

const root = fileURLToPath(new URL("..", import.meta.url));
const inCi = process.env["CI"] === "true";
const isRoot = process.geteuid?.() === 0;

interface Result extends Counts {
  readonly suite: Suite;
  readonly seconds: number;
  readonly remark: string;
}

/** Memory where there is plenty of it: the simulated devices of the tests are files there. */
function temporaryParent(): string {
  try {
    const { bavail, bsize } = statfsSync("/dev/shm");
    if (bavail * bsize >= 8 * 2 ** 30) return "/dev/shm";
  } catch {
    // no such file system
  }
  return tmpdir();
}

const temporary = mkdtempSync(join(temporaryParent(), "famfs-csi-test-"));
chmodSync(temporary, 0o755); // tests act as other users below it
// Other users must be able to go through it: volumes are mounted in it.
chmodSync(temporary, 0o711);
const marker = `FAMFS_TEST_RUN=${temporary}`;
const environment = {
  ...process.env,
  PATH: [dirname(process.execPath), join(root, "node_modules", ".bin"), process.env["PATH"] ?? ""].join(delimiter),
  TMPDIR: temporary,
  FAMFS_TEST_RUN: temporary,
};

/** Whether an ordinary user may have a mount namespace of his own here. */
const userNamespaces =
  !isRoot && spawnSync("unshare", ["-Urm", "true"], { stdio: "ignore", timeout: 10_000 }).status === 0;

/** Runs one command in its own process group; resolves with its exit status, 124 when it took too long. */
function runCommand(command: readonly string[], extra: NodeJS.ProcessEnv, timeoutMs: number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    cwd: root,
    env: { ...environment, ...extra },
    stdio: ["ignore", "inherit", "inherit"],
    detached: true,
  });
  let late = false;
  const stop = (signal: NodeJS.Signals) => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, signal);
    } catch {
      // the group has ended
    }
  };
  const timer = setTimeout(() => {
    late = true;
    stop("SIGKILL");
  }, timeoutMs);
  const passOn = () => stop("SIGTERM");
  process.on("SIGINT", passOn).on("SIGTERM", passOn);
  const settle = (status: number) => {
    clearTimeout(timer);
    process.off("SIGINT", passOn).off("SIGTERM", passOn);
    resolve(late ? 124 : status);
  };
  child.on("error", (error) => {
    process.stderr.write(`cannot run ${program}: ${error.message}\n`);
    settle(127);
  });
  child.on("exit", (status) => settle(status ?? 1));
  return promise;
}

const prepared = new Map<Preparation, boolean>();

/** Whether all of it is there now. Each thing is tried once, however many suites want it. */
async function prepare(preparations: readonly Preparation[]): Promise<string | undefined> {
  for (const preparation of preparations) {
    const { command, timeoutMinutes } = preparation;
    let there = prepared.get(preparation);
    if (there === undefined) {
      process.stdout.write(`-- ${command.join(" ")}\n`);
      there = (await runCommand(command, {}, timeoutMinutes * 60_000)) === 0;
      prepared.set(preparation, there);
    }
    if (!there) return `${command.join(" ")} failed`;
  }
  return undefined;
}

async function runSuite(suite: Suite, part: string): Promise<Result> {
  const started = performance.now();
  const timeoutMs = suite.timeoutMinutes * 60_000;
  const result = (counts: Counts, remark = "") => ({
    suite,
    ...counts,
    seconds: (performance.now() - started) / 1000,
    remark,
  });

  if (suite.commands !== undefined) {
    let failed = 0;
    for (const command of suite.commands) if ((await runCommand(command, {}, timeoutMs)) !== 0) failed++;
    return result({ passed: suite.commands.length - failed, failed, skipped: 0 });
  }

  const missing = await prepare(suite.prepare ?? []);
  // A person's tests skip themselves and say what they miss.
  if (missing !== undefined && inCi) return result({ passed: 0, failed: 1, skipped: 0 }, missing);
  const files = globSync([...(suite.files ?? [])], { cwd: root })
    .filter((file) => basename(file).includes(part))
    .sort();
  if (files.length === 0) return result({ passed: 0, failed: 1, skipped: 0 }, "no test files");
  const countsFile = join(temporary, `counts-${suite.name}.json`);
  const command = [
    "node",
    "--disable-warning=ExperimentalWarning",
    "--test",
    "--test-reporter=./test/support/reporter.ts",
    ...(suite.together === true ? ["--test-isolation=none"] : [`--test-concurrency=${suite.concurrency ?? 1}`]),
    `--test-timeout=${timeoutMs}`,
    ...files,
  ];
  const wrapped = suite.mounts === true && userNamespaces ? ["unshare", "-Urm", ...command] : command;
  const extra = { FAMFS_TEST_COUNTS: countsFile, ...(suite.together === true ? { FAMFS_TEST_EACH: "true" } : {}) };
  const status = await runCommand(wrapped, extra, timeoutMs);

  let counts: Counts;
  try {
    counts = JSON.parse(readFileSync(countsFile, "utf8")) as Counts;
    rmSync(countsFile);
  } catch {
    const remark = status === 124 ? `stopped after ${suite.timeoutMinutes} min` : `ended with status ${status}`;
    return result({ passed: 0, failed: 1, skipped: 0 }, remark);
  }
  // A file that ends with an error after its tests passed is a failure as well.
  if (status !== 0 && counts.failed === 0) return result({ ...counts, failed: 1 }, `ended with status ${status}`);
  if (inCi && counts.skipped > 0) {
    return result({ ...counts, failed: counts.failed + counts.skipped, skipped: 0 }, "skips count as failures in CI");
  }
  return result(counts, counts.passed === 0 && counts.skipped === 0 ? "ran no test" : "");
}

/** Ends and removes what the suites left behind, and says what it was. */
async function leftBehind(): Promise<string[]> {
  const leftovers = await findLeftovers(marker, temporary);
  const files = readdirSync(temporary);
  if (leftovers.length > 0) return leftovers;
  rmSync(temporary, { recursive: true, force: true });
  return files.map((file) => `file ${join(temporary, file)}`);
}

function printTable(results: readonly Result[]): void {
  const rows = results.map(({ suite, passed, failed, skipped, seconds, remark }) =>
    [
      suite.name.padEnd(10),
      ...[passed, failed, skipped].map((n) => String(n).padStart(7)),
      seconds.toFixed(1).padStart(7),
      remark,
    ].join(" "),
  );
  process.stdout.write(
    `\n${["suite     ", " passed", " failed", "skipped", "seconds"].join(" ")}\n${rows.join("\n")}\n`,
  );
}

/** Suites and which of their files; an empty part is all of them. */
function choose(wanted: readonly string[]): { readonly suite: Suite; readonly part: string }[] {
  const chosen = wanted.map((each) => {
    const [name = "", part = ""] = each.split("/");
    const suites = SUITES.filter(({ cluster = false, ...suite }) => {
      if (name === "all") return true;
      return name === "e2e" ? cluster : suite.name === name;
    });
    return { name, part, suites };
  });
  const unknown = chosen.filter(({ suites }) => suites.length === 0).map(({ name }) => name);
  if (unknown.length > 0) {
    process.stderr.write(`no suite ${unknown.join(", ")}; there are:\n`);
    for (const { name, what } of SUITES) process.stderr.write(`  ${name.padEnd(10)} ${what}\n`);
    process.exit(64);
  }
  if (chosen.length === 0)
    return SUITES.filter(({ cluster, thorough }) => cluster !== true && thorough !== true).map((suite) => ({
      suite,
      part: "",
    }));
  return SUITES.flatMap((suite) =>
    chosen.filter(({ suites }) => suites.includes(suite)).map(({ part }) => ({ suite, part })),
  );
}

const chosen = choose(process.argv.slice(2));

/** Ctrl-C ends the suite that runs and is the end of the others; what is left behind is cleared away all the same. */
let interrupted = false;
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    interrupted = true;
  });
}

process.stdout.write("== tools: what the suites use besides Debian packages\n");
if ((await runCommand(["test/support/install-tools", "user"], {}, 10 * 60_000)) !== 0) {
  process.stdout.write("not everything could be installed; tests that need it are skipped\n");
}
const results: Result[] = [];
for (const { suite, part } of chosen) {
  if (interrupted) break;
  process.stdout.write(`\n== ${suite.name}: ${suite.what}\n`);
  results.push(await runSuite(suite, part));
}
const leftovers = await leftBehind();
printTable(results);
for (const leftover of leftovers) process.stdout.write(`left behind: ${leftover}\n`);

const sum = (key: keyof Counts) => results.reduce((total, result) => total + result[key], 0);
const failed = sum("failed") + leftovers.length + (interrupted ? 1 : 0);
if (interrupted) process.stdout.write("interrupted\n");
process.stdout.write(`\n${sum("passed")} passed, ${failed} failed, ${sum("skipped")} skipped\n`);
process.exitCode = failed > 0 ? 1 : 0;
