import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import { RpcError } from "../../csi/index.ts";
import { readMountTable } from "../mount-table.ts";
import { cleanup, scratchDirectory } from "./fixtures.ts";

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

/** What is mounted below `directory` from now on propagates to other mount namespaces, as below a kubelet's directory. */
export async function shareMounts(directory: string): Promise<void> {
  await run("mount", ["--bind", directory, directory]);
  await run("mount", ["--make-shared", directory]);
}

/** A process in a mount namespace of its own that sees what is mounted below `directory` from now on. */
export async function otherMountNamespace(t: TestContext, directory: string) {
  await shareMounts(directory);
  return await unshared(t, "unchanged", "true");
}

/**
 * A process that has `target` as a container has its volume: a bind mount in a mount namespace of its own, with the
 * `mountPropagation` of the container's volumeMount. `target` is below a directory of `shareMounts`.
 */
export async function container(
  t: TestContext,
  target: string,
  mountPropagation: "None" | "HostToContainer" = "HostToContainer",
) {
  const data = await scratchDirectory(t);
  const kind = mountPropagation === "None" ? "rprivate" : "rslave";
  const made = await unshared(t, "slave", `mount --rbind ${target} ${data} && mount --make-${kind} ${data}`);
  const sh = async (script: string) => (await made.run("sh", "-c", `cd ${data} && ${script}`)).stdout;
  return { pid: made.pid, data, sh, end: made.end };
}

async function unshared(t: TestContext, propagation: string, script: string) {
  const options = ["-m", "--propagation", propagation, "sh", "-c", `${script} && echo ready; exec sleep 600`];
  const child = spawn("unshare", options, { stdio: ["ignore", "pipe", "inherit"] });
  const end = async () => {
    child.kill();
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  };
  cleanup(t).defer(end);
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  if (line.toString() !== "ready\n") throw new Error(`no mount namespace: ${line.toString()}`);
  const pid = child.pid ?? 0;
  return { pid, end, run: (...command: string[]) => run("nsenter", ["-t", String(pid), "-m", ...command]) };
}
