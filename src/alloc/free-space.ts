import { ALLOC_UNIT, type Extent, FamfsError, SortedList } from "../base/index.ts";

interface Hole {
  start: number;
  end: number;
}

/**
 * Free ranges in whole units, found by place and by length: each operation is a few binary searches, however large
 * the memory and however many the holes.
 */
export class FreeSpace {
  readonly #start: number;
  readonly #end: number;
  readonly #unit: number;
  readonly #byStart = new SortedList<Hole>((a, b) => a.start - b.start);
  readonly #byLength = new SortedList<Hole>((a, b) => a.end - a.start - (b.end - b.start) || a.start - b.start);
  #freeBytes = 0;

  /** All of `whole` is free, as far as it holds whole units on unit boundaries. */
  constructor(whole: Extent, unit: number = ALLOC_UNIT) {
    this.#unit = unit;
    this.#start = Math.ceil(whole.offset / unit) * unit;
    this.#end = Math.max(this.#start, Math.floor((whole.offset + whole.length) / unit) * unit);
    if (this.#end > this.#start) this.#addHole(this.#start, this.#end);
  }

  get freeBytes(): number {
    return this.#freeBytes;
  }

  get totalBytes(): number {
    return this.#end - this.#start;
  }

  get largestFreeBytes(): number {
    const hole = this.#byLength.last();
    return hole === undefined ? 0 : hole.end - hole.start;
  }

  /** Free ranges in order. */
  *holes(): Generator<Extent> {
    for (const { start, end } of this.#byStart) yield { offset: start, length: end - start };
  }

  /** Length of the smallest hole that holds `length` bytes: what best fit would cut. */
  bestHole(length: number): number | undefined {
    const hole = this.#bestHole(this.#units(length));
    return hole === undefined ? undefined : hole.end - hole.start;
  }

  /** A contiguous range from the smallest hole that holds it, the lowest of these; undefined when none does. */
  allocate(length: number): Extent | undefined {
    const wanted = this.#units(length);
    const hole = this.#bestHole(wanted);
    if (hole === undefined) return undefined;
    return this.#cut(hole, hole.start, wanted);
  }

  /** What `allocate` would answer; it stays free. */
  find(length: number): Extent | undefined {
    const wanted = this.#units(length);
    const hole = this.#bestHole(wanted);
    return hole === undefined ? undefined : { offset: hole.start, length: wanted };
  }

  /** That very range; false, and nothing changes, when any of it is taken or outside. */
  allocateAt(offset: number, length: number): boolean {
    const wanted = this.#units(length);
    const hole = this.#byStart.floor({ start: offset, end: offset });
    if (offset % this.#unit !== 0 || hole === undefined || hole.end < offset + wanted) return false;
    this.#cut(hole, offset, wanted);
    return true;
  }

  /** The lowest range of `length` bytes inside [from, to). */
  allocateWithin(from: number, to: number, length: number): Extent | undefined {
    const wanted = this.#units(length);
    const first = this.#byStart.floor({ start: from, end: from });
    for (const hole of this.#byStart.from(first ?? { start: from, end: from })) {
      if (hole.start + wanted > to) return undefined;
      const start = Math.ceil(Math.max(hole.start, from) / this.#unit) * this.#unit;
      if (start + wanted <= Math.min(hole.end, to)) return this.#cut(hole, start, wanted);
    }
    return undefined;
  }

  /**
   * At most `limit` ranges that hold `length` bytes together: one if there is such a hole, otherwise the largest
   * holes first and the rest where it fits best. undefined, and nothing changes, when that does not suffice.
   */
  allocateExtents(length: number, limit: number): Extent[] | undefined {
    const got: Extent[] = [];
    let missing = this.#units(length);
    while (missing > 0 && got.length < limit) {
      const piece = this.allocate(missing) ?? this.#largest();
      if (piece === undefined) break;
      got.push(piece);
      missing -= piece.length;
    }
    if (missing <= 0) return got;
    for (const piece of got) this.free(piece.offset, piece.length);
    return undefined;
  }

  /** Marks as taken what of the range is still free; units it only touches are taken whole. */
  take(offset: number, length: number): void {
    const start = Math.floor(offset / this.#unit) * this.#unit;
    const end = Math.ceil((offset + length) / this.#unit) * this.#unit;
    for (const hole of this.#overlapping(start, end)) {
      const from = Math.max(hole.start, start);
      this.#cut(hole, from, Math.min(hole.end, end) - from);
    }
  }

  /**
   * INTERNAL when any of the range is free already, outside, or no whole units: a defect that would give space twice.
   */
  free(offset: number, length: number): void {
    const end = offset + length;
    if (
      !(length > 0 && offset >= this.#start && end <= this.#end) ||
      offset % this.#unit !== 0 ||
      length % this.#unit !== 0 ||
      this.#overlapping(offset, end).length > 0
    ) {
      throw new FamfsError(
        "INTERNAL",
        `freed ${offset}+${length}, which is not wholly in use (space ${this.#start} to ${this.#end})`,
      );
    }
    const before = this.#byStart.floor({ start: offset, end: offset });
    const after = this.#byStart.ceiling({ start: end, end });
    let start = offset;
    let stop = end;
    if (before?.end === offset) {
      this.#removeHole(before);
      start = before.start;
    }
    if (after?.start === end) {
      this.#removeHole(after);
      stop = after.end;
    }
    this.#addHole(start, stop);
  }

  #units(length: number): number {
    if (!(length > 0 && Number.isSafeInteger(length))) {
      throw new FamfsError("INTERNAL", `asked for ${length} bytes of space`);
    }
    return Math.ceil(length / this.#unit) * this.#unit;
  }

  #bestHole(length: number): Hole | undefined {
    return this.#byLength.ceiling({ start: 0, end: length });
  }

  #largest(): Extent | undefined {
    const hole = this.#byLength.last();
    return hole === undefined ? undefined : this.#cut(hole, hole.start, hole.end - hole.start);
  }

  #overlapping(start: number, end: number): Hole[] {
    const found: Hole[] = [];
    const before = this.#byStart.floor({ start, end });
    if (before !== undefined && before.start < start && before.end > start) found.push(before);
    for (const hole of this.#byStart.from({ start, end })) {
      if (hole.start >= end) break;
      found.push(hole);
    }
    return found;
  }

  #cut(hole: Hole, start: number, length: number): Extent {
    this.#removeHole(hole);
    if (start > hole.start) this.#addHole(hole.start, start);
    if (start + length < hole.end) this.#addHole(start + length, hole.end);
    return { offset: start, length };
  }

  #addHole(start: number, end: number): void {
    const hole = { start, end };
    this.#byStart.add(hole);
    this.#byLength.add(hole);
    this.#freeBytes += end - start;
  }

  #removeHole(hole: Hole): void {
    this.#byStart.delete(hole);
    this.#byLength.delete(hole);
    this.#freeBytes -= hole.end - hole.start;
  }
}
