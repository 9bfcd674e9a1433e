import {
  CLAIM_LINES_LENGTH,
  CLAIM_LINES_OFFSET,
  type Claim,
  compareBallots,
  guardOffset,
  highest,
  highestPlace,
  inspectClaimLines,
  LINE,
  OWNER_RING_SIZE,
  ownerRingCounterOffset,
  ownerRingOffset,
  PLACE_LINES_LENGTH,
  PLACE_LINES_OFFSET,
  type PlaceLine,
  placeOffset,
  type RingReading,
  readOwnerRing,
} from "../format/index.ts";
import type { Window } from "./window.ts";

/** How far a reader is with what was changed in place. */
export interface ChangesSeen {
  readonly next: number;
  /** The last term from which all contents were to be doubted, as a place line has it. Layout 2. */
  readonly doubt?: string;
}

export type ChangesFound =
  | {
      readonly type: "changes";
      readonly seen: ChangesSeen;
      readonly changes: Extract<RingReading, { type: "changes" }>["changes"];
    }
  /** Any file may have changed. */
  | { readonly type: "overflow"; readonly seen: ChangesSeen };

const NEVER: ChangesSeen = { next: 0, doubt: "0.0" };
/** Of a place line: what changes with each one. */
const SEQUENCE = 24;

/** Who owns the log of a volume of layout 2, as a reader sees it: one line is loaded while nobody claims. */
export class OwnerView {
  readonly #window: Window;
  readonly #coherent: boolean;
  #guard: Uint8Array | undefined;
  #place: PlaceLine | undefined;
  #claim: Claim | undefined;

  constructor(window: Window, coherent: boolean) {
    this.#window = window;
    this.#coherent = coherent;
  }

  /**
   * The highest place line. After a claim the lines are read at each look until the claim's own place is there: a guard
   * line that was seen once never comes back, since each taker stores its own nonce once.
   */
  place(): PlaceLine | undefined {
    const guard = this.#read(guardOffset, LINE);
    if (this.#guard !== undefined && this.#isSettled() && Buffer.compare(guard, this.#guard) === 0) return this.#place;
    const { claims } = inspectClaimLines(this.#read(CLAIM_LINES_OFFSET, CLAIM_LINES_LENGTH));
    this.#claim = highest(claims, ({ ballot }) => ballot);
    this.#place = highestPlace(this.#read(PLACE_LINES_OFFSET, PLACE_LINES_LENGTH));
    this.#guard = guard;
    return this.#place;
  }

  /** Where a word is that changes when there is something new, besides the log's counter. */
  words(): readonly number[] {
    const place = this.place();
    const claimed = this.#claim?.ballot.slot;
    if (!this.#isSettled() && claimed !== undefined) {
      return [guardOffset, placeOffset(claimed, 0) + SEQUENCE, placeOffset(claimed, 1) + SEQUENCE];
    }
    return [guardOffset, ...(place === undefined ? [] : [ownerRingCounterOffset(place.ballot.slot)])];
  }

  /** What changed in place since `seen`; undefined begins now. */
  changesSince(seen: ChangesSeen | undefined): ChangesFound {
    const place = this.place();
    if (place === undefined) return { type: "changes", seen: NEVER, changes: [] };
    const { slot } = place.ballot;
    const counterAt = ownerRingCounterOffset(slot);
    if (!this.#coherent) this.#window.invalidate(counterAt, 8);
    const counter = this.#window.load64(counterAt);
    const next = counter > BigInt(Number.MAX_SAFE_INTEGER) ? 0 : Number(counter);
    const doubt = `${place.doubt.round}.${place.doubt.slot}`;
    if (seen === undefined) return { type: "changes", seen: { next, doubt }, changes: [] };
    if (seen.doubt !== doubt) return { type: "overflow", seen: { next, doubt } };
    if (next === seen.next) return { type: "changes", seen, changes: [] };
    const reading = readOwnerRing(this.#read(ownerRingOffset(slot), OWNER_RING_SIZE), slot, seen.next);
    const now = { next: reading.next, doubt };
    return reading.type === "overflow"
      ? { type: "overflow", seen: now }
      : { type: "changes", seen: now, changes: reading.changes };
  }

  #isSettled(): boolean {
    if (this.#claim === undefined) return this.#place === undefined;
    return this.#place !== undefined && compareBallots(this.#place.ballot, this.#claim.ballot) >= 0;
  }

  #read(offset: number, length: number): Uint8Array {
    if (!this.#coherent) this.#window.invalidate(offset, length);
    return this.#window.read(offset, length);
  }
}
