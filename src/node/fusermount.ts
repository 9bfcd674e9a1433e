import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, closeSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { text } from "node:stream/consumers";
import { FUSE_TYPE, native } from "../../native/index.ts";
import { FamfsError, fromSystemError } from "../base/index.ts";
import { mountAt, readMountTable } from "./mount-table.ts";

/** libfuse 3's and 2's. */
const NAMES = ["fusermount3", "fusermount"] as const;
const TIMEOUT_MS = 10_000;
/** Where the child finds its end of the socket: the first descriptor behind the standard ones. */
const COMMUNICATION_FD = 3;

/**
 * The set-user-id program of libfuse that mounts for ordinary users, in whose own directories it may. It opens
 * /dev/fuse, mounts it and passes us the descriptor, so what serves the mount is the same as ever
 * (docs/decisions/0010). Undefined when there is none.
 */
export function findFusermount(path = process.env["PATH"] ?? ""): string | undefined {
  for (const directory of path.split(delimiter)) {
    for (const name of NAMES) {
      const program = join(directory, name);
      try {
        accessSync(program, constants.X_OK);
        return program;
      } catch {
        // not here
      }
    }
  }
  return undefined;
}

/**
 * Mounts at `directory` for this user alone; the caller owns the descriptor. NOT_SUPPORTED with the program's reason.
 */
export async function fusermount(
  program: string,
  directory: string,
  { source, readOnly }: { readonly source: string; readonly readOnly: boolean },
): Promise<number> {
  const options = [
    readOnly ? "ro" : "rw",
    "nosuid",
    "nodev",
    "default_permissions",
    `subtype=${FUSE_TYPE.replace("fuse.", "")}`,
    `fsname=${source.replaceAll(/[\\,]/g, "\\$&")}`,
  ];
  const [socket, theirs] = native.socketPair();
  try {
    await run(program, ["-o", options.join(","), "--", directory], theirs);
    return native.receiveDescriptor(socket).descriptor;
  } catch (error) {
    throw fromSystemError(error, "fusermount", directory);
  } finally {
    closeSync(socket);
    closeSync(theirs);
  }
}

/** Takes the mount at `directory` away if there is one; with `lazy` also while it is in use. */
export async function fuserunmount(program: string, directory: string, { lazy }: { readonly lazy: boolean }) {
  if (mountAt(await readMountTable(), directory) === undefined) return;
  await run(program, ["-u", ...(lazy ? ["-z"] : []), "--", directory]);
}

async function run(program: string, args: readonly string[], socket?: number): Promise<void> {
  const child = spawn(program, args, {
    stdio: ["ignore", "ignore", "pipe", socket ?? "ignore"],
    env: { ...process.env, _FUSE_COMMFD: String(COMMUNICATION_FD) },
    timeout: TIMEOUT_MS,
  });
  const said = text(child.stderr as NodeJS.ReadableStream);
  const [status] = (await once(child, "close")) as [number | null];
  if (status === 0) return;
  const reason = (await said).trim().split("\n").join("; ") || `${program} ended with status ${status}`;
  throw new FamfsError("NOT_SUPPORTED", `${reason}; root can mount without it: run the same with sudo`);
}
