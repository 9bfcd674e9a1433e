import { ALLOC_UNIT, type Extent, roundUp } from "../base/index.ts";

/**
 * The content of a file that is not in the log yet: extents that this node reserved. Its first `filled` bytes were
 * written or zeroed, and the size never exceeds them. What lies behind may be another's former data: it is zeroed
 * before anything makes it part of the file, and the rest of the last unit before the file seals.
 */
export class UnsealedFile {
  readonly type = "unsealed";
  /** In order of file offset; with `chunkSize` the strips, all of one length. */
  extents: Extent[] = [];
  /** Set while the content is interleaved (format 6.5). */
  chunkSize: number | undefined;
  /** While the file has a map, the map knows these two better. */
  size = 0;
  filled = 0;
  /** FALLOC_FL_KEEP_SIZE: bytes to keep until the last close though they are beyond the size. */
  keptBytes = 0;
  /**
   * The size that ftruncate or fallocate gave it, when that made it longer. While it has this very size it seals
   * though it stays open; a write past it takes the declaration back.
   */
  declaredSize: number | undefined;
  /** Monotonic; when the size was last seen to change. */
  sizeChangedAtMs: number;
  /** Size at `sizeChangedAtMs`. */
  sizeSeen = 0;
  /** The ownership under which it was made is gone: it will never be in the log. */
  lost = false;

  constructor(nowMs: number) {
    this.sizeChangedAtMs = nowMs;
  }

  get capacity(): number {
    return totalLength(this.extents);
  }
}

/** What `content`, at its `size` of now, keeps of its capacity when space is short. */
export function keptLength(content: UnsealedFile, size: number): number {
  return roundUp(Math.max(size, content.keptBytes), ALLOC_UNIT);
}

export function totalLength(extents: readonly Extent[]): number {
  let sum = 0;
  for (const extent of extents) sum += extent.length;
  return sum;
}

/** The parts of [from, to) of a file, as ranges of the region. */
export function rangesOf(extents: readonly Extent[], from: number, to: number): Extent[] {
  const ranges: Extent[] = [];
  let start = 0;
  for (const extent of extents) {
    const end = start + extent.length;
    const low = Math.max(from, start);
    const high = Math.min(to, end);
    if (low < high) ranges.push({ offset: extent.offset + (low - start), length: high - low });
    start = end;
  }
  return ranges;
}

/** The first `length` bytes of `extents`, and the rest. */
export function splitExtents(extents: readonly Extent[], length: number): { head: Extent[]; tail: Extent[] } {
  return { head: rangesOf(extents, 0, length), tail: rangesOf(extents, length, totalLength(extents)) };
}

/** Adjacent ranges become one extent: fewer extents, same bytes. */
export function mergeAdjacent(extents: readonly Extent[]): Extent[] {
  const merged: Extent[] = [];
  for (const extent of extents) {
    const last = merged.at(-1);
    if (last !== undefined && last.offset + last.length === extent.offset) {
      merged[merged.length - 1] = { offset: last.offset, length: last.length + extent.length };
    } else merged.push(extent);
  }
  return merged;
}
