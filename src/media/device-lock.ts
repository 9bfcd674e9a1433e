import { constants, readFileSync } from "node:fs";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { native } from "../../native/index.ts";
import { FamfsError, fromSystemError } from "../base/index.ts";

export interface LockedFile {
  /** Shown in messages. */
  readonly device: string;
  /**
   * The file whose lock stands for the device: the simulated device itself, so that the lock holds across containers;
   * for devdax a file in a folder of the host, because each container has device nodes of its own.
   */
  readonly file: string;
  /** Whether `file` is of our making: created when it is missing, and never a symlink. */
  readonly ours: boolean;
}

/**
 * Excludes other processes of this host from a device (design 4). A killed process leaves no lock behind: it ends
 * with the descriptor. `shared` locks exclude exclusive ones only. DEVICE_IN_USE names the holder.
 */
export async function lockDevice(target: LockedFile, options: { readonly shared: boolean }): Promise<AsyncDisposable> {
  let handle: FileHandle;
  try {
    const flags = target.ours ? constants.O_CREAT | constants.O_NOFOLLOW : 0;
    handle = await open(target.file, constants.O_RDONLY | constants.O_NONBLOCK | flags, 0o600);
  } catch (error) {
    throw fromSystemError(error, "open", target.file);
  }
  let locked = false;
  try {
    locked = native.tryLock(handle.fd, options.shared);
    if (locked) return { [Symbol.asyncDispose]: () => handle.close() };
    const holder = await findHolder(handle);
    throw new FamfsError(
      "DEVICE_IN_USE",
      `${target.device} is in use by ${holder ?? "another process of this host"}; stop that first`,
    );
  } catch (error) {
    throw fromSystemError(error, "flock", target.file);
  } finally {
    if (!locked) await handle.close();
  }
}

/** Where the locks of devdax devices are: one folder per host and, without root, per user. */
export async function lockFolder(): Promise<string> {
  const folder =
    process.geteuid?.() === 0 ? "/run/famfs-csi" : join(tmpdir(), `famfs-csi-${process.geteuid?.() ?? "any"}`);
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fromSystemError(error, "mkdir", folder);
  }
  return folder;
}

/** "process 1234 (node)" from the kernel's list of locks; undefined when it cannot be told. */
async function findHolder(handle: FileHandle): Promise<string | undefined> {
  try {
    const { ino } = await handle.stat();
    for (const line of readFileSync("/proc/locks", "utf8").split("\n")) {
      const match = /FLOCK\s+\S+\s+\S+\s+(\d+)\s+[0-9a-f]+:[0-9a-f]+:(\d+)\s/.exec(line);
      if (match === null || Number(match[2]) !== ino) continue;
      return `process ${match[1]} (${readFileSync(`/proc/${match[1]}/comm`, "utf8").trim()})`;
    }
  } catch {
    // The holder may have ended meanwhile; the message does without it.
  }
  return undefined;
}
