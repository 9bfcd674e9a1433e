import { Struct } from "../base/index.ts";

/*
 * What only extended volumes carry; docs/format-extensions.md has the same tables for people, and a test compares.
 */

/** Bytes [512, 536) of a FILE or MKDIR entry: the last strip slot. */
export const TrailerStruct = new Struct("famfs_x_trailer", 24, {
  xt_magic: { at: 0, type: "u32", show: "hex" },
  xt_mtime_nsec: { at: 4, type: "u32" },
  xt_mtime_sec: { at: 8, type: "ssize" },
  xt_reserved: { at: 16, type: "pad", length: 8 },
});
export const TRAILER_OFFSET = 512;
export const TRAILER_MAGIC = 0x78744d31; // "1Mtx" in memory

/** Types of extension entries: far from the numbers stock may use next. */
export const ExtensionType = { RELINK: 0x66780001, NODE: 0x66780002, FILLER: 0x66780003 } as const;
export const EXTENSION_VERSION = 1;

/** Payload of RELINK and NODE. */
export const PlacementStruct = new Struct("famfs_x_placement", 520, {
  xp_version: { at: 0, type: "u32" },
  xp_flags: { at: 4, type: "u32", show: "hex" },
  xp_target: { at: 8, type: "u64" }, // RELINK: index of the entry that made the node; all ones = the root
  xp_parent: { at: 16, type: "u64" }, // index of the directory's entry; all ones = the root
  xp_mode: { at: 24, type: "u32" },
  xp_uid: { at: 28, type: "u32" },
  xp_gid: { at: 32, type: "u32" },
  xp_mtime_nsec: { at: 36, type: "u32" },
  xp_mtime_sec: { at: 40, type: "ssize" },
  xp_name_len: { at: 48, type: "u32" },
  xp_symlink_len: { at: 52, type: "u32" },
  xp_heap: { at: 56, type: "bytes", length: 464 }, // the name, then the symlink's target
});

export const PlacementFlag = {
  LINK: 1, // parent and name count
  MTIME: 2, // the mtime counts
  SYMLINK: 4, // NODE: a symlink; otherwise an empty file
} as const;

/** Payload of FILLER. */
export const FillerStruct = new Struct("famfs_x_filler", 520, {
  xf_version: { at: 0, type: "u32" },
  xf_flags: { at: 4, type: "pad", length: 4 },
  xf_epoch: { at: 8, type: "size" },
  xf_node_hash: { at: 16, type: "bytes", length: 8 },
  xf_first: { at: 24, type: "size" }, // index of the first filler of the run
  xf_run: { at: 32, type: "u32" }, // entries of the run; 0: nine, as the first programs wrote it
  xf_reserved: { at: 36, type: "pad", length: 484 },
});

export const MAX_NAME = 255;
/** Longest symlink target, whatever the name (with a RELINK of its own when both do not fit one entry). */
export const MAX_SYMLINK_TARGET = PlacementStruct.size - PlacementStruct.offsets.xp_heap;
export const MAX_PLACEMENT_HEAP = MAX_SYMLINK_TARGET;

/*
 * The first 2 MiB of an extended volume's region. Stock tools use bytes [0, 200) only.
 *
 *   0         superblock
 *   2 KiB     erase mark, while the volume that was here is being erased
 *   4 KiB     volume record, and 512 bytes later its origin
 *   8 KiB     guard range: identity line, then one 64-byte claim per owner slot
 *   128 KiB   one 8 KiB detail page per owner slot
 *   1536 KiB  repair copies: superblock, and 4 KiB later the volume record
 *   1600 KiB  ring of changes in place (64 KiB)
 */
export const ERASE_MARK_OFFSET = 0x800;
export const VOLUME_RECORD_OFFSET = 0x1000;
export const VOLUME_ORIGIN_OFFSET = VOLUME_RECORD_OFFSET + 0x200;
export const GUARD_OFFSET = 0x2000;
export const SLOT_PAGES_OFFSET = 0x20000;
export const SUPERBLOCK_COPY_OFFSET = 0x180000;
export const VOLUME_RECORD_COPY_OFFSET = SUPERBLOCK_COPY_OFFSET + 0x1000;
export const CHANGE_RING_OFFSET = 0x190000;

