/**
 * Structures of the FUSE protocol (fuse II.5), with the names of <linux/fuse.h>. Compared with the system's header by
 * `wire.test.ts`. The request path reads fields at `offsets`; `decode` serves tests and debug print.
 */
import { Struct } from "../base/index.ts";

export const InHeader = new Struct("fuse_in_header", 40, {
  len: { at: 0, type: "u32" },
  opcode: { at: 4, type: "u32" },
  unique: { at: 8, type: "u64" },
  nodeid: { at: 16, type: "u64" },
  uid: { at: 24, type: "u32" },
  gid: { at: 28, type: "u32" },
  pid: { at: 32, type: "u32" },
  total_extlen: { at: 36, type: "u16" },
  padding: { at: 38, type: "pad", length: 2 },
});

export const OutHeader = new Struct("fuse_out_header", 16, {
  len: { at: 0, type: "u32" },
  error: { at: 4, type: "s32" },
  unique: { at: 8, type: "u64" },
});

export const InitIn = new Struct("fuse_init_in", 64, {
  major: { at: 0, type: "u32" },
  minor: { at: 4, type: "u32" },
  max_readahead: { at: 8, type: "u32" },
  flags: { at: 12, type: "u32", show: "hex" },
  flags2: { at: 16, type: "u32", show: "hex" },
  unused: { at: 20, type: "pad", length: 44 },
});

export const InitOut = new Struct("fuse_init_out", 64, {
  major: { at: 0, type: "u32" },
  minor: { at: 4, type: "u32" },
  max_readahead: { at: 8, type: "u32" },
  flags: { at: 12, type: "u32", show: "hex" },
  max_background: { at: 16, type: "u16" },
  congestion_threshold: { at: 18, type: "u16" },
  max_write: { at: 20, type: "u32" },
  time_gran: { at: 24, type: "u32" },
  max_pages: { at: 28, type: "u16" },
  map_alignment: { at: 30, type: "u16" },
  flags2: { at: 32, type: "u32", show: "hex" },
  max_stack_depth: { at: 36, type: "u32" },
  request_timeout: { at: 40, type: "u16" },
  unused: { at: 42, type: "pad", length: 22 },
});

export const Attr = new Struct("fuse_attr", 88, {
  ino: { at: 0, type: "u64" },
  size: { at: 8, type: "u64" },
  blocks: { at: 16, type: "u64" },
  atime: { at: 24, type: "u64" },
  mtime: { at: 32, type: "u64" },
  ctime: { at: 40, type: "u64" },
  atimensec: { at: 48, type: "u32" },
  mtimensec: { at: 52, type: "u32" },
  ctimensec: { at: 56, type: "u32" },
  mode: { at: 60, type: "u32" },
  nlink: { at: 64, type: "u32" },
  uid: { at: 68, type: "u32" },
  gid: { at: 72, type: "u32" },
  rdev: { at: 76, type: "u32" },
  blksize: { at: 80, type: "u32" },
  flags: { at: 84, type: "u32", show: "hex" },
});

export const EntryOut = new Struct("fuse_entry_out", 128, {
  nodeid: { at: 0, type: "u64" },
  generation: { at: 8, type: "u64" },
  entry_valid: { at: 16, type: "u64" },
  attr_valid: { at: 24, type: "u64" },
  entry_valid_nsec: { at: 32, type: "u32" },
  attr_valid_nsec: { at: 36, type: "u32" },
  attr: { at: 40, type: "bytes", length: 88 },
});

export const AttrOut = new Struct("fuse_attr_out", 104, {
  attr_valid: { at: 0, type: "u64" },
  attr_valid_nsec: { at: 8, type: "u32" },
  dummy: { at: 12, type: "pad", length: 4 },
  attr: { at: 16, type: "bytes", length: 88 },
});

export const GetattrIn = new Struct("fuse_getattr_in", 16, {
  getattr_flags: { at: 0, type: "u32", show: "hex" },
  dummy: { at: 4, type: "pad", length: 4 },
  fh: { at: 8, type: "u64" },
});

export const SetattrIn = new Struct("fuse_setattr_in", 88, {
  valid: { at: 0, type: "u32", show: "hex" },
  padding: { at: 4, type: "pad", length: 4 },
  fh: { at: 8, type: "u64" },
  size: { at: 16, type: "u64" },
  lock_owner: { at: 24, type: "u64" },
  atime: { at: 32, type: "u64" },
  mtime: { at: 40, type: "u64" },
  ctime: { at: 48, type: "u64" },
  atimensec: { at: 56, type: "u32" },
  mtimensec: { at: 60, type: "u32" },
  ctimensec: { at: 64, type: "u32" },
  mode: { at: 68, type: "u32" },
  unused4: { at: 72, type: "pad", length: 4 },
  uid: { at: 76, type: "u32" },
  gid: { at: 80, type: "u32" },
  unused5: { at: 84, type: "pad", length: 4 },
});

