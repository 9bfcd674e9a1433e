/**
 * Clears away what a cluster, or an API server alone, leaves: run with its directory as a process of its own that waits
 * for the end of its standard input, which comes when the test closes it or dies of whatever. Everything of a cluster
 * is found by its directory: processes by the marker in their environment and their descendants, mounts by path, and
 * what containerd, runc and libcni keep elsewhere by the ids of the containers.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { endTrees } from "./process-trees.ts";

/** Names the directory of the cluster in the environment of its processes. */
export const CLUSTER_MARKER = "FAMFS_TEST_CLUSTER";

/** Ends every process of the cluster, shims and containers included; descendants of a shim carry no marker. */
async function endProcesses(directory: string): Promise<void> {
  const marker = `${CLUSTER_MARKER}=${directory}`;
  const marked = (pid: number) => readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(marker);
  await endTrees(marked);
}

function unmountBelow(directory: string): void {
  // Lazily: a FUSE mount whose server was killed does not answer. Twice, because mounts may lie upon each other.
  for (let round = 0; round < 5; round++) {
    const mounts = readFileSync("/proc/self/mountinfo", "latin1")
      .split("\n")
      .map((line) => line.split(" ")[4]?.replaceAll("\\040", " ") ?? "")
      .filter((path) => path === directory || path.startsWith(`${directory}/`))
      .toReversed();
    if (mounts.length === 0) return;
    for (const path of mounts) spawnSync("umount", ["--lazy", path], { timeout: 10_000 });
  }
}

interface Container {
  readonly id: string;
  /** Socket of its shim, which containerd puts outside of its own directories. */
  readonly socket: string | undefined;
}

function containersOf(directory: string): Container[] {
  return globSync(join(directory, "*", "run", "io.containerd.runtime.v2.task", "k8s.io", "*")).map((bundle) => {
    const address = join(bundle, "address");
    const socket = existsSync(address) ? readFileSync(address, "utf8").trim().replace("unix://", "") : undefined;
    return { id: basename(bundle), socket };
  });
}

/** The rests of containers whose processes were killed: control groups, runc's state, sockets. */
function removeContainers(containers: readonly Container[]): void {
  const root = "/sys/fs/cgroup";
  for (const { id, socket } of containers) {
    for (const hierarchy of ["", ...readdirSync(root)]) {
      try {
        rmdirSync(join(root, hierarchy, "k8s.io", id));
      } catch {
        // not there, or still busy: an empty group costs nothing
      }
    }
    rmSync(join("/run/containerd/runc/k8s.io", id), { recursive: true, force: true });
    if (socket !== undefined) rmSync(socket, { force: true });
  }
}

/** libcni keeps what it did in a place of its own. */
function removeNetworkResults(directory: string): void {
  const results = "/var/lib/cni/results";
  if (!existsSync(results)) return;
  for (const file of readdirSync(results)) {
    const path = join(results, file);
    if (readFileSync(path, "latin1").includes(directory)) rmSync(path, { force: true });
  }
}

export async function reap(directory: string): Promise<void> {
  const containers = containersOf(directory);
  await endProcesses(directory);
  unmountBelow(directory);
  removeContainers(containers);
  removeNetworkResults(directory);
  // Never through a mount that could not be taken off: it may be somebody's data.
  spawnSync("rm", ["--recursive", "--force", "--one-file-system", directory], { stdio: "inherit", timeout: 120_000 });
}

/** The process that waits, as the test sees it. */
export class Reaper implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static start(directory: string): Reaper {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), directory], {
      stdio: ["pipe", "inherit", "inherit"],
      detached: true,
    });
    // It must not keep alive the process whose end it waits for.
    child.unref();
    if (child.stdin instanceof Socket) child.stdin.unref();
    return new Reaper(child);
  }

  /** Returns when nothing is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.ref();
    this.#child.stdin?.end();
    await ended;
  }
}

if (import.meta.main) {
  const [directory = ""] = process.argv.slice(2);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});
  process.stdin.resume().on("end", () => {
    void reap(directory);
  });
}
