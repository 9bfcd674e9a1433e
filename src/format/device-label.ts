import { FamfsError, uuidFromBytes, uuidToBytes } from "../base/index.ts";
import { Checked } from "./checked.ts";
import {
  DeviceLabelStruct,
  EXTENSION_VERSION,
  LABEL_LENGTH,
  LABEL_MAGIC,
  LABEL_RECORD_OFFSET,
  LABEL_SUPERBLOCK_VERSION,
} from "./extension-structs.ts";
import type { Inspected } from "./finding.ts";
import { readU64 } from "./integers.ts";
import { SUPERBLOCK_MAGIC, SuperblockStruct } from "./structs.ts";
import { encodeForeignSuperblock } from "./superblock.ts";

/** What says whose a managed device is (design 2). */
export interface DeviceLabel {
  readonly uuid: string;
  readonly sizeBytes: number;
  readonly pool: string;
  /** Counts initialisations of the device; a region of another incarnation is not ours. */
  readonly incarnation: number;
  readonly createdSeconds: number;
}

const checked = new Checked({
  what: "device label",
  code: "LABEL_CORRUPT",
  struct: DeviceLabelStruct,
  magic: { dl_magic: LABEL_MAGIC },
  version: { dl_version: EXTENSION_VERSION },
  crc: "dl_crc",
});

/**
 * First LABEL_RECORD_OFFSET + 512 bytes of the label; the rest of its 2 MiB is zero. Write the record (from
 * LABEL_RECORD_OFFSET on) before the superblock in front, so that a torn write is never taken for a label.
 */
export function encodeDeviceLabel(label: DeviceLabel): Uint8Array {
  const bytes = new Uint8Array(LABEL_RECORD_OFFSET + DeviceLabelStruct.size);
  const front = { uuid: label.uuid, sizeBytes: label.sizeBytes, text: "managed by famfs-csi" };
  bytes.set(encodeForeignSuperblock({ version: LABEL_SUPERBLOCK_VERSION, ...front }));
  return checked.encode(
    {
      dl_size: DeviceLabelStruct.size,
      dl_uuid: uuidToBytes(label.uuid),
      dl_device_size: label.sizeBytes,
      dl_label_length: LABEL_LENGTH,
      dl_incarnation: label.incarnation,
      dl_created_sec: label.createdSeconds,
      dl_pool: Buffer.from(label.pool, "utf8").toString("latin1"),
    },
    bytes,
    LABEL_RECORD_OFFSET,
  );
}

/** Whether the superblock at the start of a device is that of a label (whatever the label record says). */
export function hasLabelSuperblock(bytes: Uint8Array): boolean {
  return (
    readU64(bytes, SuperblockStruct.offsets.ts_magic) === SUPERBLOCK_MAGIC &&
    readU64(bytes, SuperblockStruct.offsets.ts_version) === LABEL_SUPERBLOCK_VERSION
  );
}

/** `bytes` begin at device offset 0. No value and no finding: the device has no label. */
export function inspectDeviceLabel(bytes: Uint8Array): Inspected<DeviceLabel> {
  if (!hasLabelSuperblock(bytes)) return { value: undefined, findings: [] };
  const { value: raw, findings } = checked.inspect(bytes, LABEL_RECORD_OFFSET);
  if (raw === undefined) return { value: undefined, findings };
  if (raw.dl_label_length !== LABEL_LENGTH) {
    return checked.refuse(LABEL_RECORD_OFFSET, `${raw.dl_label_length} bytes long, expected ${LABEL_LENGTH}`);
  }
  return {
    value: {
      uuid: uuidFromBytes(raw.dl_uuid),
      sizeBytes: raw.dl_device_size,
      pool: Buffer.from(raw.dl_pool, "latin1").toString("utf8"),
      incarnation: raw.dl_incarnation,
      createdSeconds: raw.dl_created_sec,
    },
    findings: [],
  };
}

/** The label, undefined when there is none, or LABEL_CORRUPT. */
export function parseDeviceLabel(bytes: Uint8Array): DeviceLabel | undefined {
  const { value, findings } = inspectDeviceLabel(bytes);
  const [finding] = findings;
  if (finding !== undefined) throw new FamfsError("LABEL_CORRUPT", finding.message);
  return value;
}
