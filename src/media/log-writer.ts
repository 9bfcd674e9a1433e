import { randomBytes } from "node:crypto";
import { native } from "../../native/index.ts";
import { type Extent, FamfsError, fromSystemError } from "../base/index.ts";
import {
  coverRanges,
  encodeEntries,
  FILLER_RUN,
  GUARD_OFFSET,
  type Inspected,
  LOG_NEXT_INDEX_OFFSET,
  type LogEntry,
  MAX_TRANSACTION,
  type OwnerDetail,
  type Successor,
  type Time,
  type VolumeRecord,
} from "../format/index.ts";
import type { LogReader } from "./log-reader.ts";
import { type Memory, perform, performPlan, performWaiting } from "./ownership/perform.ts";
import {
  appendPlan,
  changePlan,
  look,
  release,
  stale,
  type TakenOver,
  type Term,
  takeOver,
} from "./ownership/protocol.ts";
import type { Plan } from "./ownership/steps.ts";
import { wordsOf } from "./ownership/words.ts";
import { pagesOf, type SlotPages } from "./slot-pages.ts";
import type { Window } from "./window.ts";

/** Who takes the log over. */
export interface Taker {
  /** The node's owner slot: given by the store, never to two nodes. */
  readonly slot: number;
  readonly nodeId: string;
  /** Of the host: tells a successor whether unsealed files of this node can still be there. */
  readonly bootId: string;
  /** Handed out by compare-and-swap in the store, above every epoch in the memory. */
  readonly epoch: number;
}

/** What a writer needs of the volume whose log it owns: `VolumeMedia` is one. */
export interface OwnableVolume {
  readonly window: Window;
  readonly coherent: boolean;
  readonly record: VolumeRecord | undefined;
  readonly logOffset: number;
  readonly logSlots: number;
  /** Entries below this index were validated already. */
  readonly position: number;
  isCurrent(): boolean;
  readSlot(slot: number): Inspected<OwnerDetail>;
  createReader(): LogReader;
}

/** How often a plan is begun again because claims changed and left the log ours. */
const TRIES = 8;

/**
 * The log in the hands of its owner: carries out the steps of the ownership protocol (ownership/protocol.ts), appends
 * and changes as one call of the addon each.
 */
export class LogWriter implements AsyncDisposable {
  readonly media: OwnableVolume;
  readonly taker: Taker;
  /** Names the native guard: file maps carry it, so that every data write checks it. */
  readonly guard: number;
  /** Nobody can still be writing what the former owner began; otherwise contents are doubtful everywhere. */
  readonly clean: boolean;
  readonly #term: Term;
  readonly #pages: SlotPages;
  readonly #pageAt: number;
  #page: OwnerDetail;
  #nextIndex: number;
  #open = true;

  private constructor(media: OwnableVolume, taker: Taker, pages: SlotPages, page: OwnerDetail, taken: TakenOver) {
    this.media = media;
    this.taker = taker;
    this.clean = taken.clean;
    this.#term = taken.term;
    this.#nextIndex = taken.nextIndex;
    this.#pages = pages;
    this.#pageAt = pages.offset(taker.slot);
    this.#page = page;
    // What was judged, never what is there by now.
    this.guard = native.guardCreate(media.window.id, GUARD_OFFSET, taken.term.expected, !media.coherent);
  }

