import { Struct } from "../base/index.ts";

/*
 * The stock structures, field by field as in the C headers (format 3). Payloads are tables of their own, placed in an
 * entry at PAYLOAD_OFFSET or where EntryLayout says.
 */

export const SuperblockStruct = new Struct("famfs_superblock", 200, {
  ts_magic: { at: 0, type: "u64", show: "hex" },
  ts_version: { at: 8, type: "u64" },
  ts_log_offset: { at: 16, type: "size", show: "hex" },
  ts_log_len: { at: 24, type: "size", show: "hex" },
  ts_alloc_unit: { at: 32, type: "size", show: "hex" },
  ts_omf_ver_major: { at: 40, type: "u32" },
  ts_omf_ver_minor: { at: 44, type: "u32" },
  ts_uuid: { at: 48, type: "bytes", length: 16 },
  ts_dev_uuid: { at: 64, type: "bytes", length: 16 },
  ts_system_uuid: { at: 80, type: "bytes", length: 16 },
  ts_crc: { at: 96, type: "u64", show: "hex" }, // of bytes [0, 96)
  ts_sb_flags: { at: 104, type: "u32", show: "hex" }, // outside the crc, like all that follows
  pad: { at: 108, type: "pad", length: 4 },
  dd_size: { at: 112, type: "size" },
  dd_uuid: { at: 120, type: "bytes", length: 16 },
  dd_daxdev: { at: 136, type: "text", length: 64 },
});

export const LogHeaderStruct = new Struct("famfs_log", 48, {
  famfs_log_magic: { at: 0, type: "u64", show: "hex" },
  famfs_log_len: { at: 8, type: "size", show: "hex" },
  famfs_log_last_index: { at: 16, type: "size" },
  famfs_log_crc: { at: 24, type: "u64", show: "hex" }, // of bytes [0, 24)
  famfs_log_next_seqnum: { at: 32, type: "size" }, // outside the crc
  famfs_log_next_index: { at: 40, type: "size" }, // outside the crc
});

export const LogEntryStruct = new Struct("famfs_log_entry", 544, {
  famfs_log_entry_seqnum: { at: 0, type: "size" },
  famfs_log_entry_type: { at: 8, type: "u32" },
  pad: { at: 12, type: "pad", length: 4 },
  payload: { at: 16, type: "bytes", length: 520 },
  famfs_log_entry_crc: { at: 536, type: "u64", show: "hex" }, // of bytes [0, 536)
});

export const FileMetaStruct = new Struct("famfs_log_file_meta", 520, {
  fm_size: { at: 0, type: "size" },
  fm_flags: { at: 8, type: "u32" },
  fm_uid: { at: 12, type: "u32" },
  fm_gid: { at: 16, type: "u32" },
  fm_mode: { at: 20, type: "u32" },
  fm_relpath: { at: 24, type: "text", length: 80 },
  fm_fmap: { at: 104, type: "bytes", length: 416 },
});

/** `fmap_count` is fmap_nextents (simple) or fmap_niext (interleaved): the same word. */
export const FmapStruct = new Struct("famfs_log_fmap", 416, {
  fmap_ext_type: { at: 0, type: "u32" },
  pad0: { at: 4, type: "pad", length: 4 },
  fmap_count: { at: 8, type: "u32" },
  pad1: { at: 12, type: "pad", length: 4 },
  ext: { at: 16, type: "bytes", length: 400 },
});

export const SimpleExtentStruct = new Struct("famfs_simple_extent", 24, {
  se_devindex: { at: 0, type: "size" },
  se_offset: { at: 8, type: "size", show: "hex" },
  se_len: { at: 16, type: "size", show: "hex" },
});

export const InterleavedExtentStruct = new Struct("famfs_interleaved_ext", 400, {
  ie_nstrips: { at: 0, type: "size" },
  ie_chunk_size: { at: 8, type: "size", show: "hex" },
  ie_strips: { at: 16, type: "bytes", length: 384 },
});

export const MkdirStruct = new Struct("famfs_log_mkdir", 92, {
  md_uid: { at: 0, type: "u32" },
  md_gid: { at: 4, type: "u32" },
  md_mode: { at: 8, type: "u32" },
  md_relpath: { at: 12, type: "text", length: 80 },
});

export const AddDaxdevStruct = new Struct("famfs_log_add_daxdev", 32, {
  dd_size: { at: 0, type: "size" },
  dd_uuid: { at: 8, type: "bytes", length: 16 },
  dd_index: { at: 24, type: "u32" },
  pad: { at: 28, type: "pad", length: 4 },
});

/** Where the payload begins in an entry. */
export const PAYLOAD_OFFSET = LogEntryStruct.offsets.payload;
export const PAYLOAD_SIZE = 520;
export const ENTRY_SIZE = LogEntryStruct.size;
export const ENTRY_CRC_OFFSET = LogEntryStruct.offsets.famfs_log_entry_crc;

/** Slots for simple extents, and for strips. */
export const MAX_EXTENTS = 16;
/** On extended volumes the last slot holds the trailer. */
export const MAX_EXTENTS_EXTENDED = 15;

export const EntryType = { FILE: 0, MKDIR: 1, DELETE: 2, ADD_DAXDEV: 3, INVALID: 4 } as const;
export const ExtentType = { SIMPLE: 0, INTERLEAVE: 1 } as const;

export const SUPERBLOCK_MAGIC = 0x87b282ffn;
export const SUPERBLOCK_VERSION = 48n;
export const LOG_MAGIC = 0xbadcafef00dn;
export const OMF_MAJOR = 2;
export const OMF_MINOR = 2;
/** Superblock region, and where every log begins. */
export const LOG_OFFSET = 0x200000;
export const MIN_LOG_LENGTH = 0x800000;
export const FILE_FLAGS_ALL_HOSTS_RW = 2;
/** Bytes of a path that stock tools of every mode accept (format 6.1). */
export const MAX_DIRECT_PATH = 78;
