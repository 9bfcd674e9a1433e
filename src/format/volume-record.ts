import { FamfsError, uuidFromBytes, uuidToBytes } from "../base/index.ts";
import { Checked } from "./checked.ts";
import {
  EXTENSION_VERSION,
  IncompatFeature,
  MAX_SLOTS,
  VOLUME_RECORD_MAGIC,
  type VolumeLayout,
  VolumeRecordStruct,
} from "./extension-structs.ts";
import type { Inspected } from "./finding.ts";
import { OWNER_SLOTS } from "./owner-layout.ts";

/** What makes a volume extended (docs/format-extensions.md). UUIDs with dashes. */
export interface VolumeRecord {
  readonly volumeUuid: string;
  /** `ts_uuid` of the superblock it was written with: a stock reformat changes that one only. */
  readonly superblockUuid: string;
  /** Grows each time the region is given to another volume. */
  readonly generation: number;
  /** What the claim asked for: bytes a single file may have in a fresh volume. */
  readonly capacityBytes: number;
  readonly regionLength: number;
  readonly createdSeconds: number;
  readonly rootUid: number;
  readonly rootGid: number;
  readonly rootMode: number;
  /** Of claims and all else that nodes say to each other; the identity line has it, too. */
  readonly layout: VolumeLayout;
  /** Owner slots: OWNER_SLOTS in layout 2. */
  readonly slots: number;
  /** The volume's id for people; UTF-8, at most 256 bytes. */
  readonly name: string;
}

/** Its version is looked at last: a record of a former file system is none, whatever its version. */
const checked = new Checked({
  what: "volume record",
  code: "VOLUME_RECORD_CORRUPT",
  struct: VolumeRecordStruct,
  magic: { vr_magic: VOLUME_RECORD_MAGIC },
  crc: "vr_crc",
  absent: "other magic",
});

export function encodeVolumeRecord(record: VolumeRecord): Uint8Array {
  return checked.encode({
    vr_version: EXTENSION_VERSION,
    vr_size: VolumeRecordStruct.size,
    vr_incompat: record.layout === 2 ? IncompatFeature.LAYOUT_2 : 0n,
    vr_compat: 0n,
    vr_volume_uuid: uuidToBytes(record.volumeUuid),
    vr_superblock_uuid: uuidToBytes(record.superblockUuid),
    vr_generation: record.generation,
    vr_capacity: record.capacityBytes,
    vr_region_length: record.regionLength,
    vr_created_sec: record.createdSeconds,
    vr_root_uid: record.rootUid,
    vr_root_gid: record.rootGid,
    vr_root_mode: record.rootMode,
    vr_slots: record.slots,
    vr_name: Buffer.from(record.name, "utf8").toString("latin1"),
  });
}

/**
 * The record at `base`. No value and no finding: there is none, the volume is a stock one. `superblockUuid` is that
 * of the superblock in front of it; a record of a former file system is reported and not returned.
 */
export function inspectVolumeRecord(bytes: Uint8Array, base: number, superblockUuid: string): Inspected<VolumeRecord> {
  const { value: raw, findings } = checked.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  const uuid = uuidFromBytes(raw.vr_superblock_uuid);
  if (uuid !== superblockUuid) {
    const why = `belongs to file system ${uuid}, the superblock is ${superblockUuid}`;
    return checked.refuse(base, why, "VOLUME_RECORD_FOREIGN");
  }
  if (raw.vr_version !== EXTENSION_VERSION || (raw.vr_incompat & ~IncompatFeature.LAYOUT_2) !== 0n) {
    return checked.refuse(
      base,
      `version ${raw.vr_version}, features 0x${raw.vr_incompat.toString(16)}: needs a newer famfs-csi`,
    );
  }
  const layout = raw.vr_incompat === IncompatFeature.LAYOUT_2 ? 2 : 1;
  const [least, most] = layout === 2 ? [OWNER_SLOTS, OWNER_SLOTS] : [1, MAX_SLOTS];
  if (raw.vr_slots < least || raw.vr_slots > most) {
    return checked.refuse(base, `${raw.vr_slots} owner slots, expected ${least} to ${most}`);
  }
  return {
    value: {
      volumeUuid: uuidFromBytes(raw.vr_volume_uuid),
      superblockUuid: uuid,
      generation: raw.vr_generation,
      capacityBytes: raw.vr_capacity,
      regionLength: raw.vr_region_length,
      createdSeconds: raw.vr_created_sec,
      rootUid: raw.vr_root_uid,
      rootGid: raw.vr_root_gid,
      rootMode: raw.vr_root_mode & 0o7777,
      layout,
      slots: raw.vr_slots,
      name: Buffer.from(raw.vr_name, "latin1").toString("utf8"),
    },
    findings: [],
  };
}

/** The record, undefined for a stock volume (a foreign record makes it one), or VOLUME_RECORD_CORRUPT. */
export function parseVolumeRecord(bytes: Uint8Array, base: number, superblockUuid: string): VolumeRecord | undefined {
  const { value, findings } = inspectVolumeRecord(bytes, base, superblockUuid);
  const [finding] = findings;
  if (finding !== undefined && finding.code !== "VOLUME_RECORD_FOREIGN") {
    throw new FamfsError("VOLUME_RECORD_CORRUPT", finding.message);
  }
  return value;
}
