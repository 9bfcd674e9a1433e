import { Checked } from "./checked.ts";
import { EXTENSION_VERSION, STORE_MARK_MAGIC, StoreMarkStruct } from "./extension-structs.ts";

const checked = new Checked({
  what: "store mark",
  code: "LABEL_CORRUPT",
  struct: StoreMarkStruct,
  magic: { sm_magic: STORE_MARK_MAGIC },
  version: { sm_version: EXTENSION_VERSION },
  crc: "sm_crc",
});

export const STORE_MARK_SIZE = checked.size;

/** The highest revision of the device's record that a node has seen, for the label. */
export function encodeStoreMark(revision: number): Uint8Array {
  return checked.encode({ sm_revision: revision });
}

/** The revision in it; 0 when there is none that can be read: then nothing is known. */
export function readStoreMark(bytes: Uint8Array): number {
  return checked.inspect(bytes, 0).value?.sm_revision ?? 0;
}
