import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { native } from "../../native/index.ts";
import { FamfsError, fromSystemError } from "../base/index.ts";
import {
  CHANGE_COUNTER_OFFSET,
  changeOffset,
  claimOffset,
  coverRanges,
  ENTRY_SIZE,
  encodeChange,
  encodeClaim,
  encodeEntries,
  encodeOwnerSlot,
  entryOffset,
  FILLER_RUN,
  GUARD_OFFSET,
  type GuardRange,
  type Inspected,
  inspectGuardRange,
  LOG_COUNTERS_OFFSET,
  LOG_NEXT_INDEX_OFFSET,
  type LogEntry,
  MAX_TRANSACTION,
  nodeIdHash,
  type OwnerClaim,
  type OwnerSlot,
  type ReservedRange,
  slotPageOffset,
  type Time,
  type VolumeRecord,
} from "../format/index.ts";
import type { LogReader } from "./log-reader.ts";
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
  guardBytes(): Uint8Array;
  claims(): GuardRange;
  readSlot(slot: number): Inspected<OwnerSlot>;
  ownerSlots(): { readonly slots: readonly OwnerSlot[] };
  createReader(): LogReader;
}

/** How long a taker waits, in sum, for entries below the counter that are not valid yet. */
const ARRIVAL_MS = 1000;

/** The log in the hands of its owner. Every append checks the claims before and after (design 4). */
export class LogWriter implements AsyncDisposable {
  readonly media: OwnableVolume;
  readonly taker: Taker;
  /** Names the native guard: file maps carry it, so that every data write checks it. */
  readonly guard: number;
  readonly #record: VolumeRecord;
  readonly #claim: OwnerClaim;
  #page: OwnerSlot;
  #nextIndex = 0;
  #open = true;

  private constructor(
    media: OwnableVolume,
    record: VolumeRecord,
    state: { taker: Taker; claim: OwnerClaim; page: OwnerSlot; guard: number },
  ) {
    this.media = media;
    this.taker = state.taker;
    this.guard = state.guard;
    this.#record = record;
    this.#claim = state.claim;
    this.#page = state.page;
  }

