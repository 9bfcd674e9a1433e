import { EntryDecoder } from "./entry-decode.ts";
import { ExtensionType } from "./extension-structs.ts";
import { entriesInRuns, type PlacedFiller } from "./filler-run.ts";
import type { Finding } from "./finding.ts";
import type { FillerEntry, LogEntry } from "./log-entry.ts";
import { entryOffset, LOG_HEADER_SIZE, type LogHeader } from "./log-header.ts";
import { ENTRY_SIZE } from "./structs.ts";

/** One slot of a log as it lies there. */
export interface LogSlot {
  readonly index: number;
  readonly crc: number;
  readonly typeCode: number;
  /** undefined: malformed, or the late write of an owner that had lost the log. Neither has an effect. */
  readonly entry: LogEntry | undefined;
  /** A filler's run covers it: whatever lies there does not count. */
  readonly covered: boolean;
}

export interface LogScan {
  readonly slots: readonly LogSlot[];
  readonly findings: readonly Finding[];
}

/**
 * Reads all visible entries of a log that lies still: those below the counter up to the first bad one, and on extended
 * volumes what a late counter store hides behind a filler (docs/format-extensions.md, FILLER). `log` begins at the
 * log's offset in the region. Never throws.
 */
export function scanLog(log: Uint8Array, header: LogHeader, extended: boolean): LogScan {
  const decoder = new EntryDecoder(log, extended);
  // The bytes that are there, not what a hostile header says: time is bounded by the bytes.
  const capacity = Math.min(header.lastIndex + 1, Math.floor((log.byteLength - LOG_HEADER_SIZE) / ENTRY_SIZE));
  const slots: LogSlot[] = [];
  const findings: Finding[] = [];
  const runs = extended ? coveredSlots(decoder, capacity) : new Map<number, FillerEntry>();
  const published = Math.min(header.nextIndex, header.lastIndex + 1);
  let end = published;
  if (runs.has(published)) while (isValid(decoder, end, capacity, runs)) end++;
  for (let index = 0; index < end; index++) {
    const base = entryOffset(index);
    const covered = runs.has(index);
    const bad = covered ? undefined : decoder.check(base, index);
    if (bad !== undefined) {
      findings.push({ ...bad, message: `${bad.message}; ${end - index} entries are not visible` });
      break;
    }
    const decoded = covered ? { entry: decodeFiller(decoder, index) } : decoder.decode(base, index);
    if ("finding" in decoded) findings.push(decoded.finding);
    slots.push({ index, crc: decoder.crc(base), typeCode: decoder.typeCode(base), entry: decoded.entry, covered });
  }
  if (end === published && slots.length === end && isValid(decoder, end, capacity, runs)) {
    let beyond = end;
    while (isValid(decoder, beyond, capacity, runs)) beyond++;
    findings.push({
      code: "ENTRY_BEYOND_COUNTER",
      index: end,
      message: `log entry ${end}: valid, with ${beyond - end - 1} more behind it, but next index is ${header.nextIndex}`,
    });
  }
  return { slots, findings };
}

function isValid(
  decoder: EntryDecoder,
  index: number,
  capacity: number,
  runs: ReadonlyMap<number, FillerEntry>,
): boolean {
  return index < capacity && (runs.has(index) || decoder.check(entryOffset(index), index) === undefined);
}

function decodeFiller(decoder: EntryDecoder, index: number): FillerEntry | undefined {
  const base = entryOffset(index);
  if (decoder.typeCode(base) !== ExtensionType.FILLER || decoder.check(base, index) !== undefined) return undefined;
  const { entry } = decoder.decode(base, index);
  return entry?.type === "filler" ? entry : undefined;
}

/** Entries that lie in a run of fillers. */
function coveredSlots(decoder: EntryDecoder, capacity: number): ReadonlyMap<number, FillerEntry> {
  const fillers: PlacedFiller[] = [];
  for (let index = 0; index < capacity; index++) {
    const filler = decodeFiller(decoder, index);
    if (filler !== undefined) fillers.push({ index, filler });
  }
  return entriesInRuns(fillers);
}
