import {
  type Decoded,
  ENTRY_SIZE,
  EntryDecoder,
  ExtensionType,
  entriesInRuns,
  FILLER_RUN,
  type FillerEntry,
  type Finding,
  isInRun,
  LOG_COUNTERS_OFFSET,
  LOG_HEADER_SIZE,
  LOG_NEXT_INDEX_OFFSET,
  type LogEntry,
  type PlacedFiller,
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

/** How entries lie in a log. Only the model of the ownership protocol has others than the format's: smaller ones. */
export interface EntryShape {
  readonly size: number;
  /** Entries of the longest run of fillers. */
  readonly run: number;
  decoder(
    buffer: Uint8Array,
    extended: boolean,
  ): Pick<EntryDecoder, "check" | "typeCode"> & {
    decode(base: number, index: number): Decoded;
  };
}

const FORMAT: EntryShape = {
  size: ENTRY_SIZE,
  run: FILLER_RUN,
  decoder: (buffer, extended) => new EntryDecoder(buffer, extended),
};

export interface LogPlace {
  readonly window: Pick<Window, "load64" | "copyOut" | "invalidate">;
  /** Of the log in the window. */
  readonly logOffset: number;
  readonly lastIndex: number;
  /** Whether extension entries count. */
  readonly extended: boolean;
  /** Whether the caches of all hosts agree by themselves; otherwise lines are dropped before they are read. */
  readonly coherent: boolean;
  readonly shape?: EntryShape;
}

/** Where a log ends for a reader. */
export interface LogEnd {
  /** First index that holds nothing visible. */
  readonly end: number;
  readonly findings: readonly Finding[];
}

const NOTHING: Polled = { entries: [], findings: [], more: false, retracted: false };
const CHUNK = 512;
/**
 * Entries of one piece. Small, so that what was decoded is forgotten before the next piece: with 32,768 the garbage
 * collector copied all of them (bench/replay.ts, 15,420 entries: 195 ms, with 1,024 132 ms, on a busy machine).
 */
const POLL_LIMIT = 1024;
/** Stores that have not arrived are waited for a second; then the entry counts as bad and is looked at each second. */
const FIRST_RETRY_MS = 1;
const LAST_RETRY_MS = 1000;
/** A late counter that is lowered and raised between two polls shows nothing; so look past it now and then. */
const IDLE_POLLS = 64;

/** Where a reader copies entries to, and what decodes them there. */
interface Copies {
  readonly buffer: Uint8Array;
  readonly decoder: ReturnType<EntryShape["decoder"]>;
}

function copiesOf(shape: EntryShape, extended: boolean): Copies {
  const buffer = new Uint8Array((CHUNK + 4 * (shape.run - 1)) * shape.size);
  return { buffer, decoder: shape.decoder(buffer, extended) };
}

/**
 * What all readers of real logs in this thread share: none of them needs it longer than a call, and one each would be
 * 30 MB with a hundred volumes.
 */
const SHARED: Record<"extended" | "stock", Copies> = {
  extended: copiesOf(FORMAT, true),
  stock: copiesOf(FORMAT, false),
};

interface Scan {
  readonly records: LogRecord[];
  readonly findings: Finding[];
  /** First index that was not read. */
  readonly next: number;
  /** Why the entry at `next` is not valid; undefined when the scan came to its end. */
  readonly bad: Finding | undefined;
}

/** Entries in the buffer: [first, first + count). */
interface Copied {
  readonly first: number;
  readonly count: number;
}

/** Reads a log piece by piece while others append (design 4, "Replay"). Nothing is believed before it is validated. */
export class LogReader {
  readonly #place: LogPlace;
  readonly #clock: () => number;
  readonly #buffer: Uint8Array;
  readonly #decoder: ReturnType<EntryShape["decoder"]>;
  readonly #size: number;
  /** A filler says something about entries nearer than a run is long, and another one that near may outbid it. */
  readonly #around: number;
  #next = 0;
  /** The counter as last seen, while everything below it has been delivered. */
  #seen: bigint | undefined;
  #idle = 0;
  #blocked: { finding: Finding; retryAt: number; delay: number; reported: boolean } | undefined;
  #countersReported = false;
  /** The last entries delivered, as far back as a run of fillers reaches. */
  #recent: LogRecord[] = [];

  constructor(place: LogPlace, clock: () => number = () => performance.now()) {
    this.#place = place;
    this.#clock = clock;
    const shape = place.shape ?? FORMAT;
    this.#size = shape.size;
    this.#around = 2 * (shape.run - 1);
    const shared = place.extended ? SHARED.extended : SHARED.stock;
    const { buffer, decoder } = place.shape === undefined ? shared : copiesOf(shape, place.extended);
    this.#buffer = buffer;
    this.#decoder = decoder;
  }

  /** Index of the next entry to be delivered. */
  get position(): number {
    return this.#next;
  }

  /** The entry at `position` is below the counter and stays bad: what follows it is not visible. */
  get condition(): Finding | undefined {
    return this.#blocked?.reported === true ? this.#blocked.finding : undefined;
  }

  /** Every entry that the last poll knew of has been delivered: none is bad or still on its way. */
  get caughtUp(): boolean {
    return this.#blocked === undefined && this.#seen !== undefined;
  }

  /** Entries that the log's counter counts now, whatever they hold. MEMORY_ERROR. */
  published(): number {
    const counter = this.#loadCounter();
    const slots = this.#place.lastIndex + 1;
    return counter > BigInt(slots) ? slots : Number(counter);
  }

  /** The next poll begins with entry 0. */
  rewind(): void {
    this.#next = 0;
    this.#seen = undefined;
    this.#blocked = undefined;
    this.#recent = [];
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
   * Where the log ends. A late store of an owner that lost the log can lower the counter, but only into the run of
   * fillers of its successor (format extensions, FILLER): what is hidden begins with that. Nothing else past the
   * counter counts: it may still be overwritten.
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
    if (!this.#place.extended || published === slots || !this.#isInRun(published)) {
      return { end: published, findings: [] };
    }
    return { end: this.#scan(published, slots).next, findings: [] };
  }

  /** Index of the first bad entry in [from, to), for a taker. Reads again what is bad at first. */
  firstBad(from: number, to: number): Finding | undefined {
    return this.#scan(from, to).bad;
  }

  #offsetOf(index: number): number {
    return LOG_HEADER_SIZE + index * this.#size;
  }

  #loadCounter(): bigint {
    const { window, logOffset, coherent } = this.#place;
    if (!coherent) window.invalidate(logOffset + LOG_NEXT_INDEX_OFFSET, 8);
    return window.load64(logOffset + LOG_NEXT_INDEX_OFFSET);
  }

  #isInRun(index: number): boolean {
    return this.#runs(this.#copyAround(index, 1)).has(index);
  }

  /** Copies entries [index, index + count) and those around them. */
  #copyAround(index: number, count: number): Copied {
    const { window, logOffset, lastIndex, coherent, extended } = this.#place;
    const around = extended ? this.#around : 0;
    const first = Math.max(0, index - around);
    const copied = { first, count: Math.min(lastIndex + 1, index + count + around) - first };
    const offset = logOffset + this.#offsetOf(first);
    if (!coherent) window.invalidate(offset, copied.count * this.#size);
    window.copyOut(offset, this.#buffer.subarray(0, copied.count * this.#size));
    return copied;
  }

  #scan(from: number, to: number): Scan {
    const records: LogRecord[] = [];
    const findings: Finding[] = [];
    let next = from;
    while (next < to) {
      const count = Math.min(CHUNK, to - next);
      const copied = this.#copyAround(next, count);
      const runs = this.#runs(copied);
      for (let index = next; index < next + count; index++) {
        const filler = runs.get(index);
        if (filler !== undefined) {
          records.push({ index, entry: filler });
          continue;
        }
        const base = (index - copied.first) * this.#size;
        const bad = this.#decoder.check(base, index) && this.#checkAgain(base, index);
        if (bad !== undefined) return { records, findings, next: index, bad };
        const decoded = this.#decoder.decode(base, index);
        if (decoded.entry === undefined) findings.push(decoded.finding);
        // An entry that says nothing possible keeps its place and has no effect.
        records.push({ index, entry: decoded.entry ?? { type: "invalid" } });
      }
      next += count;
    }
    return { records, findings, next, bad: undefined };
  }

  /**
   * Entries that are not applied because a run of fillers is there, or was before a late transaction of the old owner
   * was put over it, whole or torn; each with a filler that says so.
   */
  #runs({ first, count }: Copied): Map<number, FillerEntry> {
    const fillers: PlacedFiller[] = [];
    for (let slot = 0; this.#place.extended && slot < count; slot++) {
      const base = slot * this.#size;
      const index = first + slot;
      if (this.#decoder.typeCode(base) !== ExtensionType.FILLER) continue;
      if (this.#decoder.check(base, index) !== undefined) continue;
      const { entry } = this.#decoder.decode(base, index);
      if (entry?.type === "filler") fillers.push({ index, filler: entry });
    }
    return entriesInRuns(fillers);
  }

  /** A bad entry may be one whose lines this host still has in its caches. */
  #checkAgain(base: number, index: number): Finding | undefined {
    const { window, logOffset } = this.#place;
    const offset = logOffset + this.#offsetOf(index);
    window.invalidate(offset, this.#size);
    window.copyOut(offset, this.#buffer.subarray(base, base + this.#size));
    return this.#decoder.check(base, index);
  }

  /**
   * Notes what was delivered. A finding when a filler among it says that something delivered before was not the
   * owner's, an entry in its run or a run of an earlier epoch that it outbids, and the memory agrees.
   */
  #remember(records: readonly LogRecord[]): Finding | undefined {
    let comparedTo = 0;
    for (const record of records) {
      const { index, entry } = record;
      if (entry.type === "filler" && index >= comparedTo) {
        const isDoubtful = this.#recent.some(
          (old) => isInRun(old.index, entry) && (old.entry.type !== "filler" || old.entry.first < entry.first),
        );
        const ghost = isDoubtful ? this.#replaced(this.#recent) : undefined;
        if (ghost !== undefined) {
          const message = `log entry ${ghost}: of an owner that had lost the log, replaced in epoch ${entry.epoch}`;
          return { code: "ENTRY_RETRACTED", index: ghost, message };
        }
        // Entries delivered together were read together; comparing at each filler of a hostile log would take minutes.
        if (isDoubtful) comparedTo = index + CHUNK;
      }
      this.#recent.push(record);
      if (this.#recent.length > this.#around) this.#recent.shift();
    }
    return undefined;
  }

  /**
   * The first of `delivered` that would be delivered otherwise now. A filler alone proves nothing: it does not count
   * outside its run, or when a later epoch outbids it. A reader that began again for it would find it again, for ever.
   */
  #replaced(delivered: readonly LogRecord[]): number | undefined {
    const [{ index: from } = { index: 0 }] = delivered;
    const runs = this.#runs(this.#copyAround(from, this.#around));
    const same = (was: LogEntry, now: FillerEntry | undefined) =>
      was.type === "filler" ? was.first === now?.first && was.epoch === now.epoch : now === undefined;
    return delivered.find(({ index, entry }) => !same(entry, runs.get(index)))?.index;
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
