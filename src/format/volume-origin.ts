import { uuidFromBytes, uuidToBytes } from "../base/index.ts";
import { Checked } from "./checked.ts";
import {
  EXTENSION_VERSION,
  VOLUME_ORIGIN_MAGIC,
  VOLUME_ORIGIN_OFFSET,
  VolumeOriginStruct,
} from "./extension-structs.ts";

/** What the cluster asked for when it made a volume: kept in the memory for the day its own records are lost. */
export interface VolumeOrigin {
  readonly csiName: string;
  readonly fabric: string;
  /** As in the StorageClass. */
  readonly parameters: Readonly<Record<string, string>>;
}

const checked = new Checked({
  what: "volume origin",
  code: "VOLUME_RECORD_CORRUPT",
  struct: VolumeOriginStruct,
  magic: { vo_magic: VOLUME_ORIGIN_MAGIC },
  version: { vo_version: EXTENSION_VERSION },
  crc: "vo_crc",
});

/** Where a copy of a region's start must reach to, so that `readVolumeOrigin` finds one. */
export const VOLUME_ORIGIN_END = VOLUME_ORIGIN_OFFSET + VolumeOriginStruct.size;

/** Undefined when it does not fit: the volume does without. */
export function encodeVolumeOrigin(volumeUuid: string, origin: VolumeOrigin): Uint8Array | undefined {
  const text = Buffer.from(JSON.stringify(origin), "utf8");
  const room = VolumeOriginStruct.offsets.vo_crc - VolumeOriginStruct.offsets.vo_text;
  if (text.length > room) return undefined;
  return checked.encode({ vo_length: text.length, vo_volume_uuid: uuidToBytes(volumeUuid), vo_text: text });
}

/** The origin at `base`; undefined when there is none for this volume that can be read. Never throws. */
export function readVolumeOrigin(bytes: Uint8Array, base: number, volumeUuid: string): VolumeOrigin | undefined {
  const { value: raw } = checked.inspect(bytes, base);
  if (raw === undefined || uuidFromBytes(raw.vo_volume_uuid) !== volumeUuid) return undefined;
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
