import { ALLOC_UNIT, FamfsError } from "../base/index.ts";
import { FreeSpace } from "./free-space.ts";

/** A contiguous range of a device, named by its UUID. Bytes. */
export interface PoolRegion {
  readonly deviceUuid: string;
  readonly offset: number;
  readonly length: number;
}

export interface PoolDevice {
  readonly uuid: string;
  readonly sizeBytes: number;
}

/** The free regions of a pool. Every device keeps its first unit for the device label. */
export class PoolSpace {
  readonly #devices = new Map<string, FreeSpace>();

  /** `used` may name devices that are not (or no longer) in the pool: they take nothing here. */
  constructor(devices: Iterable<PoolDevice>, used: Iterable<PoolRegion>) {
    for (const { uuid, sizeBytes } of devices) {
      const length = Math.max(0, sizeBytes - ALLOC_UNIT);
      this.#devices.set(uuid, new FreeSpace({ offset: ALLOC_UNIT, length }));
    }
    for (const region of used) this.#devices.get(region.deviceUuid)?.take(region.offset, region.length);
  }

  get freeBytes(): number {
    let sum = 0;
    for (const space of this.#devices.values()) sum += space.freeBytes;
    return sum;
  }

  get totalBytes(): number {
    let sum = 0;
    for (const space of this.#devices.values()) sum += space.totalBytes;
    return sum;
  }

  /** Longest region that could be placed now. */
  get largestFreeBytes(): number {
    let largest = 0;
    for (const space of this.#devices.values()) largest = Math.max(largest, space.largestFreeBytes);
    return largest;
  }

  /**
   * A region of `length` bytes, rounded up to units, in the hole that it fills best: large holes stay whole for large
   * volumes. Between equal holes the fuller device is taken. undefined when no hole is large enough.
   */
  allocate(length: number): PoolRegion | undefined {
    let best: { uuid: string; space: FreeSpace; hole: number } | undefined;
    for (const [uuid, space] of this.#devices) {
      const hole = space.bestHole(length);
      if (hole === undefined) continue;
      const better =
        best === undefined ||
        hole < best.hole ||
        (hole === best.hole && space.freeBytes / space.totalBytes < best.space.freeBytes / best.space.totalBytes);
      if (better) best = { uuid, space, hole };
    }
    const piece = best?.space.allocate(length);
    return best === undefined || piece === undefined ? undefined : { deviceUuid: best.uuid, ...piece };
  }

  /** As `allocate`, or POOL_FULL with the largest free region. */
  require(length: number): PoolRegion {
    const region = this.allocate(length);
    if (region !== undefined) return region;
    const largestFreeBytes = this.largestFreeBytes;
    throw new FamfsError(
      "POOL_FULL",
      `a region of ${length} bytes does not fit: the largest free one has ${largestFreeBytes} bytes, ${this.freeBytes} are free in all`,
      { details: { requestedBytes: length, largestFreeBytes } },
    );
  }

  /** Gives a region back; INTERNAL when it was not in use. */
  free(region: PoolRegion): void {
    const space = this.#devices.get(region.deviceUuid);
    if (space === undefined) throw new FamfsError("INTERNAL", `freed a region of unknown device ${region.deviceUuid}`);
    space.free(region.offset, region.length);
  }
}