export const DEFAULT_SLOTS = 63;
/** So that claims end before the detail pages and these before the repair copies. */
export const MAX_SLOTS = 127;

/** Bits of `vr_incompat`. */
export const IncompatFeature = { LAYOUT_2: 1n } as const;
/** `id_version` of the identity line says which layout the volume has. */
export type VolumeLayout = 1 | 2;

export const VolumeRecordStruct = new Struct("famfs_x_volume_record", 512, {
  vr_magic: { at: 0, type: "u64", show: "hex" },
  vr_version: { at: 8, type: "u32" },
  vr_size: { at: 12, type: "u32" },
  vr_incompat: { at: 16, type: "u64", show: "hex" }, // a reader that does not know a bit must refuse the volume
  vr_compat: { at: 24, type: "u64", show: "hex" },
  vr_volume_uuid: { at: 32, type: "bytes", length: 16 },
  vr_superblock_uuid: { at: 48, type: "bytes", length: 16 }, // ts_uuid: differs after a stock reformat
  vr_generation: { at: 64, type: "size" },
  vr_capacity: { at: 72, type: "size" },
  vr_region_length: { at: 80, type: "size" },
  vr_created_sec: { at: 88, type: "ssize" },
  vr_root_uid: { at: 96, type: "u32" },
  vr_root_gid: { at: 100, type: "u32" },
  vr_root_mode: { at: 104, type: "u32" },
  vr_slots: { at: 108, type: "u32" },
  vr_name: { at: 112, type: "text", length: 256 },
  vr_reserved: { at: 368, type: "pad", length: 136 },
  vr_crc: { at: 504, type: "u64", show: "hex" }, // of bytes [0, 504)
});
export const VOLUME_RECORD_MAGIC = 0x316c6f7678666d66n; // "fmfxvol1"

export const VolumeOriginStruct = new Struct("famfs_x_origin", 3072, {
  vo_magic: { at: 0, type: "u64", show: "hex" },
  vo_version: { at: 8, type: "u32" },
  vo_length: { at: 12, type: "u32" }, // bytes of vo_text in use
  vo_volume_uuid: { at: 16, type: "bytes", length: 16 }, // as in the record: otherwise it is a former volume's
  vo_text: { at: 32, type: "bytes", length: 3032 }, // JSON
  vo_crc: { at: 3064, type: "u64", show: "hex" }, // of bytes [0, 3064)
});
export const VOLUME_ORIGIN_MAGIC = 0x3167726f78666d66n; // "fmfxorg1"

export const EraseMarkStruct = new Struct("famfs_x_erase_mark", 64, {
  em_magic: { at: 0, type: "u64", show: "hex" },
  em_version: { at: 8, type: "u32" },
  em_reserved: { at: 12, type: "pad", length: 4 },
  em_volume_uuid: { at: 16, type: "bytes", length: 16 },
  em_generation: { at: 32, type: "size" },
  em_region_length: { at: 40, type: "size" },
  em_begun_sec: { at: 48, type: "ssize" },
  em_crc: { at: 56, type: "u64", show: "hex" }, // of bytes [0, 56)
});
export const ERASE_MARK_MAGIC = 0x3173726578666d66n; // "fmfxers1"
/** `ts_version` in the superblock in front of an erase mark: no volume any more, and yet found where volumes are. */
export const ERASING_SUPERBLOCK_VERSION = 0x6573617265n; // "erase"

export const IdentityStruct = new Struct("famfs_x_identity", 64, {
  id_magic: { at: 0, type: "u64", show: "hex" },
  id_version: { at: 8, type: "u32" },
  id_slots: { at: 12, type: "u32" },
  id_volume_uuid: { at: 16, type: "bytes", length: 16 },
  id_generation: { at: 32, type: "size" },
  id_reserved: { at: 40, type: "pad", length: 16 },
  id_crc: { at: 56, type: "u64", show: "hex" }, // of bytes [0, 56)
});
/** `id_version` is the layout of what lies behind. */
export const IDENTITY_MAGIC = 0x31646978666d6166n; // "famfxid1"

