import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import { RpcError } from "../../csi/index.ts";
import { readMountTable } from "../mount-table.ts";
import { cleanup } from "./fixtures.ts";

export const run = promisify(execFile);

/** For `assert.rejects`: an RPC that answered `code`. */
export const codeIs =
  (code: string, message = /./) =>
  (error: unknown) =>
    error instanceof RpcError && error.code === code && message.test(error.message);

export async function mountsBelow(directory: string): Promise<string[]> {
  return (await readMountTable()).map((entry) => entry.target).filter((target) => target.startsWith(directory));
}

export function isRunning(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

/** A write by another process, as a pod would do it. */
export async function writeElsewhere(path: string, text: string): Promise<void> {
  await run("sh", ["-c", 'printf %s "$2" > "$1"', "sh", path, text]);
}

/** A process in a mount namespace of its own that sees what is mounted below `directory` from now on. */
export async function otherMountNamespace(t: TestContext, directory: string) {
  await run("mount", ["--bind", directory, directory]);
  await run("mount", ["--make-shared", directory]);
  const child = spawn("unshare", ["-m", "--propagation", "unchanged", "sh", "-c", "echo ready; exec sleep 600"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  cleanup(t).defer(() => void child.kill());
  await once(child.stdout, "data");
  const pid = child.pid ?? 0;
  return { pid, run: (...command: string[]) => run("nsenter", ["-t", String(pid), "-m", ...command]) };
}