  /** See `VolumeMedia.takeOver`. Leaves the claim behind when it fails later: a successor outbids it. */
  static async takeOver(media: OwnableVolume, taker: Taker): Promise<LogWriter> {
    const { record } = media;
    if (record === undefined) {
      throw new FamfsError("NOT_SUPPORTED", `${media.window.what} is a stock file system: it is served read-only`);
    }
    const pages = pagesOf(record);
    if (!(Number.isSafeInteger(taker.slot) && taker.slot >= 0 && taker.slot < pages.count)) {
      throw new FamfsError(
        "INVALID_ARGUMENT",
        `owner slot ${taker.slot}: the volume has ${pages.count} of nodes that write`,
      );
    }
    if (!(Number.isSafeInteger(taker.epoch) && taker.epoch > 0)) {
      throw stale(record, `epoch ${taker.epoch} is none`);
    }
    // The page of a slot is not written before it is known whose region this is.
    if (!media.isCurrent()) throw stale(record, "its region was given to another volume");
    const own = media.readSlot(taker.slot).value;
    const isSame = own?.nodeId === taker.nodeId;
    const page: OwnerDetail = {
      slot: taker.slot,
      order: 0,
      epoch: taker.epoch,
      nodeId: taker.nodeId,
      nodeUid: "",
      bootId: taker.bootId,
      fillerIndex: undefined,
      reserved: isSame ? own.reserved : [],
      held: isSame ? own.held : [],
      struck: isSame ? own.struck : [],
    };
    // What the node has reserved is known when its claim is seen.
    media.window.copyInDurable(pages.offset(taker.slot), pages.encode(page));
    const bid = { slot: taker.slot, nonce: randomBytes(16).toString("hex"), round: taker.epoch, order: 0 };
    const taken = await performWaiting(takeOver(wordsOf(media, record, taker.nodeId), bid), memoryOf(media));
    const writer = new LogWriter(media, taker, pages, page, taken);
    if (taken.filler !== undefined) writer.#writePage({ ...page, fillerIndex: taken.filler });
    return writer;
  }

  /** Index that the next entry gets. */
  get nextIndex(): number {
    return this.#nextIndex;
  }

