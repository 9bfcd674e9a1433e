import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
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

/** A mount below `directory` from now on propagates to other mount namespaces, as below a kubelet's directory. */
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
 * `mountPropagation` of the container's volumeMount. `target` is below a directory of `shareMounts`. With a `podUid` it
 * has a file of its pod's directory as well, as each container.
 */
export async function container(
  t: TestContext,
  target: string,
  { mountPropagation = "HostToContainer", podUid }: ContainerOptions = {},
) {
  const directory = await scratchDirectory(t);
  const [data, hosts] = [join(directory, "data"), join(directory, "hosts")];
  await mkdir(data);
  const kind = mountPropagation === "None" ? "rprivate" : "rslave";
  let script = `mount --rbind ${target} ${data} && mount --make-${kind} ${data}`;
  if (podUid !== undefined) {
    const own = join(directory, "pods", podUid, "etc-hosts");
    await mkdir(dirname(own), { recursive: true });
    for (const file of [own, hosts]) await writeFile(file, "");
    script += ` && mount --bind ${own} ${hosts}`;
  }
  const made = await unshared(t, "slave", script);
  const sh = async (command: string) => (await made.run("sh", "-c", `cd ${data} && ${command}`)).stdout;
  return { pid: made.pid, data, sh, end: made.end };
}

interface ContainerOptions {
  readonly mountPropagation?: "None" | "HostToContainer";
  readonly podUid?: string;
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
