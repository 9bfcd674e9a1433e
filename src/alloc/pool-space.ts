import { ALLOC_UNIT, type Extent, FamfsError } from "../base/index.ts";
import { FreeSpace } from "./free-space.ts";

/** An extent of a device, which is named by its UUID. */
export interface PoolRegion extends Extent {
  readonly deviceUuid: string;
}

export interface PoolDevice {
  readonly uuid: string;
  readonly sizeBytes: number;
}

/** All of a device but its label. */
export function freeSpaceOf({ sizeBytes }: Pick<PoolDevice, "sizeBytes">): FreeSpace {
  return new FreeSpace({ offset: ALLOC_UNIT, length: Math.max(0, sizeBytes - ALLOC_UNIT) });
}

/** The free regions of a pool. Every device keeps its first unit for the device label. */
export class PoolSpace {
  readonly #devices: ReadonlyMap<string, FreeSpace>;

  /** Over the free space of each device, which stays the caller's: `allocate` and `free` change it. */
  constructor(devices: ReadonlyMap<string, FreeSpace>) {
    this.#devices = devices;
  }

  /** `used` may name devices that are not (or no longer) in the pool: they take nothing here. */
  static of(devices: Iterable<PoolDevice>, used: Iterable<PoolRegion>): PoolSpace {
    const spaces = new Map<string, FreeSpace>();
    for (const device of devices) spaces.set(device.uuid, freeSpaceOf(device));
    for (const region of used) spaces.get(region.deviceUuid)?.take(region.offset, region.length);
    return new PoolSpace(spaces);
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
   * Where a region of `length` bytes would be, rounded up to units, in the hole that it fills best: large holes stay
   * whole for large volumes. Between equal holes the fuller device is taken. undefined when no hole is large enough.
   */
  find(length: number): PoolRegion | undefined {
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
    const piece = best?.space.find(length);
    return best === undefined || piece === undefined ? undefined : { deviceUuid: best.uuid, ...piece };
  }

  /** Takes what `find` answers. */
  allocate(length: number): PoolRegion | undefined {
    const region = this.find(length);
    if (region !== undefined) this.#devices.get(region.deviceUuid)?.take(region.offset, region.length);
    return region;
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
