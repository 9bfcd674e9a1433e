import { FamfsError } from "../base/index.ts";
import { Checked } from "./checked.ts";
import type { Finding, Inspected } from "./finding.ts";
import { ENTRY_SIZE, LOG_MAGIC, LogHeaderStruct } from "./structs.ts";

/** Format 3.2. */
export interface LogHeader {
  readonly logLength: number;
  /** Highest legal index. */
  readonly lastIndex: number;
  readonly nextSeqnum: number;
  readonly nextIndex: number;
}

export interface StoredLogHeader extends LogHeader {
  readonly crc: number;
}

const checked = new Checked({
  what: "log header",
  code: "LOG_HEADER_CORRUPT",
  struct: LogHeaderStruct,
  magic: { famfs_log_magic: LOG_MAGIC },
  crc: "famfs_log_crc",
});

export const LOG_HEADER_SIZE = LogHeaderStruct.size;
/** Offset of the two counters in the log: next_seqnum, then next_index, 8 bytes each. */
export const LOG_COUNTERS_OFFSET = LogHeaderStruct.offsets.famfs_log_next_seqnum;
export const LOG_NEXT_INDEX_OFFSET = LogHeaderStruct.offsets.famfs_log_next_index;

/** `famfs_log_last_index` for a log of `logLength` bytes (format 5.1). */
export function lastIndexFor(logLength: number): number {
  return Math.floor((logLength - LOG_HEADER_SIZE) / ENTRY_SIZE) - 1;
}

/** Where entry `index` begins, from the start of the log. */
export function entryOffset(index: number): number {
  return LOG_HEADER_SIZE + index * ENTRY_SIZE;
}

export function encodeLogHeader(header: LogHeader): Uint8Array {
  return checked.encode({
    famfs_log_len: header.logLength,
    famfs_log_last_index: header.lastIndex,
    famfs_log_next_seqnum: header.nextSeqnum,
    famfs_log_next_index: header.nextIndex,
  });
}

/**
 * Magic and crc as in stock (format 5.2), and what stock does not check: that length and last index belong together,
 * fit the `logLength` of the superblock, and that the counters are possible.
 */
export function inspectLogHeader(bytes: Uint8Array, base: number, logLength: number): Inspected<StoredLogHeader> {
  const { value: raw, findings } = checked.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  const refuse = (why: string) => checked.refuse(base, why);
  if (raw.famfs_log_len !== logLength) return refuse(`length ${raw.famfs_log_len}, the superblock says ${logLength}`);
  const lastIndex = lastIndexFor(logLength);
  if (raw.famfs_log_last_index !== lastIndex) {
    return refuse(`last index ${raw.famfs_log_last_index}, expected ${lastIndex} for ${logLength} bytes`);
  }
  const value: StoredLogHeader = {
    logLength: raw.famfs_log_len,
    lastIndex,
    crc: Number(raw.famfs_log_crc),
    nextSeqnum: raw.famfs_log_next_seqnum,
    nextIndex: raw.famfs_log_next_index,
  };
  return { value, findings: counterFindings(value, base) };
}

function counterFindings(header: LogHeader, base: number): Finding[] {
  const findings: Finding[] = [];
  const add = (message: string) => findings.push({ code: "LOG_COUNTERS", offset: base + LOG_COUNTERS_OFFSET, message });
  if (header.nextIndex > header.lastIndex + 1) {
    add(`log header: next index ${header.nextIndex}, but the log ends at ${header.lastIndex}`);
  }
  if (header.nextSeqnum !== header.nextIndex) {
    add(`log header: next seqnum ${header.nextSeqnum} and next index ${header.nextIndex} differ`);
  }
  return findings;
}

/** The header, or LOG_CORRUPT. Counters that differ are allowed (a take-over repairs them), impossible ones are not. */
export function parseLogHeader(bytes: Uint8Array, base: number, logLength: number): StoredLogHeader {
  const { value, findings } = inspectLogHeader(bytes, base, logLength);
  if (value === undefined || value.nextIndex > value.lastIndex + 1) {
    throw new FamfsError("LOG_CORRUPT", findings[0]?.message ?? "log header: unreadable");
  }
  return value;
}
