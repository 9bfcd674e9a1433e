import {
  ENTRY_SIZE,
  EntryDecoder,
  ExtensionType,
  entryOffset,
  type FillerEntry,
  type Finding,
  LOG_COUNTERS_OFFSET,
  LOG_NEXT_INDEX_OFFSET,
  type LogEntry,
  MAX_TRANSACTION,
} from "../format/index.ts";
import type { Window } from "./window.ts";

export interface LogRecord {
  readonly index: number;
  readonly entry: LogEntry;
}

export interface Polled {
  /** In order of index, without gaps; each one valid. */
  readonly entries: readonly LogRecord[];
  /** What was found since the last poll. */
  readonly findings: readonly Finding[];
  /** There is more at once: the limit was reached. */
  readonly more: boolean;
  /**
   * What was delivered does not hold: an entry among it was written by an owner that had lost the log, and its
   * successor took the place. Forget everything and read again after `rewind`.
   */
  readonly retracted: boolean;
}

export interface LogPlace {
  readonly window: Window;
  /** Of the log in the window. */
  readonly logOffset: number;
  readonly lastIndex: number;
  /** Whether extension entries count. */
  readonly extended: boolean;
  /** Whether the caches of all hosts agree by themselves; otherwise lines are dropped before they are read. */
  readonly coherent: boolean;
}

/** Where a log ends for a reader. */
export interface LogEnd {
  /** First index that holds nothing visible. */
  readonly end: number;
  readonly findings: readonly Finding[];
}

const NOTHING: Polled = { entries: [], findings: [], more: false, retracted: false };
const CHUNK = 512;
const POLL_LIMIT = 32_768;
/** Stores that have not arrived are waited for a second; then the entry counts as bad and is looked at each second. */
const FIRST_RETRY_MS = 1;
const LAST_RETRY_MS = 1000;
/** A late counter that is lowered and raised between two polls shows nothing; so look past it now and then. */
const IDLE_POLLS = 64;

interface Scan {
  readonly records: LogRecord[];
  readonly findings: Finding[];
  /** First index that was not read. */
  readonly next: number;
  /** Why the entry at `next` is not valid; undefined when the scan came to its end. */
  readonly bad: Finding | undefined;
}

/** Reads a log piece by piece while others append (design 4, "Replay"). Nothing is believed before it is validated. */
export class LogReader {
  readonly #place: LogPlace;
  readonly #clock: () => number;
  readonly #buffer: Uint8Array;
  readonly #decoder: EntryDecoder;
  #next = 0;
  /** The counter as last seen, while everything below it has been delivered. */
  #seen: bigint | undefined;
  #idle = 0;
  #blocked: { finding: Finding; retryAt: number; delay: number; reported: boolean } | undefined;
  #countersReported = false;
  /** The last MAX_TRANSACTION delivered indexes that were not fillers. */
  #applied: number[] = [];

  constructor(place: LogPlace, clock: () => number = () => performance.now()) {
    this.#place = place;
    this.#clock = clock;
    this.#buffer = new Uint8Array((CHUNK + MAX_TRANSACTION) * ENTRY_SIZE);
    this.#decoder = new EntryDecoder(this.#buffer, place.extended);
  }

  /** Index of the next entry to be delivered. */
  get position(): number {
    return this.#next;
  }

  /** The entry at `position` is below the counter and stays bad: what follows it is not visible. */
  get condition(): Finding | undefined {
    return this.#blocked?.reported === true ? this.#blocked.finding : undefined;
  }

  /** The next poll begins with entry 0. */
  rewind(): void {
    this.#next = 0;
    this.#seen = undefined;
    this.#blocked = undefined;
    this.#applied = [];
  }