export const ClaimStruct = new Struct("famfs_x_claim", 64, {
  oc_magic: { at: 0, type: "u32", show: "hex" },
  oc_slot: { at: 4, type: "u32" },
  oc_epoch: { at: 8, type: "size" },
  oc_node_hash: { at: 16, type: "bytes", length: 8 },
  oc_nonce: { at: 24, type: "bytes", length: 16 },
  oc_flags: { at: 40, type: "u32", show: "hex" },
  oc_reserved: { at: 44, type: "pad", length: 12 },
  oc_crc: { at: 56, type: "u64", show: "hex" }, // of bytes [0, 56)
});
export const CLAIM_MAGIC = 0x316d6c63; // "clm1"
export const ClaimFlag = { RELEASED: 1 } as const;

export const SlotPageStruct = new Struct("famfs_x_slot_page", 8192, {
  sp_magic: { at: 0, type: "u64", show: "hex" },
  sp_slot: { at: 8, type: "u32" },
  sp_count: { at: 12, type: "u32" },
  sp_epoch: { at: 16, type: "size" },
  sp_filler_index: { at: 24, type: "u64" }, // all ones: none yet
  sp_boot_id: { at: 32, type: "text", length: 64 },
  sp_node_id: { at: 96, type: "text", length: 256 },
  sp_reserved: { at: 352, type: "pad", length: 152 },
  sp_ranges: { at: 504, type: "bytes", length: 7680 }, // 480 of { offset u64, length u64 }
  sp_crc: { at: 8184, type: "u64", show: "hex" }, // of bytes [0, 8184)
});
export const SLOT_PAGE_MAGIC = 0x31746c7378666d66n; // "fmfxslt1"
export const MAX_RESERVED_RANGES = 480;

export const ReservedRangeStruct = new Struct("famfs_x_range", 16, {
  rr_offset: { at: 0, type: "size" },
  rr_length: { at: 8, type: "size" },
});

export const ChangeRingStruct = new Struct("famfs_x_change_ring", 64, {
  cr_magic: { at: 0, type: "u64", show: "hex" },
  cr_version: { at: 8, type: "u32" },
  cr_slots: { at: 12, type: "u32" },
  cr_crc: { at: 16, type: "u64", show: "hex" }, // of bytes [0, 16)
  cr_next: { at: 24, type: "size" }, // outside the crc: how many changes were ever written
  cr_reserved: { at: 32, type: "pad", length: 32 },
});
export const CHANGE_RING_MAGIC = 0x31676e7278666d66n; // "fmfxrng1"
export const CHANGE_RING_SLOTS = 1023;
export const CHANGE_RING_SIZE = 64 + CHANGE_RING_SLOTS * 64;

export const ChangeStruct = new Struct("famfs_x_change", 64, {
  ch_sequence: { at: 0, type: "size" },
  ch_epoch: { at: 8, type: "size" },
  ch_file: { at: 16, type: "size" }, // index of the file's entry
  ch_generation: { at: 24, type: "size" }, // grows with each change of this file
  ch_mtime_sec: { at: 32, type: "ssize" },
  ch_mtime_nsec: { at: 40, type: "u32" },
  ch_reserved: { at: 44, type: "pad", length: 12 },
  ch_crc: { at: 56, type: "u64", show: "hex" }, // of bytes [0, 56)
});

/*
 * Layout 2 (owner-layout.ts says where each is).
 */

