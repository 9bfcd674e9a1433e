import { uuidFromBytes, uuidToBytes } from "../base/index.ts";
import { crcHolds, sealCrc } from "./crc.ts";
import {
  EXTENSION_VERSION,
  VOLUME_ORIGIN_MAGIC,
  VOLUME_ORIGIN_OFFSET,
  VolumeOriginStruct,
} from "./extension-structs.ts";
import { inspect } from "./finding.ts";
import { readU64 } from "./integers.ts";

/** What the cluster asked for when it made a volume: kept in the memory for the day its own records are lost. */
export interface VolumeOrigin {
  readonly csiName: string;
  readonly fabric: string;
  /** As in the StorageClass. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** Where a copy of a region's start must reach to, so that `readVolumeOrigin` finds one. */
export const VOLUME_ORIGIN_END = VOLUME_ORIGIN_OFFSET + VolumeOriginStruct.size;

/** Undefined when it does not fit: the volume does without. */
export function encodeVolumeOrigin(volumeUuid: string, origin: VolumeOrigin): Uint8Array | undefined {
  const text = Buffer.from(JSON.stringify(origin), "utf8");
  const room = VolumeOriginStruct.offsets.vo_crc - VolumeOriginStruct.offsets.vo_text;
  if (text.length > room) return undefined;
  const bytes = VolumeOriginStruct.encode({
    vo_magic: VOLUME_ORIGIN_MAGIC,
    vo_version: EXTENSION_VERSION,
    vo_length: text.length,
    vo_volume_uuid: uuidToBytes(volumeUuid),
    vo_text: text,
    vo_crc: 0n,
  });
  sealCrc(bytes, 0, VolumeOriginStruct.offsets.vo_crc);
  return bytes;
}

/** The origin at `base`; undefined when there is none for this volume that can be read. Never throws. */
export function readVolumeOrigin(bytes: Uint8Array, base: number, volumeUuid: string): VolumeOrigin | undefined {
  if (readU64(bytes, base) !== VOLUME_ORIGIN_MAGIC || base + VolumeOriginStruct.size > bytes.byteLength)
    return undefined;
  if (!crcHolds(bytes, base, VolumeOriginStruct.offsets.vo_crc)) return undefined;
  const { value: raw } = inspect("VOLUME_RECORD_CORRUPT", base, () => VolumeOriginStruct.decode(bytes, base));
  if (raw?.vo_version !== EXTENSION_VERSION || uuidFromBytes(raw.vo_volume_uuid) !== volumeUuid) return undefined;
  try {
    return parseOrigin(JSON.parse(Buffer.from(raw.vo_text.subarray(0, raw.vo_length)).toString("utf8")));
  } catch {
    return undefined;
  }
}

function parseOrigin(value: unknown): VolumeOrigin | undefined {
  const { csiName, fabric, parameters } = asObject(value);
  if (typeof csiName !== "string" || typeof fabric !== "string") return undefined;
  const texts = Object.entries(asObject(parameters)).filter(
    (entry): entry is [string, string] => typeof entry[1] === "string",
  );
  return { csiName, fabric, parameters: Object.fromEntries(texts) };
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
}
