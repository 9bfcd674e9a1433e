import { ALLOC_UNIT, FamfsError, uuidFromBytes, uuidToBytes } from "../base/index.ts";
import { Checked } from "./checked.ts";
import { sealCrc } from "./crc.ts";
import type { Inspected } from "./finding.ts";
import {
  LOG_OFFSET,
  MIN_LOG_LENGTH,
  OMF_MAJOR,
  OMF_MINOR,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_VERSION,
  SuperblockStruct,
} from "./structs.ts";

/** Format 3.1. UUIDs with dashes. */
export interface Superblock {
  readonly version: number;
  readonly logOffset: number;
  readonly logLength: number;
  readonly allocUnit: number;
  readonly omfMajor: number;
  readonly omfMinor: number;
  readonly uuid: string;
  readonly devUuid: string;
  readonly systemUuid: string;
  readonly flags: number;
  /** For a volume in a region: the region's length. */
  readonly daxdevSize: number;
  readonly daxdevUuid: string;
  /** Path given to mkfs; one char per byte. */
  readonly daxdev: string;
}

/** `superblock` with its stored crc. */
export interface StoredSuperblock extends Superblock {
  readonly crc: number;
}

const checked = new Checked({
  what: "superblock",
  code: "SUPERBLOCK_CORRUPT",
  struct: SuperblockStruct,
  magic: { ts_magic: SUPERBLOCK_MAGIC },
  version: { ts_version: SUPERBLOCK_VERSION },
  versionCode: "SUPERBLOCK_VERSION",
  crc: "ts_crc",
});

export const SUPERBLOCK_SIZE = checked.size;

export function encodeSuperblock(superblock: Superblock): Uint8Array {
  return checked.encode({
    ts_log_offset: superblock.logOffset,
    ts_log_len: superblock.logLength,
    ts_alloc_unit: superblock.allocUnit,
    ts_omf_ver_major: superblock.omfMajor,
    ts_omf_ver_minor: superblock.omfMinor,
    ts_uuid: uuidToBytes(superblock.uuid),
    ts_dev_uuid: uuidToBytes(superblock.devUuid),
    ts_system_uuid: uuidToBytes(superblock.systemUuid),
    ts_sb_flags: superblock.flags,
    dd_size: superblock.daxdevSize,
    dd_uuid: uuidToBytes(superblock.daxdevUuid),
    dd_daxdev: superblock.daxdev,
  });
}

/**
 * A superblock with the stock magic, a valid CRC and a version that no stock tool accepts: their mkfs finds a file
 * system of another version and refuses to write without force.
 */
export function encodeForeignSuperblock(front: {
  readonly version: bigint;
  readonly uuid: string;
  readonly sizeBytes: number;
  /** For people. */
  readonly text: string;
}): Uint8Array {
  const bytes = SuperblockStruct.encode({
    ts_magic: SUPERBLOCK_MAGIC,
    ts_version: front.version,
    ts_log_offset: 0,
    ts_log_len: 0,
    ts_alloc_unit: ALLOC_UNIT,
    ts_omf_ver_major: 0,
    ts_omf_ver_minor: 0,
    ts_uuid: uuidToBytes(front.uuid),
    ts_dev_uuid: uuidToBytes(front.uuid),
    ts_system_uuid: new Uint8Array(16),
    ts_crc: 0n,
    ts_sb_flags: 0,
    dd_size: front.sizeBytes,
    dd_uuid: uuidToBytes(front.uuid),
    dd_daxdev: front.text,
  });
  sealCrc(bytes, 0, SuperblockStruct.offsets.ts_crc);
  return bytes;
}

/** The checks of stock in its order (format 8), then what stock forgets: whether log and data fit at all. */
export function inspectSuperblock(bytes: Uint8Array, base = 0): Inspected<StoredSuperblock> {
  const { value: raw, findings } = checked.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  if (raw.ts_alloc_unit !== ALLOC_UNIT && raw.ts_alloc_unit !== 4096) {
    return checked.refuse(base, `allocation unit ${raw.ts_alloc_unit}, expected 4096 or ${ALLOC_UNIT}`);
  }
  const value: StoredSuperblock = {
    version: Number(raw.ts_version),
    logOffset: raw.ts_log_offset,
    logLength: raw.ts_log_len,
    allocUnit: raw.ts_alloc_unit,
    omfMajor: raw.ts_omf_ver_major,
    omfMinor: raw.ts_omf_ver_minor,
    uuid: uuidFromBytes(raw.ts_uuid),
    devUuid: uuidFromBytes(raw.ts_dev_uuid),
    systemUuid: uuidFromBytes(raw.ts_system_uuid),
    flags: raw.ts_sb_flags,
    daxdevSize: raw.dd_size,
    daxdevUuid: uuidFromBytes(raw.dd_uuid),
    daxdev: raw.dd_daxdev,
    crc: Number(raw.ts_crc),
  };
  const problem = geometryProblem(value);
  return {
    value,
    findings: problem === undefined ? [] : [{ code: "SUPERBLOCK_GEOMETRY", offset: base, message: problem }],
  };
}

function geometryProblem(superblock: Superblock): string | undefined {
  const { logOffset, logLength, daxdevSize } = superblock;
  if (logOffset !== LOG_OFFSET) return `superblock: log offset ${logOffset}, expected ${LOG_OFFSET}`;
  if (!isLogLength(logLength)) return `superblock: log length ${logLength} is not a power of two from 8 MiB on`;
  if (logOffset + logLength > daxdevSize) {
    return `superblock: the log ends at ${logOffset + logLength}, beyond the device size ${daxdevSize}`;
  }
  return undefined;
}

/** A power of two from 8 MiB on (format 13). */
export function isLogLength(length: number): boolean {
  return Number.isSafeInteger(length) && length >= MIN_LOG_LENGTH && Number.isInteger(Math.log2(length));
}

/** The superblock, or SUPERBLOCK_CORRUPT / SUPERBLOCK_VERSION. */
export function parseSuperblock(bytes: Uint8Array, base = 0): StoredSuperblock {
  const { value, findings } = inspectSuperblock(bytes, base);
  const [finding] = findings;
  if (value === undefined || finding !== undefined) {
    const code = finding?.code === "SUPERBLOCK_VERSION" ? "SUPERBLOCK_VERSION" : "SUPERBLOCK_CORRUPT";
    throw new FamfsError(code, finding?.message ?? "superblock: unreadable");
  }
  return value;
}

/** Fields that are the same in every superblock written here. */
export const SUPERBLOCK_DEFAULTS = {
  version: Number(SUPERBLOCK_VERSION),
  logOffset: LOG_OFFSET,
  allocUnit: ALLOC_UNIT,
  omfMajor: OMF_MAJOR,
  omfMinor: OMF_MINOR,
  flags: 0,
  daxdevUuid: "00000000-0000-0000-0000-000000000000",
} as const;