export const ForgetIn = new Struct("fuse_forget_in", 8, {
  nlookup: { at: 0, type: "u64" },
});

/** Followed by `count` times fuse_forget_one. */
export const BatchForgetIn = new Struct("fuse_batch_forget_in", 8, {
  count: { at: 0, type: "u32" },
  dummy: { at: 4, type: "pad", length: 4 },
});

export const ForgetOne = new Struct("fuse_forget_one", 16, {
  nodeid: { at: 0, type: "u64" },
  nlookup: { at: 8, type: "u64" },
});

export const OpenIn = new Struct("fuse_open_in", 8, {
  flags: { at: 0, type: "u32", show: "hex" },
  open_flags: { at: 4, type: "u32", show: "hex" },
});

export const OpenOut = new Struct("fuse_open_out", 16, {
  fh: { at: 0, type: "u64" },
  open_flags: { at: 8, type: "u32", show: "hex" },
  backing_id: { at: 12, type: "s32" },
});

/** Followed by the name; answered with fuse_entry_out and fuse_open_out. */
export const CreateIn = new Struct("fuse_create_in", 16, {
  flags: { at: 0, type: "u32", show: "hex" },
  mode: { at: 4, type: "u32" },
  umask: { at: 8, type: "u32" },
  open_flags: { at: 12, type: "u32", show: "hex" },
});

export const MknodIn = new Struct("fuse_mknod_in", 16, {
  mode: { at: 0, type: "u32" },
  rdev: { at: 4, type: "u32" },
  umask: { at: 8, type: "u32" },
  padding: { at: 12, type: "pad", length: 4 },
});

export const MkdirIn = new Struct("fuse_mkdir_in", 8, {
  mode: { at: 0, type: "u32" },
  umask: { at: 4, type: "u32" },
});

export const RenameIn = new Struct("fuse_rename_in", 8, {
  newdir: { at: 0, type: "u64" },
});

export const Rename2In = new Struct("fuse_rename2_in", 16, {
  newdir: { at: 0, type: "u64" },
  flags: { at: 8, type: "u32", show: "hex" },
  padding: { at: 12, type: "pad", length: 4 },
});

export const LinkIn = new Struct("fuse_link_in", 8, {
  oldnodeid: { at: 0, type: "u64" },
});

export const ReadIn = new Struct("fuse_read_in", 40, {
  fh: { at: 0, type: "u64" },
  offset: { at: 8, type: "u64" },
  size: { at: 16, type: "u32" },
  read_flags: { at: 20, type: "u32", show: "hex" },
  lock_owner: { at: 24, type: "u64" },
  flags: { at: 32, type: "u32", show: "hex" },
  padding: { at: 36, type: "pad", length: 4 },
});

export const WriteIn = new Struct("fuse_write_in", 40, {
  fh: { at: 0, type: "u64" },
  offset: { at: 8, type: "u64" },
  size: { at: 16, type: "u32" },
  write_flags: { at: 20, type: "u32", show: "hex" },
  lock_owner: { at: 24, type: "u64" },
  flags: { at: 32, type: "u32", show: "hex" },
  padding: { at: 36, type: "pad", length: 4 },
});

export const WriteOut = new Struct("fuse_write_out", 8, {
  size: { at: 0, type: "u32" },
  padding: { at: 4, type: "pad", length: 4 },
});

export const ReleaseIn = new Struct("fuse_release_in", 24, {
  fh: { at: 0, type: "u64" },
  flags: { at: 8, type: "u32", show: "hex" },
  release_flags: { at: 12, type: "u32", show: "hex" },
  lock_owner: { at: 16, type: "u64" },
});

export const FlushIn = new Struct("fuse_flush_in", 24, {
  fh: { at: 0, type: "u64" },
  unused: { at: 8, type: "pad", length: 4 },
  padding: { at: 12, type: "pad", length: 4 },
  lock_owner: { at: 16, type: "u64" },
});

export const FsyncIn = new Struct("fuse_fsync_in", 16, {
  fh: { at: 0, type: "u64" },
  fsync_flags: { at: 8, type: "u32", show: "hex" },
  padding: { at: 12, type: "pad", length: 4 },
});

export const AccessIn = new Struct("fuse_access_in", 8, {
  mask: { at: 0, type: "u32" },
  padding: { at: 4, type: "pad", length: 4 },
});

/** SETXATTR_EXT is not negotiated, so the kernel sends the first 8 bytes only. */
export const SetxattrIn = new Struct("fuse_setxattr_in", 8, {
  size: { at: 0, type: "u32" },
  flags: { at: 4, type: "u32", show: "hex" },
});

export const GetxattrIn = new Struct("fuse_getxattr_in", 8, {
  size: { at: 0, type: "u32" },
  padding: { at: 4, type: "pad", length: 4 },
});

export const GetxattrOut = new Struct("fuse_getxattr_out", 8, {
  size: { at: 0, type: "u32" },
  padding: { at: 4, type: "pad", length: 4 },
});

