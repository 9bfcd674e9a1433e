import { uuidFromBytes, uuidToBytes } from "../base/index.ts";
import { Checked } from "./checked.ts";
import {
  ERASE_MARK_MAGIC,
  ERASE_MARK_OFFSET,
  ERASING_SUPERBLOCK_VERSION,
  EraseMarkStruct,
  EXTENSION_VERSION,
} from "./extension-structs.ts";
import type { Piece } from "./mkfs.ts";
import { encodeForeignSuperblock } from "./superblock.ts";

/** Says that a region was a volume's and is being erased: what is in it is nobody's any more. */
export interface EraseMark {
  readonly volumeUuid: string;
  readonly generation: number;
  readonly regionLength: number;
  readonly begunSeconds: number;
}

const checked = new Checked({
  what: "erase mark",
  code: "VOLUME_RECORD_CORRUPT",
  struct: EraseMarkStruct,
  magic: { em_magic: ERASE_MARK_MAGIC },
  version: { em_version: EXTENSION_VERSION },
  crc: "em_crc",
});

/** In the order of writing: the region is its volume's, or says that it is being erased, at every moment. */
export function encodeEraseMark(mark: EraseMark): readonly Piece[] {
  const front = { uuid: mark.volumeUuid, sizeBytes: mark.regionLength, text: "being erased by famfs-csi" };
  return [
    {
      offset: ERASE_MARK_OFFSET,
      bytes: checked.encode({
        em_volume_uuid: uuidToBytes(mark.volumeUuid),
        em_generation: mark.generation,
        em_region_length: mark.regionLength,
        em_begun_sec: mark.begunSeconds,
      }),
    },
    { offset: 0, bytes: encodeForeignSuperblock({ version: ERASING_SUPERBLOCK_VERSION, ...front }) },
  ];
}

/** The mark of the region that `bytes` begin; undefined when there is none. It counts when no superblock is valid. */
export function readEraseMark(bytes: Uint8Array): EraseMark | undefined {
  const { value: raw } = checked.inspect(bytes, ERASE_MARK_OFFSET);
  if (raw === undefined) return undefined;
  return {
    volumeUuid: uuidFromBytes(raw.em_volume_uuid),
    generation: raw.em_generation,
    regionLength: raw.em_region_length,
    begunSeconds: raw.em_begun_sec,
  };
}
