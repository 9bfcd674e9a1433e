/*
 * The structures as a C compiler lays them out: the stock ones written down from the format (section 3), ours from
 * docs/format-extensions.md. structs.test.ts compares sizeof and offsetof with the tables.
 */
#include <stddef.h>
#include <stdint.h>

struct famfs_daxdev {
  size_t dd_size;
  uint8_t dd_uuid[16];
  char dd_daxdev[64];
};

struct famfs_superblock {
  uint64_t ts_magic, ts_version, ts_log_offset, ts_log_len, ts_alloc_unit;
  uint32_t ts_omf_ver_major, ts_omf_ver_minor;
  uint8_t ts_uuid[16], ts_dev_uuid[16], ts_system_uuid[16];
  uint64_t ts_crc;
  uint32_t ts_sb_flags;
  struct famfs_daxdev ts_daxdev;
};

struct famfs_simple_extent {
  uint64_t se_devindex, se_offset, se_len;
};

struct famfs_interleaved_ext {
  uint64_t ie_nstrips, ie_chunk_size;
  struct famfs_simple_extent ie_strips[16];
};

struct famfs_log_fmap {
  uint32_t fmap_ext_type;
  union {
    struct {
      uint64_t align_nextents[0];
      uint32_t fmap_nextents;
      struct famfs_simple_extent se[16];
    };
    struct {
      uint64_t align_niext[0];
      uint32_t fmap_niext;
      struct famfs_interleaved_ext ie[1];
    };
  };
};

struct famfs_log_file_meta {
  uint64_t fm_size;
  uint32_t fm_flags, fm_uid, fm_gid, fm_mode;
  char fm_relpath[80];
  struct famfs_log_fmap fm_fmap;
};

struct famfs_log_mkdir {
  uint32_t md_uid, md_gid, md_mode;
  char md_relpath[80];
};

struct famfs_log_add_daxdev {
  uint64_t dd_size;
  uint8_t dd_uuid[16];
  uint32_t dd_index;
};

struct famfs_log_entry {
  uint64_t famfs_log_entry_seqnum;
  uint32_t famfs_log_entry_type;
  union {
    struct famfs_log_file_meta file_meta;
    struct famfs_log_mkdir mkdir;
    struct famfs_log_add_daxdev add_daxdev;
  } payload;
  uint64_t famfs_log_entry_crc;
};

struct famfs_log {
  uint64_t famfs_log_magic, famfs_log_len, famfs_log_last_index, famfs_log_crc;
  uint64_t famfs_log_next_seqnum, famfs_log_next_index;
  struct famfs_log_entry entries[];
};

/* Extensions. */

struct famfs_x_trailer {
  uint32_t xt_magic, xt_mtime_nsec;
  int64_t xt_mtime_sec;
  uint64_t xt_reserved;
};

struct famfs_x_placement {
  uint32_t xp_version, xp_flags;
  uint64_t xp_target, xp_parent;
  uint32_t xp_mode, xp_uid, xp_gid, xp_mtime_nsec;
  int64_t xp_mtime_sec;
  uint32_t xp_name_len, xp_symlink_len;
  char xp_heap[464];
};

struct famfs_x_filler {
  uint32_t xf_version, xf_flags;
  uint64_t xf_epoch;
  uint8_t xf_node_hash[8];
  uint64_t xf_first;
  uint32_t xf_run;
  uint8_t xf_reserved[484];
};

struct famfs_x_volume_record {
  uint64_t vr_magic;
  uint32_t vr_version, vr_size;
  uint64_t vr_incompat, vr_compat;
  uint8_t vr_volume_uuid[16], vr_superblock_uuid[16];
  uint64_t vr_generation, vr_capacity, vr_region_length;
  int64_t vr_created_sec;
  uint32_t vr_root_uid, vr_root_gid, vr_root_mode, vr_slots;
  char vr_name[256];
  uint8_t vr_reserved[136];
  uint64_t vr_crc;
};

struct famfs_x_origin {
  uint64_t vo_magic;
  uint32_t vo_version, vo_length;
  uint8_t vo_volume_uuid[16], vo_text[3032];
  uint64_t vo_crc;
};

struct famfs_x_identity {
  uint64_t id_magic;
  uint32_t id_version, id_slots;
  uint8_t id_volume_uuid[16];
  uint64_t id_generation;
  uint8_t id_reserved[16];
  uint64_t id_crc;
};

