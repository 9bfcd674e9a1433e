import { FamfsError } from "../base/index.ts";
import { INIT_BIT, type InitFlag } from "./flags.ts";
import { InitIn, InitOut } from "./wire.ts";

/** What was agreed with the kernel at INIT. Plain data: a successor of this process is given it. */
export interface KernelFacts {
  readonly major: number;
  readonly minor: number;
  readonly offered: readonly InitFlag[];
  readonly granted: readonly InitFlag[];
  readonly maxWrite: number;
}

/** Requests of 1 MiB: 256 pages (fuse II.2 MAX_PAGES). */
export const MAX_WRITE = 1 << 20;
const PAGE = 4096;

/** 7.31 (Linux 5.4) is the oldest kernel we serve; it has all of WANTED that has no "when offered" reason. */
const OLDEST_MINOR = 31;
/** The protocol this code was written against (fuse II). */
const OUR_MINOR = 46;

/**
 * What we ask for when it is offered, and why. Not asked for:
 * - WRITEBACK_CACHE: the kernel would own sizes and times, and dirty pages would outlive a hand-over.
 * - POSIX_LOCKS, FLOCK_LOCKS: locks are the kernel's own, per node (design 6).
 * - EXPORT_SUPPORT: file handles then need LOOKUP of "." for evicted nodeids; without it they are stale after
 *   eviction, which open_by_handle_at users must expect. NO_EXPORT_SUPPORT would take them from fanotify as well.
 * - NO_OPEN_SUPPORT, NO_OPENDIR_SUPPORT: opens decide how a file is answered; directories are answered by OPENDIR
 *   only to say that their pages may be cached.
 * - AUTO_INVAL_DATA: a changed mtime alone would drop pages that are still right.
 * - SPLICE_*: replies come by writev from the mapping, one copy as well.
 * - SETXATTR_EXT, SECURITY_CTX, CREATE_SUPP_GROUP, POSIX_ACL: extended attributes are not kept.
 * - Bits 42 and 43: mainline and famfs kernels mean different things by them (fuse I.8).
 */
const WANTED: readonly InitFlag[] = [
  "ASYNC_READ", // several readahead requests of one file at once
  "ATOMIC_O_TRUNC", // O_TRUNC replaces a sealed file: it must not arrive as a size change
  "BIG_WRITES",
  "DO_READDIRPLUS",
  "READDIRPLUS_AUTO", // plain READDIR where nobody looks at the attributes
  "ASYNC_DIO",
  "PARALLEL_DIROPS", // lookups of one directory need not queue behind each other
  "ABORT_ERROR", // tells an aborted connection from an unmounted one
  "MAX_PAGES",
  "CACHE_SYMLINKS", // a symlink's target never changes under its nodeid
  "EXPLICIT_INVAL_DATA", // pages go when we say so, not when mtime or size look different
  "HANDLE_KILLPRIV_V2", // otherwise each write asks for security.capability first; see set-id.ts for what it demands
  "INIT_EXT",
  "HAS_EXPIRE_ONLY",
  "DIRECT_IO_ALLOW_MMAP", // without it, files opened with direct I/O cannot be mmapped (design 8)
  "HAS_RESEND", // what a killed server had read is sent again to its successor
];

export interface NegotiateOptions {
  /** ALLOW_IDMAP: only for mounts with default_permissions, other connections would fail. */
  readonly idmap: boolean;
  /** Not asked for, as if the kernel did not offer it. */
  readonly withhold?: readonly InitFlag[];
}

/**
 * Decodes INIT and makes its answer. `facts` is undefined when the kernel's major is newer: it will send INIT again
 * after our answer (fuse II.1). Throws NOT_SUPPORTED for a kernel that is too old.
 */
export function negotiate(
  body: Uint8Array,
  options: NegotiateOptions,
): { facts: KernelFacts | undefined; reply: Uint8Array } {
  const padded = new Uint8Array(InitIn.size); // shorter below minor 36: the rest reads as zero
  padded.set(body.subarray(0, InitIn.size));
  const init = InitIn.decode(padded);
  if (init.major > 7) return { facts: undefined, reply: answer({ ...EMPTY, major: 7, minor: OUR_MINOR }) };
  if (init.major < 7 || init.minor < OLDEST_MINOR) {
    throw new FamfsError(
      "NOT_SUPPORTED",
      `the kernel speaks FUSE ${init.major}.${init.minor}; 7.${OLDEST_MINOR} (Linux 5.4) is the oldest that is served`,
    );
  }
  const offered = flagsOf(init.flags, init.flags2);
  const wanted = options.idmap ? [...WANTED, "ALLOW_IDMAP" as const] : WANTED;
  const granted = wanted.filter((flag) => offered.includes(flag) && options.withhold?.includes(flag) !== true);
  const [flags, flags2] = wordsOf(granted);
  const facts = { major: 7, minor: init.minor, offered, granted, maxWrite: MAX_WRITE };
  const reply = answer({
    ...EMPTY,
    major: 7,
    minor: Math.min(init.minor, OUR_MINOR),
    max_readahead: init.max_readahead,
    flags,
    flags2,
    // Readahead and asynchronous direct I/O in flight: enough to keep the workers busy with 1 MiB requests.
    max_background: 64,
    congestion_threshold: 48,
    max_write: MAX_WRITE,
    time_gran: 1,
    max_pages: MAX_WRITE / PAGE,
  });
  return { facts, reply };
}

const EMPTY: typeof InitOut.$type = {
  major: 0,
  minor: 0,
  max_readahead: 0,
  flags: 0,
  max_background: 0,
  congestion_threshold: 0,
  max_write: 0,
  time_gran: 0,
  max_pages: 0,
  map_alignment: 0,
  flags2: 0,
  max_stack_depth: 0,
  request_timeout: 0,
};

function answer(init: typeof InitOut.$type): Uint8Array {
  return InitOut.encode(init);
}

function flagsOf(flags: number, flags2: number): InitFlag[] {
  const extended = (flags & (1 << INIT_BIT.INIT_EXT)) !== 0; // flags2 means something only then
  return (Object.keys(INIT_BIT) as InitFlag[]).filter((flag) => {
    const bit = INIT_BIT[flag];
    return bit < 32 ? (flags & (1 << bit)) !== 0 : extended && (flags2 & (1 << (bit - 32))) !== 0;
  });
}

function wordsOf(granted: readonly InitFlag[]): [number, number] {
  let low = 0;
  let high = 0;
  for (const flag of granted) {
    const bit = INIT_BIT[flag];
    if (bit < 32) low |= 1 << bit;
    else high |= 1 << (bit - 32);
  }
  return [low >>> 0, high >>> 0];
}
