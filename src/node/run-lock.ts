import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { native } from "../../native/index.ts";
import { FamfsError, fromSystemError } from "../base/index.ts";

/** A FUSE server whose plugin was killed seals what it can and ends within this time. */
const WAIT_MS = 20_000;
const POLL_MS = 20;

export interface RunLock extends AsyncDisposable {
  /** Inherited by the FUSE server process, so the lock is held until both are gone. */
  readonly fd: number;
}

/**
 * One node plugin, and one FUSE server process of it, per run directory: a new plugin waits until the server of a
 * killed one is gone, because that one may still write to memory. DEVICE_IN_USE when it does not go.
 */
export async function lockRunDirectory(directory: string): Promise<RunLock> {
  const path = join(directory, "lock");
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const handle = await open(path, "a", 0o600);
    try {
      for (const until = performance.now() + WAIT_MS; !native.tryLock(handle.fd, false); ) {
        if (performance.now() > until) {
          throw new FamfsError("DEVICE_IN_USE", `${path}: another node plugin (or its FUSE server) runs here; stop it`);
        }
        await delay(POLL_MS);
      }
    } catch (error) {
      await handle.close();
      throw error;
    }
    return { fd: handle.fd, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    throw fromSystemError(error, "flock", path);
  }
}
