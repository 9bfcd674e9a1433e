/**
 * Calls of memory.c. A window is a mapping of part of a device, named by a number that is valid in every thread of
 * the process. Offsets are bytes within the window. Every call throws an Error with a string `code`:
 * EBADF (no such window), ERANGE (outside it), EROFS (read-only window), EIO (memory error).
 */
export interface MemoryCalls {
  /**
   * Maps [deviceOffset, deviceOffset + length) of `fd` (MAP_SHARED); the fd may be closed afterwards. `through`: what
   * goes past the caches. `host`: as the simulated host of that name sees the file, with
   * caches of its own (host-cache.c).
   */
  windowMap(
    fd: number,
    deviceOffset: number,
    length: number,
    writable: boolean,
    through?: Through,
    host?: string,
  ): number;
  /** Unmaps; waits for calls of other threads that are inside the window (all are bounded). */
  windowUnmap(window: number): void;
  copyOut(window: number, offset: number, target: Uint8Array): void;
  /** Past the caches where the window is mapped so. */
  copyIn(window: number, offset: number, source: Uint8Array): void;
  /** Copies with non-temporal or flushed stores and fences: durable in the memory when it returns. */
  copyInDurable(window: number, offset: number, source: Uint8Array): void;
  /** Writes dirty cache lines back and fences. */
  flush(window: number, offset: number, length: number): void;
  /** Writes back and invalidates, so that the next load comes from the memory. */
  invalidate(window: number, offset: number, length: number): void;
  /** Zeroes with non-temporal stores and fences. For simulated devices see `Device.zero`, which punches holes. */
  zero(window: number, offset: number, length: number): void;
  load64(window: number, offset: number): bigint;
  store64(window: number, offset: number, value: bigint): void;
  populate(window: number, offset: number, length: number): void;
  /** Forgets that pages were populated: after a hole was punched. */
  forgetPopulated(window: number, offset: number, length: number): void;
  /** Where in the window the kernel reported bad memory before anybody read it (BUS_MCEERR_AO); undefined: nowhere. */
  reportedBad(window: number): number | undefined;
}

/** The data of files past the caches: of WRITE, so that fsync has nothing to do, or of READ as well. */
export const THROUGH = { nothing: 0, stores: 1, all: 2 } as const;
export type Through = (typeof THROUGH)[keyof typeof THROUGH];