  /** See `VolumeMedia.takeOver`. Leaves the claim behind when it fails later: a successor outbids it. */
  static async takeOver(media: OwnableVolume, taker: Taker): Promise<LogWriter> {
    const { record } = media;
    if (record === undefined) {
      throw new FamfsError("NOT_SUPPORTED", `${media.window.what} is a stock file system: it is served read-only`);
    }
    if (!(Number.isSafeInteger(taker.slot) && taker.slot >= 0 && taker.slot < record.slots)) {
      throw new FamfsError("INVALID_ARGUMENT", `owner slot ${taker.slot}: the volume has ${record.slots}`);
    }
    const before = media.claims();
    if (!media.isCurrent()) throw stale(record, "its region was given to another volume");
    if (!(Number.isSafeInteger(taker.epoch) && taker.epoch > before.highestEpoch)) {
      throw stale(record, `epoch ${taker.epoch} is not above epoch ${before.highestEpoch} in the memory`);
    }
    // Clean: whoever had the log said that it appends nothing more. Otherwise one append may still be on its way.
    const clean = before.highestEpoch === 0 || before.owner?.released === true;

    const own = media.readSlot(taker.slot).value;
    const page: OwnerSlot = {
      slot: taker.slot,
      epoch: taker.epoch,
      nodeId: taker.nodeId,
      bootId: taker.bootId,
      fillerIndex: undefined,
      reserved: own?.nodeId === taker.nodeId ? own.reserved : [],
    };
    const claim: OwnerClaim = {
      slot: taker.slot,
      epoch: taker.epoch,
      nodeIdHash: nodeIdHash(taker.nodeId),
      nonce: randomBytes(16).toString("hex"),
      released: false,
    };
    media.window.copyInDurable(slotPageOffset(taker.slot), encodeOwnerSlot(page));
    // Before anything of the log is read: an old owner's append either is seen by what follows or sees this claim.
    media.window.copyInDurable(claimOffset(taker.slot), encodeClaim(claim));
    const guard = native.guardCreate(media.window.id, GUARD_OFFSET, media.guardBytes(), !media.coherent);
    const writer = new LogWriter(media, record, { taker, claim, page, guard });
    try {
      await writer.#begin(clean);
      return writer;
    } catch (error) {
      writer.#close();
      throw error;
    }
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
    const bytes = this.media.guardBytes();
    if (!this.#owns(bytes)) return false;
    native.guardUpdate(this.guard, bytes);
    return this.#guardHolds();
  }

  /** Says which ranges unsealed files of this node hold; replaces what it said before. OWNER_STALE. */
  publishReservations(ranges: readonly ReservedRange[]): void {
    this.#checkOwner();
    this.#writePage({ ...this.#page, reserved: coverRanges(ranges) });
  }

  /** Tells other nodes that a sealed file was written in place: its index, and a number that grows. OWNER_STALE. */
  recordChanged(file: number, generation: number, mtime: Time): void {
    this.#checkOwner();
    const { window } = this.media;
    const counter = window.load64(CHANGE_COUNTER_OFFSET);
    if (counter >= BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new FamfsError("VOLUME_RECORD_CORRUPT", `ring of changes: its counter is ${counter}`);
    }
    const sequence = Number(counter);
    const change = { sequence, epoch: this.taker.epoch, file, generation, mtime };
    window.copyInDurable(changeOffset(sequence), encodeChange(change));
    window.store64(CHANGE_COUNTER_OFFSET, counter + 1n);
    window.flush(CHANGE_COUNTER_OFFSET, 8);
  }

  /**
   * Gives the log up: the claim says that nothing more is appended under this epoch, so a successor need not wait.
   * The guard fails from now on. A no-op for a stale owner.
   */
  release(): void {
    if (!this.holds()) return;
    this.media.window.copyInDurable(claimOffset(this.taker.slot), encodeClaim({ ...this.#claim, released: true }));
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

  async #begin(clean: boolean): Promise<void> {
    const { media } = this;
    this.#checkOwner();
    const reader = media.createReader();
    const { end } = reader.end();
    const from = Math.min(media.position, end);
    let bad = reader.firstBad(from, end);
    // Stores of the old owner may still be on their way.
    for (let waitMs = 1; bad !== undefined && waitMs < ARRIVAL_MS; waitMs *= 2) {
      await sleep(waitMs);
      bad = reader.firstBad(from, end);
    }
    if (bad !== undefined) {
      throw new FamfsError("LOG_CORRUPT", `${bad.message}; the log cannot be continued, run fsck`, {
        details: { index: bad.index },
      });
    }
    this.#nextIndex = end;
    // In a full log no append can be on its way.
    if (!clean && this.freeSlots > 0) this.#writeRun();
    this.#storeCounters();
    this.#checkOwner();
  }

  /**
   * The last filler goes first: no late transaction reaches it, and it alone says all. The others are for stock tools,
   * which stop at a slot that is not valid.
   */
  #writeRun(): void {
    const { window, logOffset } = this.media;
    const first = this.#nextIndex;
    const { epoch } = this.taker;
    const { nodeIdHash } = this.#claim;
    const run = Array.from({ length: FILLER_RUN }, () => ({ type: "filler" as const, first, epoch, nodeIdHash }));
    const bytes = encodeEntries(first, run);
    const others = (FILLER_RUN - 1) * ENTRY_SIZE;
    this.#writePage({ ...this.#page, fillerIndex: first });
    this.#checkOwner();
    window.copyInDurable(logOffset + entryOffset(first + FILLER_RUN - 1), bytes.subarray(others));
    this.#checkOwner();
    window.copyInDurable(logOffset + entryOffset(first), bytes.subarray(0, others));
    this.#checkOwner();
    this.#nextIndex = first + FILLER_RUN;
  }

  /** Raises counters that a late store lowered, so that stock tools see all of the log too. */
  #storeCounters(): void {
    const { window, logOffset } = this.media;
    const next = BigInt(this.#nextIndex);
    if (window.load64(logOffset + LOG_COUNTERS_OFFSET) === next && this.#publishedIndex() === next) return;
    window.store64(logOffset + LOG_COUNTERS_OFFSET, next);
    window.store64(logOffset + LOG_NEXT_INDEX_OFFSET, next);
    window.flush(logOffset + LOG_COUNTERS_OFFSET, 16);
  }

  #append(entries: readonly LogEntry[]): number {
    const { media } = this;
    const index = this.#nextIndex;
    if (entries.length > this.freeSlots) {
      throw new FamfsError(
        "LOG_FULL",
        `the log of volume ${this.#record.name} has ${this.freeSlots} of ${media.logSlots} slots left, ${entries.length} are needed`,
      );
    }
    const bytes = encodeEntries(index, entries);
    // The first refusal may be due to claims that changed and leave the log ours; `holds` judges them.
    for (let tries = 0; tries < 8 && this.holds(); tries++) {
      if (this.#publishedIndex() > BigInt(index)) {
        throw stale(this.#record, `somebody appended: the log ends at ${this.#publishedIndex()}, not at ${index}`);
      }
      const outcome = this.#appendOnce(index, bytes);
      if (outcome === "stale") continue;
      // "unknown" although nothing speaks against us: the claims changed harmlessly, and the entries are there.
      if (outcome === "appended" || (this.holds() && this.#isThere(index, bytes))) {
        this.#nextIndex += entries.length;
        return index;
      }
      throw new FamfsError(
        "OWNER_STALE",
        `log entries ${index} to ${index + entries.length - 1} of volume ${this.#record.name} were written while the ` +
          "log was taken over: whether readers see them is for the new owner to decide",
        { details: { outcome: "unknown", index } },
      );
    }
    throw stale(this.#record, "another node took the log over");
  }

  #appendOnce(index: number, bytes: Uint8Array): "appended" | "stale" | "unknown" {
    const { window, logOffset } = this.media;
    try {
      return native.logAppend(window.id, logOffset, this.guard, index, bytes);
    } catch (error) {
      throw memoryError(this.media.window, `append of log entry ${index}, which is not published`, error);
    }
  }

  #publishedIndex(): bigint {
    return this.media.window.load64(this.media.logOffset + LOG_NEXT_INDEX_OFFSET);
  }

  #isThere(index: number, bytes: Uint8Array): boolean {
    const { window, logOffset } = this.media;
    const found = window.read(logOffset + entryOffset(index), bytes.byteLength);
    const count = BigInt(bytes.byteLength / ENTRY_SIZE);
    return Buffer.compare(found, bytes) === 0 && this.#publishedIndex() >= BigInt(index) + count;
  }

  #guardHolds(): boolean {
    try {
      return native.guardHolds(this.guard);
    } catch (error) {
      throw memoryError(this.media.window, `owner claims of volume ${this.#record.name}`, error);
    }
  }

  /** Whether `bytes`, a copy of the guard range, leave the log to this claim. */
  #owns(bytes: Uint8Array): boolean {
    const { identity, owner } = inspectGuardRange(bytes, this.#record.slots);
    return (
      identity?.volumeUuid === this.#record.volumeUuid &&
      identity.generation === this.#record.generation &&
      owner?.slot === this.#claim.slot &&
      owner.epoch === this.#claim.epoch &&
      owner.nonce === this.#claim.nonce &&
      !owner.released
    );
  }

  #checkOwner(): void {
    if (!this.holds()) throw stale(this.#record, "another node took the log over, or this one gave it up");
  }

  #writePage(page: OwnerSlot): void {
    this.media.window.copyInDurable(slotPageOffset(this.taker.slot), encodeOwnerSlot(page));
    this.#page = page;
  }
}

function stale(record: VolumeRecord, why: string): FamfsError {
  return new FamfsError("OWNER_STALE", `this node does not own the log of volume ${record.name}: ${why}`, {
    details: { outcome: "nothing appended" },
  });
}

/** An errno of the addon's log calls: they touch nothing but the memory. */
function memoryError(window: Window, what: string, error: unknown): FamfsError {
  return (error as { code?: unknown }).code === "EIO" ? window.noAnswer(what, error) : fromSystemError(error, what);
}