struct famfs_x_claim {
  uint32_t oc_magic, oc_slot;
  uint64_t oc_epoch;
  uint8_t oc_node_hash[8], oc_nonce[16];
  uint32_t oc_flags;
  uint8_t oc_reserved[12];
  uint64_t oc_crc;
};

struct famfs_x_range {
  uint64_t rr_offset, rr_length;
};

struct famfs_x_slot_page {
  uint64_t sp_magic;
  uint32_t sp_slot, sp_count;
  uint64_t sp_epoch, sp_filler_index;
  char sp_boot_id[64], sp_node_id[256];
  uint8_t sp_reserved[152];
  struct famfs_x_range sp_ranges[480];
  uint64_t sp_crc;
};

struct famfs_x_change_ring {
  uint64_t cr_magic;
  uint32_t cr_version, cr_slots;
  uint64_t cr_crc, cr_next;
  uint8_t cr_reserved[32];
};

struct famfs_x_change {
  uint64_t ch_sequence, ch_epoch, ch_file, ch_generation;
  int64_t ch_mtime_sec;
  uint32_t ch_mtime_nsec;
  uint8_t ch_reserved[12];
  uint64_t ch_crc;
};

struct famfs_x_erase_mark {
  uint64_t em_magic;
  uint32_t em_version;
  uint8_t em_reserved[4];
  uint8_t em_volume_uuid[16];
  uint64_t em_generation, em_region_length;
  int64_t em_begun_sec;
  uint64_t em_crc;
};

struct famfs_x_claim_line {
  uint32_t cl_magic, cl_slot;
  uint64_t cl_order, cl_round;
  uint8_t cl_nonce[16];
  uint32_t cl_flags, cl_successor;
  uint64_t cl_ask, cl_crc;
};

struct famfs_x_place_line {
  uint32_t pl_magic, pl_slot;
  uint64_t pl_order, pl_round, pl_sequence;
  uint32_t pl_log_unit, pl_doubt_slot;
  uint64_t pl_log_generation, pl_doubt_round, pl_crc;
};

struct famfs_x_ack_line {
  uint32_t ak_magic, ak_slot;
  uint8_t ak_incarnation[8];
  uint16_t ak_state, ak_version;
  uint32_t ak_ballot_slot;
  uint64_t ak_ballot_order, ak_ballot_round, ak_position, ak_hold_floor, ak_crc;
};

struct famfs_x_detail_page {
  uint64_t dp_magic;
  uint32_t dp_slot, dp_range_count;
  uint64_t dp_order, dp_round, dp_filler_index;
  uint32_t dp_held_count, dp_struck_count;
  char dp_boot_id[64], dp_node_uid[64], dp_node_id[256];
  uint8_t dp_reserved[80];
  struct famfs_x_range dp_ranges[128];
  uint64_t dp_held[96];
  uint8_t dp_struck[752], dp_reserved1[8];
  uint64_t dp_crc;
};

struct famfs_x_owner_ring {
  uint64_t or_magic;
  uint32_t or_slot, or_changes;
  uint64_t or_order, or_round, or_crc, or_next;
  uint8_t or_reserved[16];
};

struct famfs_x_size_cell {
  uint32_t sc_magic, sc_slot;
  uint64_t sc_order, sc_round, sc_file, sc_size;
  int64_t sc_mtime_sec;
  uint32_t sc_mtime_nsec, sc_sequence;
  uint64_t sc_crc;
};

struct famfs_x_damage_line {
  uint32_t dm_magic, dm_slot;
  uint64_t dm_order, dm_round, dm_file, dm_offset, dm_length, dm_sequence, dm_crc;
};

struct famfs_x_store_mark {
  uint64_t sm_magic;
  uint32_t sm_version;
  uint8_t sm_reserved0[4];
  uint64_t sm_revision;
  uint8_t sm_reserved[32];
  uint64_t sm_crc;
};

struct famfs_x_device_label {
  uint64_t dl_magic;
  uint32_t dl_version, dl_size;
  uint8_t dl_uuid[16];
  uint64_t dl_device_size, dl_label_length, dl_incarnation;
  int64_t dl_created_sec;
  char dl_pool[64];
  uint8_t dl_reserved[376];
  uint64_t dl_crc;
};
