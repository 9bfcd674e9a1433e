import { closeSync, fstatSync, openSync, readdirSync, statfsSync } from "node:fs";
import { constants } from "node:os";
import { now } from "./history.ts";

const FUSE_SUPER_MAGIC = 0x65735546;
const RETRY_MS = 50;

/** errno names by number, as Node reports system errors. */
export function errnoOf(error: unknown): string {
  const { code, errno } = error as NodeJS.ErrnoException;
  if (code !== undefined && code in constants.errno) return code;
  const name = Object.entries(constants.errno).find(([, value]) => value === -(errno ?? 0))?.[0];
  return name ?? String(code ?? error);
}

export function nap(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/**
 * The root of the mounted volume, by an open descriptor: while nothing is mounted, or another mount took the place,
 * no operation happens somewhere else. Opened again when the connection is gone.
 */
export class VolumeRoot implements Disposable {
  readonly #target: string;
  #fd: number | undefined;

  constructor(target: string) {
    this.#target = target;
  }

  path(name: string): string {
    if (this.#fd === undefined) throw new Error("the volume is not open");
    return `/proc/self/fd/${this.#fd}/${name}`;
  }

  /** Waits until the volume is mounted with what `probe` names in it, or `until`; false then. */
  open(probe: string, until: number): boolean {
    while (now() < until) {
      if (this.#fd !== undefined) return true;
      try {
        const fd = openSync(this.#target, "r");
        this.#fd = fd;
        if (statfsSync(this.path(".")).type === FUSE_SUPER_MAGIC && fstatSync(fd).isDirectory()) {
          readdirSync(this.path(probe));
          return true;
        }
      } catch {
        // not there yet, or gone again
      }
      this.close();
      nap(RETRY_MS);
    }
    return false;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
