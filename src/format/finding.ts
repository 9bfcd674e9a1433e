import { isFamfsError } from "../base/index.ts";

/** What replay and fsck found wrong: reported as values, never thrown (media is somebody else's). */
export const FINDING_CODES = [
  "SUPERBLOCK_CORRUPT",
  "SUPERBLOCK_VERSION",
  "SUPERBLOCK_GEOMETRY", // log offset, length or device size that cannot be
  "LOG_HEADER_CORRUPT",
  "LOG_COUNTERS", // next_index beyond last_index, or the two counters differ
  "ENTRY_CORRUPT", // crc or seqnum; everything after it is not visible
  "ENTRY_MALFORMED", // valid crc, impossible content
  "ENTRY_TYPE_UNKNOWN", // ignored by replay
  "ENTRY_BEYOND_COUNTER", // valid entries past next_index
  "ENTRY_NOT_VISIBLE", // below next_index but bad so far; perhaps its stores have not arrived
  "ENTRY_RETRACTED", // written by an owner that had lost the log; not applied
  "PATH_INVALID", // empty, absolute, "..", ".", empty component
  "PARENT_MISSING",
  "PARENT_NOT_A_DIRECTORY",
  "NAME_EXISTS", // the first entry wins (format 5.4)
  "EXTENT_COUNT",
  "EXTENT_MISALIGNED",
  "EXTENT_OUT_OF_RANGE", // outside its region, or over superblock and log
  "EXTENT_OVERLAP", // space claimed twice
  "EXTENT_TOO_SHORT", // the file is longer than its extents
  "STRIPE_INVALID", // chunk size or strips of an interleaved file
  "DAXDEV_UNKNOWN", // an extent names a daxdev that nobody added
  "DAXDEV_INVALID", // an ADD_DAXDEV out of order, or twice
  "RELINK_TARGET", // no such node
  "RELINK_CYCLE", // a directory below itself
  "RELINK_REFUSED", // a directory over a file, over a directory that is not empty, …
  "NODE_DETACHED", // a stand-in that no RELINK placed: nobody sees it, but it holds its space
  "EXTENSION_IN_STOCK", // an extension entry on a volume without a record
  "VOLUME_RECORD_CORRUPT",
  "VOLUME_RECORD_FOREIGN", // the record belongs to a file system that was here before a reformat
  "OWNER_CLAIM_CORRUPT",
  "OWNER_SLOT_CORRUPT",
  "LABEL_CORRUPT",
] as const;

export type FindingCode = (typeof FINDING_CODES)[number];

export interface Finding {
  readonly code: FindingCode;
  /** Log entry it is about. */
  readonly index?: number;
  /** Or byte offset in the region. */
  readonly offset?: number;
  readonly message: string;
}

/** What an `inspect*` function found: the value as far as it can be believed, and why not. */
export interface Inspected<T> {
  readonly value: T | undefined;
  readonly findings: readonly Finding[];
}

/** Runs `decode`; an integer beyond 2^53 or bytes that are not there become a finding. */
export function inspect<T>(code: FindingCode, offset: number, decode: () => T): Inspected<T> {
  try {
    return { value: decode(), findings: [] };
  } catch (error) {
    if (!isFamfsError(error)) throw error;
    return { value: undefined, findings: [{ code, offset, message: error.message }] };
  }
}
