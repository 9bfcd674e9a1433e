import { SortedList } from "./sorted-list.ts";

/** [start, end), end > start. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

type MutableRange = { start: number; end: number };

/** A set of integers as disjoint ranges; ranges that touch are one. For what is in use, or what is free. */
export class RangeSet {
  readonly #ranges = new SortedList<MutableRange>((a, b) => a.start - b.start);
  #total = 0;

  /** Sum of all lengths. */
  get total(): number {
    return this.#total;
  }

  /** Number of separate ranges. */
  get count(): number {
    return this.#ranges.size;
  }

  /** Adds [start, end); false, and nothing changes, when any of it is there already. */
  add(start: number, end: number): boolean {
    const last = this.#ranges.last();
    if (last !== undefined && start >= last.end && end > start) {
      // Most ranges come in ascending order: no search.
      this.#total += end - start;
      if (start === last.end) last.end = end;
      else this.#ranges.add({ start, end });
      return true;
    }
    if (!(end > start) || this.firstOverlap(start, end) !== undefined) return false;
    this.#total += end - start;
    const before = this.#ranges.floor({ start, end });
    const after = this.#ranges.ceiling({ start: end, end });
    const touchesAfter = after?.start === end;
    if (before?.end === start) {
      if (touchesAfter) this.#ranges.delete(after);
      before.end = touchesAfter ? after.end : end;
    } else if (touchesAfter) {
      // Nothing lies between, so the order of the list stays as it is.
      after.start = start;
    } else {
      this.#ranges.add({ start, end });
    }
    return true;
  }

  /** Removes [start, end); false, and nothing changes, unless all of it is there. */
  delete(start: number, end: number): boolean {
    const range = this.#ranges.floor({ start, end });
    if (!(end > start) || range === undefined || range.end < end) return false;
    this.#total -= end - start;
    const rest = range.end;
    if (range.start === start) {
      if (rest === end) this.#ranges.delete(range);
      else range.start = end;
      return true;
    }
    range.end = start;
    if (rest > end) this.#ranges.add({ start: end, end: rest });
    return true;
  }

  /** Adds what of [start, end) is not there yet. */
  cover(start: number, end: number): void {
    let at = start;
    while (at < end) {
      const overlap = this.firstOverlap(at, end);
      if (overlap === undefined) {
        this.add(at, end);
        return;
      }
      if (overlap.start > at) this.add(at, overlap.start);
      at = overlap.end;
    }
  }

  /** The first range that has a part in [start, end). */
  firstOverlap(start: number, end: number): Range | undefined {
    const before = this.#ranges.floor({ start, end });
    if (before !== undefined && before.end > start) return before;
    const after = this.#ranges.ceiling({ start, end });
    return after !== undefined && after.start < end ? after : undefined;
  }

  /** Whether all of [start, end) is there. */
  contains(start: number, end: number): boolean {
    const range = this.#ranges.floor({ start, end });
    return range !== undefined && range.end >= end;
  }

  /** Ascending, from the one that holds `start` or the next. The set must not change meanwhile. */
  *from(start: number): Generator<Range> {
    const before = this.#ranges.floor({ start, end: start });
    if (before !== undefined && before.start < start && before.end > start) yield before;
    yield* this.#ranges.from({ start, end: start });
  }

  /** Ascending. */
  [Symbol.iterator](): Iterator<Range> {
    return this.#ranges[Symbol.iterator]();
  }
}
