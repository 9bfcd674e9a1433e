import { randomUUID } from "node:crypto";
import { ALLOC_UNIT, type Extent } from "../base/index.ts";
import {
  capacityFor,
  encodeEraseMark,
  type Formatted,
  formatExtended,
  formatStock,
  GUARD_OFFSET,
  IDENTITY_SIZE,
  LOG_OFFSET,
  SUPERBLOCK_COPY_OFFSET,
  type VolumeLayout,
  type VolumeOrigin,
} from "../format/index.ts";
import type { Device, ZeroOptions } from "./device.ts";
import type { Window } from "./window.ts";

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
  /** Of what nodes say to each other: 2, or as volumes were made before. */
  readonly layout?: VolumeLayout;
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
  region: Extent,
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
          ...(format.layout === undefined ? {} : { layout: format.layout }),
        });
  await options.check?.();
  await using window = device.mapRegion(region, { writable: true });
  forgetSuperblocks(window);
  await device.zero(region.offset, formatted.zeroLength, { ...options, window: { window, offset: 0 } });
  await options.check?.();
  for (const { offset, bytes } of formatted.pieces) window.copyInDurable(offset, bytes);
  return formatted;
}

/** The volume that a region was given to: all that may be erased there. */
export interface ErasedVolume {
  readonly uuid: string;
  readonly generation: number;
}

/**
 * Makes the whole region zero: what a volume leaves to its successor. An erase mark takes the place of its superblock
 * first and goes last, so that what a crash leaves is never taken for a volume, nor for another one's. Whether the
 * region is that volume's the caller has seen (`lookAtRegion`). `options.check` is called before each chunk, because
 * the region may have been given away meanwhile.
 */
export async function eraseRegion(
  device: Device,
  region: Extent,
  volume: ErasedVolume,
  options: ZeroOptions = {},
): Promise<void> {
  await options.check?.();
  {
    await using window = device.mapRegion(region, { writable: true });
    const mark = encodeEraseMark({
      volumeUuid: volume.uuid,
      generation: volume.generation,
      regionLength: region.length,
      begunSeconds: Math.floor(Date.now() / 1000),
    });
    for (const { offset, bytes } of mark) window.copyInDurable(offset, bytes);
    // A node that still has it mapped sees that it is given away.
    window.zero(GUARD_OFFSET, IDENTITY_SIZE);
    forgetSuperblockCopy(window);
  }
  const { onProgress } = options;
  const head = { offset: region.offset, length: ALLOC_UNIT };
  const rest = { offset: region.offset + ALLOC_UNIT, length: region.length - ALLOC_UNIT };
  if (rest.length > 0) await device.zero(rest.offset, rest.length, options);
  await device.zero(head.offset, head.length, {
    ...options,
    onProgress: (done) => onProgress?.(rest.length + done),
  });
}

function forgetSuperblocks(window: Pick<Window, "length" | "zero">): void {
  window.zero(0, 4096);
  forgetSuperblockCopy(window);
}

function forgetSuperblockCopy(window: Pick<Window, "length" | "zero">): void {
  if (window.length >= LOG_OFFSET) window.zero(SUPERBLOCK_COPY_OFFSET, 4096);
}
