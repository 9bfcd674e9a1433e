import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { constants as os } from "node:os";
import { FamfsError } from "../base/index.ts";

/**
 * Mounting needs CAP_SYS_ADMIN in the mount namespace's user namespace. Without it a command that mounts runs
 * itself again inside `unshare --user --map-root-user --mount`: its mounts then live, and are seen, only there
 * (and are gone when it ends, whatever happens).
 */
export function canMount(): boolean {
  // CapEff bit 21 is CAP_SYS_ADMIN (linux/capability.h); root inside a container often lacks it.
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return ((BigInt(`0x${capabilities}`) >> 21n) & 1n) === 1n;
}

const MARK = "FAMFS_CSI_IN_NAMESPACE";

export function inOwnNamespace(environment: NodeJS.ProcessEnv): boolean {
  return environment[MARK] === "1";
}

function probeNamespace() {
  return spawnSync("unshare", ["-Urm", "true"], { encoding: "utf8" });
}

/** Whether `enterNamespaceIfNeeded` would find a namespace to enter. */
export function mayEnterNamespace(): boolean {
  return probeNamespace().status === 0;
}

/** Ends this process with the exit status of its copy in a namespace; returns only when no copy was needed. */
export async function enterNamespaceIfNeeded(): Promise<void> {
  const command = process.argv.slice(2).map(quote).join(" ");
  if (canMount()) {
    assertFuseDevice(command);
    return;
  }
  const probe = probeNamespace();
  if (probe.error !== undefined || probe.status !== 0) {
    const reason = probe.error?.message ?? probe.stderr.trim();
    throw new FamfsError(
      "NOT_SUPPORTED",
      `mounting needs root or user namespaces, and this machine allows neither to this user (${reason}); run: sudo npm run -s famfs-csi -- ${command}`,
    );
  }
  assertFuseDevice(command);
  const child = spawn("unshare", ["-Urm", process.execPath, ...process.execArgv, ...process.argv.slice(1)], {
    stdio: "inherit",
    env: { ...process.env, [MARK]: "1" },
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => (signal === "SIGINT" && process.stdin.isTTY ? undefined : child.kill(signal)));
  }
  const status = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : os.signals[signal])));
  });
  process.exit(status);
}

/** For a line that is pasted into a shell. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function assertFuseDevice(command: string): void {
  try {
    accessSync("/dev/fuse", constants.R_OK | constants.W_OK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new FamfsError(
      "NOT_SUPPORTED",
      code === "ENOENT"
        ? "there is no /dev/fuse on this machine; load the fuse kernel module: sudo modprobe fuse"
        : `/dev/fuse cannot be opened by this user (${code}); run: sudo npm run -s famfs-csi -- ${command}`,
    );
  }
}
