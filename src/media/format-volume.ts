import { randomUUID } from "node:crypto";
import {
  capacityFor,
  type Formatted,
  formatExtended,
  formatStock,
  LOG_OFFSET,
  SUPERBLOCK_COPY_OFFSET,
  type VolumeOrigin,
} from "../format/index.ts";
import type { Device, Range, ZeroOptions } from "./device.ts";

export interface VolumeFormat {
  /** Of the volume record, and of the superblock unless it is a stock file system with a UUID of its own. */
  readonly uuid: string;
  /** The volume's id, for people. */
  readonly name: string;
  /** Owner and permission bits of the root directory. */
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  /** Grows each time the region is given to another volume. */
  readonly generation: number;
  readonly createdSeconds: number;
  /** What the claim asked for; absent: all there is. */
  readonly capacityBytes?: number;
  /** A power of two from 8 MiB on, which is the default. */
  readonly logLength?: number;
  /** What the cluster asked for, for a day when its records are lost. */
  readonly origin?: VolumeOrigin;
  /** UUID of this host for stock tools, which let only that host append (format 8). */
  readonly systemUuid?: string;
  /** Exactly what `mkfs.famfs` writes, without volume record. */
  readonly stock?: boolean;
}

const NOBODY = "00000000-0000-0000-0000-000000000000";

/**
 * Makes an empty file system in `region`. The old superblock goes first and the new one comes last, so that a crash
 * in between leaves something nobody takes for a volume. Old data is not touched: `eraseRegion` is for that.
 * INVALID_ARGUMENT, DEVICE_TOO_SMALL, OUT_OF_RANGE, and what `options.check` throws.
 */
export async function formatVolume(
  device: Device,
  region: Range,
  format: VolumeFormat,
  options: Pick<ZeroOptions, "signal" | "check"> = {},
): Promise<Formatted> {
  const stock = {
    regionLength: region.length,
    ...(format.logLength === undefined ? {} : { logLength: format.logLength }),
    uuid: format.uuid,
    devUuid: randomUUID(),
    systemUuid: format.systemUuid ?? NOBODY,
    daxdev: device.path,
  };
  const formatted =
    format.stock === true
      ? formatStock(stock)
      : formatExtended({
          ...stock,
          volumeUuid: format.uuid,
          name: format.name,
          generation: format.generation,
          capacityBytes: format.capacityBytes ?? capacityFor(region.length, format.logLength),
          createdSeconds: format.createdSeconds,
          rootUid: format.uid,
          rootGid: format.gid,
          rootMode: format.mode,
          origin: format.origin,
        });
  await options.check?.();
  await using window = device.mapRegion(region, { writable: true });
  forgetSuperblocks(window);
  await device.zero(region.offset, formatted.zeroLength, { ...options, window: { window, offset: 0 } });
  await options.check?.();
  for (const { offset, bytes } of formatted.pieces) window.copyInDurable(offset, bytes);
  return formatted;
}

/**
 * Makes the whole region zero: what a volume leaves to its successor. The superblock goes first. `options.check` is
 * called before each chunk, because the region may have been given away meanwhile.
 */
export async function eraseRegion(device: Device, region: Range, options: ZeroOptions = {}): Promise<void> {
  await options.check?.();
  {
    await using window = device.mapRegion(region, { writable: true });
    forgetSuperblocks(window);
  }
  await device.zero(region.offset, region.length, options);
}

function forgetSuperblocks(window: { readonly length: number; zero(offset: number, length: number): void }): void {
  window.zero(0, 4096);
  if (window.length >= LOG_OFFSET) window.zero(SUPERBLOCK_COPY_OFFSET, 4096);
}
