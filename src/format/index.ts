export {
  ASK_LINE_SIZE,
  type Ask,
  encodeAsk,
  encodeBell,
  HEARD_OFFSET,
  inspectAsk,
} from "./ask-line.ts";
export * from "./ballot.ts";
export * from "./change-ring.ts";
export * from "./describe.ts";
export * from "./device-label.ts";
export { type Decoded, EntryDecoder } from "./entry-decode.ts";
export { encodeEntries, encodeEntry, isName } from "./entry-encode.ts";
export * from "./erase-mark.ts";
export {
  CHANGE_RING_OFFSET,
  CHANGE_RING_SIZE,
  CHANGE_RING_SLOTS,
  DEFAULT_SLOTS,
  ExtensionType,
  GUARD_OFFSET,
  LABEL_LENGTH,
  LABEL_RECORD_OFFSET,
  MAX_DETAIL_RANGES,
  MAX_NAME,
  MAX_RESERVED_RANGES,
  MAX_SLOTS,
  MAX_SYMLINK_TARGET,
  STORE_MARK_OFFSET,
  SUPERBLOCK_COPY_OFFSET,
  VOLUME_ORIGIN_OFFSET,
  VOLUME_RECORD_COPY_OFFSET,
  VOLUME_RECORD_OFFSET,
  type VolumeLayout,
} from "./extension-structs.ts";
export * from "./filler-run.ts";
export * from "./finding.ts";
export * from "./fsck.ts";
export * from "./log-entry.ts";
export * from "./log-header.ts";
export * from "./log-scan.ts";
export * from "./mkfs.ts";
export * from "./owner-claims.ts";
export * from "./owner-detail.ts";
export * from "./owner-layout.ts";
export * from "./owner-lines.ts";
export * from "./owner-ring.ts";
export * from "./owner-slot.ts";
export {
  type Applied,
  type SealedChange,
  type SealedNode,
  type SealedPlace,
  type SealedTreeOptions,
  standInPath,
} from "./sealed-node.ts";
export * from "./sealed-tree.ts";
export * from "./store-mark.ts";
export {
  ENTRY_SIZE,
  FILE_FLAGS_ALL_HOSTS_RW,
  LOG_OFFSET,
  MAX_DIRECT_PATH,
  MAX_EXTENTS,
  MAX_EXTENTS_EXTENDED,
  MIN_LOG_LENGTH,
  SUPERBLOCK_MAGIC,
} from "./structs.ts";
export * from "./superblock.ts";
export * from "./volume-origin.ts";
export * from "./volume-record.ts";