  /** New entries. One load when nothing happened. MEMORY_ERROR. */
  poll(limit = POLL_LIMIT): Polled {
    const counter = this.#loadCounter();
    const blocked = this.#blocked;
    if (blocked === undefined) {
      if (counter === this.#seen && ++this.#idle < IDLE_POLLS) return NOTHING;
    } else if (counter === this.#seen && this.#clock() < blocked.retryAt) {
      return NOTHING;
    }
    this.#idle = 0;
    this.#seen = counter;
    const { end, findings } = this.end(counter);
    const stop = Math.min(end, this.#next + limit);
    const scan = this.#scan(this.#next, stop);
    const all = [...this.#once(findings), ...scan.findings];
    const retracted = this.#remember(scan.records);
    if (retracted !== undefined) {
      all.push(retracted);
      this.#seen = undefined;
      return { entries: [], findings: all, more: true, retracted: true };
    }
    this.#next = scan.next;
    if (scan.bad === undefined) this.#blocked = undefined;
    else all.push(...this.#block(scan.bad));
    if (stop < end) this.#seen = undefined;
    return { entries: scan.records, findings: all, more: scan.bad === undefined && stop < end, retracted: false };
  }

  /**
   * Where the log ends. A late store of an owner that lost the log can lower the counter; what it hides then begins
   * with a filler of the successor, because the run of fillers is longer than any transaction (format extensions,
   * FILLER). Nothing else past the counter counts: it may still be overwritten.
   */
  end(counter: bigint = this.#loadCounter()): LogEnd {
    const slots = this.#place.lastIndex + 1;
    if (counter > BigInt(slots)) {
      const message = `log header: next index ${counter}, but the log ends at ${this.#place.lastIndex}`;
      return {
        end: slots,
        findings: [{ code: "LOG_COUNTERS", offset: this.#place.logOffset + LOG_COUNTERS_OFFSET, message }],
      };
    }
    const published = Number(counter);
    if (!this.#place.extended || published === slots || !this.#isFiller(published)) {
      return { end: published, findings: [] };
    }
    return { end: this.#scan(published, slots).next, findings: [] };
  }

  /** Index of the first bad entry in [from, to), for a taker. Reads again what is bad at first. */
  firstBad(from: number, to: number): Finding | undefined {
    return this.#scan(from, to).bad;
  }

  #loadCounter(): bigint {
    const { window, logOffset, coherent } = this.#place;
    if (!coherent) window.invalidate(logOffset + LOG_NEXT_INDEX_OFFSET, 8);
    return window.load64(logOffset + LOG_NEXT_INDEX_OFFSET);
  }

  #isFiller(index: number): boolean {
    this.#copy(index, 1);
    return this.#fillerAt(0, index) !== undefined;
  }

  /** The filler in slot `slot` of the buffer, which holds entry `index`. */
  #fillerAt(slot: number, index: number): FillerEntry | undefined {
    const base = slot * ENTRY_SIZE;
    if (this.#decoder.typeCode(base) !== ExtensionType.FILLER || this.#decoder.check(base, index) !== undefined)
      return undefined;
    const { entry } = this.#decoder.decode(base, index);
    return entry?.type === "filler" ? entry : undefined;
  }

  #copy(index: number, count: number): void {
    const { window, logOffset, coherent } = this.#place;
    const offset = logOffset + entryOffset(index);
    if (!coherent) window.invalidate(offset, count * ENTRY_SIZE);
    window.copyOut(offset, this.#buffer.subarray(0, count * ENTRY_SIZE));
  }

  #scan(from: number, to: number): Scan {
    const records: LogRecord[] = [];
    const findings: Finding[] = [];
    let next = from;
    while (next < to) {
      const count = Math.min(CHUNK, to - next);
      const ahead = Math.min(MAX_TRANSACTION, this.#place.lastIndex + 1 - next - count);
      this.#copy(next, count + ahead);
      const covered = this.#place.extended ? this.#covered(next, count + ahead) : undefined;
      for (let slot = 0; slot < count; slot++) {
        const index = next + slot;
        const filler = covered?.get(index);
        if (filler !== undefined) {
          records.push({ index, entry: filler });
          continue;
        }
        const bad = this.#decoder.check(slot * ENTRY_SIZE, index) && this.#checkAgain(slot, index);
        if (bad !== undefined) return { records, findings, next: index, bad };
        const decoded = this.#decoder.decode(slot * ENTRY_SIZE, index);
        if (decoded.entry === undefined) findings.push(decoded.finding);
        // An entry that says nothing possible keeps its place and has no effect.
        records.push({ index, entry: decoded.entry ?? { type: "invalid" } });
      }
      next += count;
    }
    return { records, findings, next, bad: undefined };
  }

  /**
   * Entries that a filler after them names as its run: fillers, or what a late transaction of the old owner put over
   * them, whole or torn. A transaction is at most MAX_TRANSACTION long, so the filler is that near.
   */
  #covered(first: number, count: number): Map<number, FillerEntry> {
    const covered = new Map<number, FillerEntry>();
    for (let slot = 0; slot < count; slot++) {
      const index = first + slot;
      const filler = this.#fillerAt(slot, index);
      if (filler === undefined) continue;
      covered.set(index, filler);
      for (let at = index - 1; at >= Math.max(first, filler.first, index - MAX_TRANSACTION); at--) {
        if (!covered.has(at)) covered.set(at, filler);
      }
    }
    return covered;
  }

  /** A bad entry may be one whose lines this host still has in its caches. */
  #checkAgain(slot: number, index: number): Finding | undefined {
    const { window, logOffset } = this.#place;
    const offset = logOffset + entryOffset(index);
    window.invalidate(offset, ENTRY_SIZE);
    window.copyOut(offset, this.#buffer.subarray(slot * ENTRY_SIZE, (slot + 1) * ENTRY_SIZE));
    return this.#decoder.check(slot * ENTRY_SIZE, index);
  }

  /** Notes what was delivered; a finding when a filler says that some of it was not the owner's. */
  #remember(records: readonly LogRecord[]): Finding | undefined {
    for (const { index, entry } of records) {
      if (entry.type === "filler") {
        const ghost = this.#applied.find((applied) => applied >= entry.first && applied >= index - MAX_TRANSACTION);
        if (ghost !== undefined) {
          return {
            code: "ENTRY_RETRACTED",
            index: ghost,
            message: `log entry ${ghost}: appended by an owner that had lost the log, replaced by epoch ${entry.epoch}`,
          };
        }
      } else {
        this.#applied.push(index);
        if (this.#applied.length > MAX_TRANSACTION) this.#applied.shift();
      }
    }
    return undefined;
  }

  /** First "not visible yet" with growing pauses, then an abnormal condition; each is reported once. */
  #block(finding: Finding): Finding[] {
    const blocked = this.#blocked?.finding.index === finding.index ? this.#blocked : undefined;
    if (blocked === undefined) {
      this.#blocked = { finding, retryAt: this.#clock() + FIRST_RETRY_MS, delay: FIRST_RETRY_MS, reported: false };
      return [{ ...finding, code: "ENTRY_NOT_VISIBLE" }];
    }
    blocked.delay = Math.min(blocked.delay * 2, LAST_RETRY_MS);
    blocked.retryAt = this.#clock() + blocked.delay;
    if (blocked.delay < LAST_RETRY_MS || blocked.reported) return [];
    blocked.reported = true;
    return [finding];
  }

  #once(findings: readonly Finding[]): readonly Finding[] {
    if (findings.length === 0) this.#countersReported = false;
    if (findings.length === 0 || this.#countersReported) return [];
    this.#countersReported = true;
    return findings;
  }
}