export const ClaimLineStruct = new Struct("famfs_x_claim_line", 64, {
  cl_magic: { at: 0, type: "u32", show: "hex" },
  cl_slot: { at: 4, type: "u32" },
  cl_order: { at: 8, type: "size" },
  cl_round: { at: 16, type: "size" },
  cl_nonce: { at: 24, type: "bytes", length: 16 },
  cl_flags: { at: 40, type: "u32", show: "hex" },
  cl_successor: { at: 44, type: "u32" }, // a slot; all ones: none
  cl_ask: { at: 48, type: "size" }, // number of the successor's ask
  cl_crc: { at: 56, type: "u64", show: "hex" }, // of bytes [0, 56)
});
export const CLAIM_LINE_MAGIC = 0x326d6c63; // "clm2"

export const PlaceLineStruct = new Struct("famfs_x_place_line", 64, {
  pl_magic: { at: 0, type: "u32", show: "hex" },
  pl_slot: { at: 4, type: "u32" },
  pl_order: { at: 8, type: "size" },
  pl_round: { at: 16, type: "size" },
  pl_sequence: { at: 24, type: "size" },
  pl_log_unit: { at: 32, type: "u32" }, // where the log begins, in units of 2 MiB
  pl_doubt_slot: { at: 36, type: "u32" },
  pl_log_generation: { at: 40, type: "size" },
  pl_doubt_round: { at: 48, type: "size" },
  pl_crc: { at: 56, type: "u64", show: "hex" }, // of bytes [0, 56)
});
export const PLACE_LINE_MAGIC = 0x31636c70; // "plc1"

export const AckLineStruct = new Struct("famfs_x_ack_line", 64, {
  ak_magic: { at: 0, type: "u32", show: "hex" },
  ak_slot: { at: 4, type: "u32" },
  ak_incarnation: { at: 8, type: "bytes", length: 8 },
  ak_state: { at: 16, type: "u16" },
  ak_version: { at: 18, type: "u16" },
  ak_ballot_slot: { at: 20, type: "u32" },
  ak_ballot_order: { at: 24, type: "size" },
  ak_ballot_round: { at: 32, type: "size" },
  ak_position: { at: 40, type: "size" },
  ak_hold_floor: { at: 48, type: "u64" }, // all ones: holds nothing that its page does not list
  ak_crc: { at: 56, type: "u64", show: "hex" }, // of bytes [0, 56)
});
export const ACK_LINE_MAGIC = 0x316b6361; // "ack1"

export const DetailPageStruct = new Struct("famfs_x_detail_page", 4096, {
  dp_magic: { at: 0, type: "u64", show: "hex" },
  dp_slot: { at: 8, type: "u32" },
  dp_range_count: { at: 12, type: "u32" },
  dp_order: { at: 16, type: "size" },
  dp_round: { at: 24, type: "size" },
  dp_filler_index: { at: 32, type: "u64" }, // all ones: none
  dp_held_count: { at: 40, type: "u32" },
  dp_struck_count: { at: 44, type: "u32" },
  dp_boot_id: { at: 48, type: "text", length: 64 },
  dp_node_uid: { at: 112, type: "text", length: 64 },
  dp_node_id: { at: 176, type: "text", length: 256 },
  dp_reserved: { at: 432, type: "pad", length: 80 },
  dp_ranges: { at: 512, type: "bytes", length: 2048 }, // 128 of famfs_x_range
  dp_held: { at: 2560, type: "bytes", length: 768 }, // 96 indexes of log entries
  dp_struck: { at: 3328, type: "bytes", length: 752 }, // 94 incarnations of 8 bytes
  dp_reserved1: { at: 4080, type: "pad", length: 8 },
  dp_crc: { at: 4088, type: "u64", show: "hex" }, // of bytes [0, 4088)
});
export const DETAIL_PAGE_MAGIC = 0x32746c7378666d66n; // "fmfxslt2"
export const MAX_DETAIL_RANGES = 128;
export const MAX_HELD = 96;
export const MAX_STRUCK = 94;

