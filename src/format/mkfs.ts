import { ALLOC_UNIT, FamfsError, roundDown, roundUp } from "../base/index.ts";
import { encodeChangeRingHeader } from "./change-ring.ts";
import {
  CHANGE_RING_OFFSET,
  DEFAULT_SLOTS,
  GUARD_OFFSET,
  SUPERBLOCK_COPY_OFFSET,
  VOLUME_ORIGIN_OFFSET,
  VOLUME_RECORD_COPY_OFFSET,
  VOLUME_RECORD_OFFSET,
  type VolumeLayout,
} from "./extension-structs.ts";
import { encodeLogHeader, lastIndexFor } from "./log-header.ts";
import { encodeIdentity } from "./owner-claims.ts";
import { OWNER_SLOTS } from "./owner-layout.ts";
import { LOG_OFFSET, MIN_LOG_LENGTH } from "./structs.ts";
import { encodeSuperblock, isLogLength, SUPERBLOCK_DEFAULTS, type Superblock } from "./superblock.ts";
import { encodeVolumeOrigin, type VolumeOrigin } from "./volume-origin.ts";
import { encodeVolumeRecord, type VolumeRecord } from "./volume-record.ts";

export interface StockFormat {
  /** Bytes of the region (or device). */
  readonly regionLength: number;
  readonly logLength?: number;
  readonly uuid: string;
  readonly devUuid: string;
  readonly systemUuid: string;
  /** Goes into the superblock for people; cut to 64 bytes. */
  readonly daxdev: string;
}

export interface ExtendedFormat extends StockFormat {
  readonly volumeUuid: string;
  readonly generation: number;
  readonly capacityBytes: number;
  readonly createdSeconds: number;
  readonly rootUid: number;
  readonly rootGid: number;
  readonly rootMode: number;
  /** Of new volumes: 2. */
  readonly layout?: VolumeLayout;
  /** Of layout 1. */
  readonly slots?: number;
  /** The volume id, for people. */
  readonly name: string;
  readonly origin?: VolumeOrigin | undefined;
}

/** Bytes to write at an offset of the region. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface Formatted {
  readonly superblock: Superblock;
  readonly record: VolumeRecord | undefined;
  /** [0, zeroLength) is zeroed first: superblock region and log. */
  readonly zeroLength: number;
  /** In the order of writing; the superblock is last, so that a torn format is no file system. */
  readonly pieces: readonly Piece[];
}

/** What mkfs makes. */
const NEW_LAYOUT: VolumeLayout = 2;

/** Region for a claim of `capacityBytes` (design 4): data rounded up, superblock region and log. */
export function regionLengthFor(capacityBytes: number, logLength: number = MIN_LOG_LENGTH): number {
  return LOG_OFFSET + logLength + roundUp(capacityBytes, ALLOC_UNIT);
}

/** Bytes for files in a fresh volume of `regionLength`. */
export function capacityFor(regionLength: number, logLength: number = MIN_LOG_LENGTH): number {
  return Math.max(0, roundDown(regionLength, ALLOC_UNIT) - LOG_OFFSET - logLength);
}

/** What `mkfs` writes for a stock file system. */
export function formatStock(format: StockFormat): Formatted {
  const logLength = format.logLength ?? MIN_LOG_LENGTH;
  if (!isLogLength(logLength)) {
    throw new FamfsError("INVALID_ARGUMENT", `log length ${logLength}: write a power of two from 8 MiB on`);
  }
  const dataOffset = LOG_OFFSET + logLength;
  if (format.regionLength < dataOffset + ALLOC_UNIT) {
    throw new FamfsError(
      "DEVICE_TOO_SMALL",
      `${format.regionLength} bytes hold no file system: superblock, log and one file take ${dataOffset + ALLOC_UNIT}`,
    );
  }
  const superblock: Superblock = {
    ...SUPERBLOCK_DEFAULTS,
    logLength,
    uuid: format.uuid,
    devUuid: format.devUuid,
    systemUuid: format.systemUuid,
    daxdevSize: format.regionLength,
    daxdev: format.daxdev.slice(0, 64),
  };
  const header = encodeLogHeader({ logLength, lastIndex: lastIndexFor(logLength), nextSeqnum: 0, nextIndex: 0 });
  return {
    superblock,
    record: undefined,
    zeroLength: dataOffset,
    pieces: [
      { offset: LOG_OFFSET, bytes: header },
      { offset: 0, bytes: encodeSuperblock(superblock) },
    ],
  };
}

/** What `mkfs` writes for an extended volume. */
export function formatExtended(format: ExtendedFormat): Formatted {
  const stock = formatStock(format);
  const layout = format.layout ?? NEW_LAYOUT;
  const slots = layout === 2 ? OWNER_SLOTS : (format.slots ?? DEFAULT_SLOTS);
  const record: VolumeRecord = {
    volumeUuid: format.volumeUuid,
    superblockUuid: format.uuid,
    generation: format.generation,
    capacityBytes: format.capacityBytes,
    regionLength: format.regionLength,
    createdSeconds: format.createdSeconds,
    rootUid: format.rootUid,
    rootGid: format.rootGid,
    rootMode: format.rootMode,
    layout,
    slots,
    name: format.name,
  };
  const recordBytes = encodeVolumeRecord(record);
  const identity = encodeIdentity({ volumeUuid: format.volumeUuid, generation: format.generation, layout, slots });
  const origin = format.origin === undefined ? undefined : encodeVolumeOrigin(format.volumeUuid, format.origin);
  return {
    ...stock,
    record,
    pieces: [
      ...(origin === undefined ? [] : [{ offset: VOLUME_ORIGIN_OFFSET, bytes: origin }]),
      ...(layout === 2 ? [] : [{ offset: CHANGE_RING_OFFSET, bytes: encodeChangeRingHeader() }]),
      { offset: VOLUME_RECORD_COPY_OFFSET, bytes: recordBytes },
      { offset: SUPERBLOCK_COPY_OFFSET, bytes: encodeSuperblock(stock.superblock) },
      { offset: GUARD_OFFSET, bytes: identity },
      { offset: VOLUME_RECORD_OFFSET, bytes: recordBytes },
      ...stock.pieces,
    ],
  };
}
