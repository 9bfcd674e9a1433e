/** The opcode table: one row drives parsing, checks and debug print (fuse II.3, II.5). */
import type { Struct } from "../base/index.ts";
import * as wire from "./wire.ts";

// biome-ignore lint/suspicious/noExplicitAny: a table of differing structs; readers take name, size and show only
type AnyStruct = Struct<any>;

export interface OpcodeRow {
  readonly opcode: number;
  /** The fixed part of the request, if any; more bytes than that are allowed only with names or data. */
  readonly in: AnyStruct | undefined;
  /** NUL-terminated names after the fixed part; at least one byte each. */
  readonly names: 0 | 1 | 2;
  /** Bytes after fixed part and names. */
  readonly data: boolean;
  /** What a successful answer carries: nothing, a structure of exactly that size, or as many bytes as there are. */
  readonly reply: "never" | "empty" | "bytes" | AnyStruct;
}

function row(opcode: number, fixed: AnyStruct | undefined, reply: OpcodeRow["reply"], more?: Partial<OpcodeRow>) {
  return { opcode, in: fixed, names: 0, data: false, reply, ...more } as OpcodeRow;
}

const named = { names: 1 } as const;

export const OPCODES = {
  LOOKUP: row(1, undefined, wire.EntryOut, named),
  // Lookup counts are lost in a crash: names stay what they are, only what was removed and still held is stale then.
  FORGET: row(2, wire.ForgetIn, "never"),
  GETATTR: row(3, wire.GetattrIn, wire.AttrOut),
  SETATTR: row(4, wire.SetattrIn, wire.AttrOut),
  READLINK: row(5, undefined, "bytes"),
  SYMLINK: row(6, undefined, wire.EntryOut, { names: 2 }),
  MKNOD: row(8, wire.MknodIn, wire.EntryOut, named),
  MKDIR: row(9, wire.MkdirIn, wire.EntryOut, named),
  UNLINK: row(10, undefined, "empty", named),
  RMDIR: row(11, undefined, "empty", named),
  RENAME: row(12, wire.RenameIn, "empty", { names: 2 }),
  LINK: row(13, wire.LinkIn, wire.EntryOut, named),
  OPEN: row(14, wire.OpenIn, wire.OpenOut),
  READ: row(15, wire.ReadIn, "bytes"),
  WRITE: row(16, wire.WriteIn, wire.WriteOut, { data: true }),
  STATFS: row(17, undefined, wire.StatfsOut),
  RELEASE: row(18, wire.ReleaseIn, "empty"),
  FSYNC: row(20, wire.FsyncIn, "empty"),
  SETXATTR: row(21, wire.SetxattrIn, "empty", { names: 1, data: true }),
  GETXATTR: row(22, wire.GetxattrIn, "bytes", named),
  LISTXATTR: row(23, wire.GetxattrIn, "bytes"),
  REMOVEXATTR: row(24, undefined, "empty", named),
  FLUSH: row(25, wire.FlushIn, "empty"),
  // Its length grew with the protocol: 16 bytes below minor 36.
  INIT: row(26, undefined, wire.InitOut, { data: true }),
  OPENDIR: row(27, wire.OpenIn, wire.OpenOut),
  READDIR: row(28, wire.ReadIn, "bytes"),
  RELEASEDIR: row(29, wire.ReleaseIn, "empty"),
  FSYNCDIR: row(30, wire.FsyncIn, "empty"),
  GETLK: row(31, wire.LkIn, "empty"),
  SETLK: row(32, wire.LkIn, "empty"),
  SETLKW: row(33, wire.LkIn, "empty"),
  ACCESS: row(34, wire.AccessIn, "empty"),
  // The answer is fuse_entry_out followed by fuse_open_out.
  CREATE: row(35, wire.CreateIn, "bytes", named),
  INTERRUPT: row(36, wire.InterruptIn, "never"),
  BMAP: row(37, wire.BmapIn, "empty"),
  DESTROY: row(38, undefined, "empty"),
  IOCTL: row(39, wire.IoctlIn, "empty", { data: true }),
  POLL: row(40, wire.PollIn, "empty"),
  NOTIFY_REPLY: row(41, undefined, "never", { data: true }),
  BATCH_FORGET: row(42, wire.BatchForgetIn, "never", { data: true }),
  FALLOCATE: row(43, wire.FallocateIn, "empty"),
  READDIRPLUS: row(44, wire.ReadIn, "bytes"),
  RENAME2: row(45, wire.Rename2In, "empty", { names: 2 }),
  LSEEK: row(46, wire.LseekIn, wire.LseekOut),
  COPY_FILE_RANGE: row(47, wire.CopyFileRangeIn, "empty"),
  SETUPMAPPING: row(48, undefined, "empty", { data: true }),
  REMOVEMAPPING: row(49, undefined, "empty", { data: true }),
  SYNCFS: row(50, wire.SyncfsIn, "empty"),
  TMPFILE: row(51, wire.CreateIn, "empty", named),
  STATX: row(52, wire.StatxIn, "empty"),
  COPY_FILE_RANGE_64: row(53, wire.CopyFileRangeIn, "empty"),
} as const satisfies Record<string, OpcodeRow>;

export type Opcode = keyof typeof OPCODES;

/** Rows by number; holes are opcodes nobody knows. */
export const OPCODE_NAMES: readonly (Opcode | undefined)[] = Object.entries(OPCODES).reduce<(Opcode | undefined)[]>(
  (names, [name, { opcode }]) => {
    names[opcode] = name as Opcode;
    return names;
  },
  new Array<Opcode | undefined>(Math.max(...Object.values(OPCODES).map((entry) => entry.opcode)) + 1).fill(undefined),
);