export const OwnerRingStruct = new Struct("famfs_x_owner_ring", 64, {
  or_magic: { at: 0, type: "u64", show: "hex" },
  or_slot: { at: 8, type: "u32" },
  or_changes: { at: 12, type: "u32" },
  or_order: { at: 16, type: "size" },
  or_round: { at: 24, type: "size" },
  or_crc: { at: 32, type: "u64", show: "hex" }, // of bytes [0, 32)
  or_next: { at: 40, type: "size" }, // outside the crc: number of the next change
  or_reserved: { at: 48, type: "pad", length: 16 },
});
export const OWNER_RING_MAGIC = 0x32676e7278666d66n; // "fmfxrng2"

export const SizeCellStruct = new Struct("famfs_x_size_cell", 64, {
  sc_magic: { at: 0, type: "u32", show: "hex" },
  sc_slot: { at: 4, type: "u32" },
  sc_order: { at: 8, type: "size" },
  sc_round: { at: 16, type: "size" },
  sc_file: { at: 24, type: "size" }, // index of the file's entry
  sc_size: { at: 32, type: "size" },
  sc_mtime_sec: { at: 40, type: "ssize" },
  sc_mtime_nsec: { at: 48, type: "u32" },
  sc_sequence: { at: 52, type: "u32" },
  sc_crc: { at: 56, type: "u64", show: "hex" }, // of bytes [0, 56)
});
export const SIZE_CELL_MAGIC = 0x317a6973; // "siz1"

export const DamageLineStruct = new Struct("famfs_x_damage_line", 64, {
  dm_magic: { at: 0, type: "u32", show: "hex" },
  dm_slot: { at: 4, type: "u32" },
  dm_order: { at: 8, type: "size" },
  dm_round: { at: 16, type: "size" },
  dm_file: { at: 24, type: "size" }, // index of the file's entry
  dm_offset: { at: 32, type: "size" }, // in the file
  dm_length: { at: 40, type: "size" },
  dm_sequence: { at: 48, type: "size" }, // from 1; entry n is in line n mod 16
  dm_crc: { at: 56, type: "u64", show: "hex" }, // of bytes [0, 56)
});
export const DAMAGE_LINE_MAGIC = 0x31676d64; // "dmg1"

/** At LABEL_RECORD_OFFSET of a managed device, behind a superblock of a version that no stock tool accepts. */
export const DeviceLabelStruct = new Struct("famfs_x_device_label", 512, {
  dl_magic: { at: 0, type: "u64", show: "hex" },
  dl_version: { at: 8, type: "u32" },
  dl_size: { at: 12, type: "u32" },
  dl_uuid: { at: 16, type: "bytes", length: 16 },
  dl_device_size: { at: 32, type: "size" },
  dl_label_length: { at: 40, type: "size" },
  dl_incarnation: { at: 48, type: "size" },
  dl_created_sec: { at: 56, type: "ssize" },
  dl_pool: { at: 64, type: "text", length: 64 },
  dl_reserved: { at: 128, type: "pad", length: 376 },
  dl_crc: { at: 504, type: "u64", show: "hex" }, // of bytes [0, 504)
});
/** Beside the label: how new the store's record of the device was when a node last looked. */
export const StoreMarkStruct = new Struct("famfs_x_store_mark", 64, {
  sm_magic: { at: 0, type: "u64", show: "hex" },
  sm_version: { at: 8, type: "u32" },
  sm_reserved0: { at: 12, type: "pad", length: 4 },
  sm_revision: { at: 16, type: "size" },
  sm_reserved: { at: 24, type: "pad", length: 32 },
  sm_crc: { at: 56, type: "u64", show: "hex" }, // of bytes [0, 56)
});
export const STORE_MARK_MAGIC = 0x3174737378666d66n; // "fmfxsst1"
export const STORE_MARK_OFFSET = 0x2000;
export const LABEL_MAGIC = 0x316c6c78666d6166n; // "famfxll1"
export const LABEL_RECORD_OFFSET = 0x1000;
/** The label's share of a device; regions begin after it. */
export const LABEL_LENGTH = 0x200000;
/** `ts_version` in the superblock of a label: stock mkfs.famfs finds "another version" and refuses without force. */
export const LABEL_SUPERBLOCK_VERSION = 0x6c6562616cn; // "label"