export const StatfsOut = new Struct("fuse_statfs_out", 80, {
  blocks: { at: 0, type: "u64" },
  bfree: { at: 8, type: "u64" },
  bavail: { at: 16, type: "u64" },
  files: { at: 24, type: "u64" },
  ffree: { at: 32, type: "u64" },
  bsize: { at: 40, type: "u32" },
  namelen: { at: 44, type: "u32" },
  frsize: { at: 48, type: "u32" },
  padding: { at: 52, type: "pad", length: 4 },
  spare: { at: 56, type: "pad", length: 24 },
});

/** fuse_file_lock (start, end, type, pid) is written out. */
export const LkIn = new Struct("fuse_lk_in", 48, {
  fh: { at: 0, type: "u64" },
  owner: { at: 8, type: "u64" },
  start: { at: 16, type: "u64" },
  end: { at: 24, type: "u64" },
  type: { at: 32, type: "u32" },
  pid: { at: 36, type: "u32" },
  lk_flags: { at: 40, type: "u32", show: "hex" },
  padding: { at: 44, type: "pad", length: 4 },
});

export const FallocateIn = new Struct("fuse_fallocate_in", 32, {
  fh: { at: 0, type: "u64" },
  offset: { at: 8, type: "u64" },
  length: { at: 16, type: "u64" },
  mode: { at: 24, type: "u32", show: "hex" },
  padding: { at: 28, type: "pad", length: 4 },
});

export const LseekIn = new Struct("fuse_lseek_in", 24, {
  fh: { at: 0, type: "u64" },
  offset: { at: 8, type: "u64" },
  whence: { at: 16, type: "u32" },
  padding: { at: 20, type: "pad", length: 4 },
});

export const LseekOut = new Struct("fuse_lseek_out", 8, {
  offset: { at: 0, type: "u64" },
});

export const CopyFileRangeIn = new Struct("fuse_copy_file_range_in", 56, {
  fh_in: { at: 0, type: "u64" },
  off_in: { at: 8, type: "u64" },
  nodeid_out: { at: 16, type: "u64" },
  fh_out: { at: 24, type: "u64" },
  off_out: { at: 32, type: "u64" },
  len: { at: 40, type: "u64" },
  flags: { at: 48, type: "u64" },
});

export const StatxIn = new Struct("fuse_statx_in", 24, {
  getattr_flags: { at: 0, type: "u32", show: "hex" },
  reserved: { at: 4, type: "pad", length: 4 },
  fh: { at: 8, type: "u64" },
  sx_flags: { at: 16, type: "u32", show: "hex" },
  sx_mask: { at: 20, type: "u32", show: "hex" },
});

export const InterruptIn = new Struct("fuse_interrupt_in", 8, {
  unique: { at: 0, type: "u64" },
});

export const BmapIn = new Struct("fuse_bmap_in", 16, {
  block: { at: 0, type: "u64" },
  blocksize: { at: 8, type: "u32" },
  padding: { at: 12, type: "pad", length: 4 },
});

export const IoctlIn = new Struct("fuse_ioctl_in", 32, {
  fh: { at: 0, type: "u64" },
  flags: { at: 8, type: "u32", show: "hex" },
  cmd: { at: 12, type: "u32", show: "hex" },
  arg: { at: 16, type: "u64" },
  in_size: { at: 24, type: "u32" },
  out_size: { at: 28, type: "u32" },
});

export const PollIn = new Struct("fuse_poll_in", 24, {
  fh: { at: 0, type: "u64" },
  kh: { at: 8, type: "u64" },
  flags: { at: 16, type: "u32", show: "hex" },
  events: { at: 20, type: "u32", show: "hex" },
});

export const SyncfsIn = new Struct("fuse_syncfs_in", 8, {
  padding: { at: 0, type: "pad", length: 8 },
});

/** Followed by the name; records are padded with zeros to 8 bytes. */
export const Dirent = new Struct("fuse_dirent", 24, {
  ino: { at: 0, type: "u64" },
  off: { at: 8, type: "u64" },
  namelen: { at: 16, type: "u32" },
  type: { at: 20, type: "u32" },
});

export const NotifyInvalInodeOut = new Struct("fuse_notify_inval_inode_out", 24, {
  ino: { at: 0, type: "u64" },
  off: { at: 8, type: "ssize" },
  len: { at: 16, type: "ssize" },
});

/** Followed by the name and a NUL, as is notify_delete_out. */
export const NotifyInvalEntryOut = new Struct("fuse_notify_inval_entry_out", 16, {
  parent: { at: 0, type: "u64" },
  namelen: { at: 8, type: "u32" },
  flags: { at: 12, type: "u32", show: "hex" },
});

export const NotifyDeleteOut = new Struct("fuse_notify_delete_out", 24, {
  parent: { at: 0, type: "u64" },
  child: { at: 8, type: "u64" },
  namelen: { at: 16, type: "u32" },
  padding: { at: 20, type: "pad", length: 4 },
});