  /** Entries there is room for. A run of fillers always stays free for the next taker. */
  get freeSlots(): number {
    return Math.max(0, this.media.logSlots - FILLER_RUN - this.#nextIndex);
  }

  /**
   * Appends 1 to MAX_TRANSACTION entries as one transaction and returns the index of the first. OWNER_STALE (details
   * say whether they may have become visible), LOG_FULL, INVALID_ARGUMENT, NAME_TOO_LONG, MEMORY_ERROR.
   */
  append(entries: readonly LogEntry[]): number {
    if (entries.length === 0 || entries.length > MAX_TRANSACTION) {
      throw new FamfsError(
        "INVALID_ARGUMENT",
        `a transaction has 1 to ${MAX_TRANSACTION} entries, not ${entries.length}`,
      );
    }
    return this.#append(entries);
  }

  /**
   * Whether this node still owns the log. Judges claims that changed, e.g. the late release of an old owner.
   * MEMORY_ERROR.
   */
  holds(): boolean {
    if (!this.#open) return false;
    if (this.#guardHolds()) return true;
    if (!perform(look(this.#term), memoryOf(this.media))) return false;
    native.guardUpdate(this.guard, this.#term.expected);
    return true;
  }

  /** Says which ranges unsealed files of this node hold; replaces what it said before. OWNER_STALE. */
  publishReservations(ranges: readonly Extent[]): void {
    this.#checkOwner();
    this.#writePage({ ...this.#page, reserved: coverRanges(ranges, this.#pages.ranges) });
  }

  /** Tells other nodes that a sealed file was written in place: its index, and a number that grows. OWNER_STALE. */
  recordChanged(file: number, generation: number, mtime: Time): void {
    const { changes } = this.#term;
    const plan = changePlan(this.#term, { file, generation, mtime });
    if (this.#carryOut(plan, `change of file ${file} in place`) !== undefined) this.#throwStale();
    this.#term.changes = changes + 1;
  }

  /**
   * Gives the log up: the claim says that nothing more is appended under this epoch, so a successor need not wait.
   * The guard fails from now on. A no-op for a stale owner. `successor` comes next.
   */
  release(successor?: Successor): void {
    if (!this.#open) return;
    // R1: the guard line does not change with the own claim.
    const nobodys = new Uint8Array(this.#term.log.guardLength); // no identity line is zero
    native.guardUpdate(this.guard, nobodys);
    perform(release(this.#term, successor), memoryOf(this.media));
    this.#term.expected = nobodys;
  }

  /** Ends without a release, as a crash would; call `release` first to hand over. Data writes fail from now on. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
  }

  #close(): void {
    if (!this.#open) return;
    this.#open = false;
    native.guardDestroy(this.guard);
  }

  #append(entries: readonly LogEntry[]): number {
    const { media } = this;
    const index = this.#nextIndex;
    if (entries.length > this.freeSlots) {
      throw new FamfsError(
        "LOG_FULL",
        `the log of volume ${this.#term.log.name} has ${this.freeSlots} of ${media.logSlots} slots left, ${entries.length} are needed`,
      );
    }
    if (this.#publishedIndex() > BigInt(index)) {
      throw this.holds()
        ? stale(this.#term.log, `somebody appended: the log ends at ${this.#publishedIndex()}, not at ${index}`)
        : this.#stale();
    }
    const plan = appendPlan(this.#term.log, index, encodeEntries(index, entries));
    const failed = this.#carryOut(plan, `append of log entry ${index}, which is not published`);
    if (failed === 0) this.#throwStale();
    if (failed !== undefined) {
      throw new FamfsError(
        "OWNER_STALE",
        `log entries ${index} to ${index + entries.length - 1} of volume ${this.#term.log.name} were written while the ` +
          "log was taken over: whether readers see them is for the new owner to decide",
        { details: { outcome: "unknown", index } },
      );
    }
    this.#nextIndex += entries.length;
    return index;
  }

  /**
   * Carries out a plan that begins and ends with a look. Undefined when all of it counts; otherwise the place of the
   * look that failed, or of what the memory refused once counters were stored. MEMORY_ERROR before that.
   */
  #carryOut(plan: Plan, what: string): number | undefined {
    for (let tries = 0; tries < TRIES && this.#open; tries++) {
      const failed = this.#carryOutOnce(plan, what);
      if (failed === undefined) return undefined;
      // Claims that changed may leave the log ours, e.g. the late release of a former owner.
      if (!this.holds()) return failed;
      if (failed > 0) return failed === plan.length - 1 ? undefined : failed;
    }
    return 0;
  }

  #carryOutOnce(plan: Plan, what: string): number | undefined {
    try {
      return performPlan(plan, this.guard, this.media.window);
    } catch (error) {
      const { done } = error as { done?: unknown };
      const published = plan.findIndex(({ type }) => type === "store64" || type === "storePair");
      if (typeof done !== "number" || done <= published) throw memoryError(this.media.window, what, error);
      return done;
    }
  }

  #publishedIndex(): bigint {
    return this.media.window.load64(this.media.logOffset + LOG_NEXT_INDEX_OFFSET);
  }

  #guardHolds(): boolean {
    try {
      return native.guardHolds(this.guard);
    } catch (error) {
      throw memoryError(this.media.window, `owner claims of volume ${this.#term.log.name}`, error);
    }
  }

  #checkOwner(): void {
    if (!this.holds()) this.#throwStale();
  }

  #throwStale(): never {
    throw this.#stale();
  }

  #stale(): FamfsError {
    return stale(this.#term.log, "another node took it over, or this one gave it up");
  }

  #writePage(page: OwnerDetail): void {
    this.media.window.copyInDurable(this.#pageAt, this.#pages.encode(page));
    this.#page = page;
  }
}

function memoryOf(media: OwnableVolume): Memory {
  const { window, coherent } = media;
  return {
    window,
    coherent,
    findEnd() {
      const reader = media.createReader();
      const { end } = reader.end();
      return { end, bad: reader.firstBad(Math.min(media.position, end), end) };
    },
  };
}

/** An errno of the addon's log calls: they touch nothing but the memory. */
function memoryError(window: Window, what: string, error: unknown): FamfsError {
  return (error as { code?: unknown }).code === "EIO" ? window.noAnswer(what, error) : fromSystemError(error, what);
}
