import { allocateStrips, type FreeSpace, type Striping } from "../alloc/index.ts";
import { ALLOC_UNIT, type Extent, FamfsError, formatSize, MIB, roundDown, roundUp } from "../base/index.ts";
import { coverRanges, type Layout, MAX_EXTENTS_EXTENDED, type SealedNode } from "../format/index.ts";
import type { LogWriter } from "./ports.ts";
import { totalLength } from "./unsealed-file.ts";

/** An extent that can grow in place grows by its size, but not by more than this; otherwise it may be more. */
const MAX_STEP = 64 * MIB;
/**
 * Reservations are published this far ahead, so that not every create rewrites the owner slot; but only so much of
 * the volume, because a successor leaves it alone.
 */
const PUBLISH_AHEAD = 64 * ALLOC_UNIT;
const PUBLISH_AHEAD_SHARE = 1 / 64;

interface Removed {
  readonly extents: readonly Extent[];
  /** Handles of this node that still read it. */
  readonly inUse: () => boolean;
  /** Still marked as taken in `free`, because it was removed while this node was owner. */
  readonly taken: boolean;
}

export interface SpaceOptions {
  /** What the log leaves of the region, in whole units. */
  readonly data: Extent;
  readonly createFree: () => FreeSpace;
  /** All nodes in the log. */
  readonly live: () => Iterable<SealedNode>;
  /** Whether no other node can hold files of this volume open. */
  readonly exclusive: () => boolean;
}

/**
 * The space of the volume. A node that is not the owner only counts; the owner has the free ranges, made anew at each
 * take-over: what the log uses, what others reserved, and what was removed but may still be read somewhere.
 */
export class Space {
  readonly #options: SpaceOptions;
  #free: FreeSpace | undefined;
  #writer: LogWriter | undefined;
  #sealedBytes = 0;
  #removed: Removed[] = [];
  /** Extents of unsealed files and what they are about to get. */
  readonly #reserved = new Set<Extent>();
  #published: readonly Extent[] = [];
  /** `free` leaves alone what other nodes hold for unsealed files. */
  #withForeign = false;

  constructor(options: SpaceOptions) {
    this.#options = options;
  }

  get totalBytes(): number {
    return this.#options.data.length;
  }

  get freeBytes(): number {
    if (this.#unknown !== undefined) return 0;
    return Math.max(0, this.#free?.freeBytes ?? this.#options.data.length - this.#sealedBytes);
  }

  /** This node became owner. */
  attach(writer: LogWriter): void {
    this.#writer = writer;
    this.#published = [];
    this.#rebuild();
    this.#publish([...this.#reserved]);
  }

  /** This node is owner no more; reservations of files that are still open stay in its slot. */
  detach(): void {
    this.#free = undefined;
    this.#withForeign = false;
    this.#writer = undefined;
    this.#removed = this.#removed.map((entry) => ({ ...entry, taken: false }));
  }

  /** The log was read again. */
  recount(): void {
    this.#sealedBytes = 0;
    for (const node of this.#options.live()) this.sealedAdded(node);
  }

  sealedAdded(node: SealedNode): void {
    this.#sealedBytes += occupiedBytes(node.layout);
  }

  /** The log has no more use for the extents of `node`; they come back when nobody can hold them. */
  sealedRemoved(node: SealedNode, inUse: () => boolean): void {
    const extents = extentsOf(node.layout);
    if (extents.length === 0) return;
    this.#sealedBytes -= totalLength(extents);
    this.#removed.push({ extents, inUse, taken: this.#free !== undefined });
    this.reclaim();
  }

  /** Gives back what was removed and can no longer be held. */
  reclaim(): void {
    if ((this.#removed.length === 0 && !this.#withForeign) || !this.#options.exclusive()) return;
    const kept: Removed[] = [];
    let stale = this.#withForeign;
    for (const entry of this.#removed) {
      if (entry.inUse()) kept.push(entry);
      else if (!entry.taken) stale = true;
      else for (const extent of entry.extents) this.#free?.free(extent.offset, extent.length);
    }
    this.#removed = kept;
    if (stale && this.#free !== undefined) this.#rebuild();
  }

  /** NO_SPACE unless `bytes` are free now, in however many pieces. */
  requireFree(bytes: number): void {
    if (this.#owned().freeBytes < bytes) throw this.#noSpace(bytes);
  }

  /** One unit for a new file. NO_SPACE. */
  reserveUnit(): Extent {
    const extent = this.#owned().allocate(ALLOC_UNIT);
    if (extent === undefined) throw this.#noSpace(ALLOC_UNIT);
    this.#reserve([extent]);
    return extent;
  }

  /**
   * Extents that make a file of `extents` hold `length` bytes: in place where the next range is free. Otherwise
   * doubling, until as much comes at a time as lets the extents that it may still have take all that is free. NO_SPACE.
   */
  reserveGrowth(extents: readonly Extent[], length: number): Extent[] {
    const free = this.#owned();
    const have = totalLength(extents);
    const needed = roundUp(length, ALLOC_UNIT) - have;
    const got: Extent[] = [];
    let missing = needed;
    const last = extents.at(-1);
    if (last !== undefined) {
      const end = last.offset + last.length;
      const step = roundUp(Math.max(needed, Math.min(have, MAX_STEP)), ALLOC_UNIT);
      const size = [step, ...halvings(needed)].find((candidate) => free.allocateAt(end, candidate));
      if (size !== undefined) {
        got.push({ offset: end, length: size });
        missing -= size;
      }
    }
    for (let slots = MAX_EXTENTS_EXTENDED - extents.length; missing > 0 && slots > 0; slots--) {
      const step = Math.min(have, Math.max(MAX_STEP, roundUp(free.freeBytes / slots, ALLOC_UNIT)));
      const extent = first([Math.max(missing, step), ...halvings(missing)], (size) => free.allocate(size));
      if (extent === undefined) break;
      got.push(extent);
      missing -= extent.length;
    }
    if (missing > 0) {
      for (const extent of got) free.free(extent.offset, extent.length);
      throw this.#noSpace(needed);
    }
    this.#reserve(got);
    return got;
  }

  /** Strips for a file of `length` bytes, each in another bucket; undefined when too few buckets have room. */
  reserveStrips(length: number, striping: Striping): Extent[] | undefined {
    const place = { whole: this.#options.data, random: Math.random };
    const strips = allocateStrips(this.#owned(), length, striping, place);
    if (strips !== undefined) this.#reserve(strips);
    return strips;
  }

  /** `length` bytes right behind each strip; undefined, and nothing changes, when one of them is not free. */
  reserveBehind(strips: readonly Extent[], length: number): Extent[] | undefined {
    const free = this.#owned();
    const got: Extent[] = [];
    for (const strip of strips) {
      const offset = strip.offset + strip.length;
      if (!free.allocateAt(offset, length)) {
        for (const extent of got) free.free(extent.offset, extent.length);
        return undefined;
      }
      got.push({ offset, length });
    }
    this.#reserve(got);
    return got;
  }

  /** Extents of an unsealed file that nobody needs any more. */
  release(extents: readonly Extent[]): void {
    for (const extent of extents) {
      this.#reserved.delete(extent);
      this.#free?.free(extent.offset, extent.length);
    }
  }

  /** The unsealed file of `before` has `after` now: what it no longer has is not freed here. */
  rename(before: readonly Extent[], after: readonly Extent[]): void {
    for (const extent of before) this.#reserved.delete(extent);
    for (const extent of after) this.#reserved.add(extent);
  }

  /** Extents that are in the log from now on. */
  sealed(extents: readonly Extent[]): void {
    for (const extent of extents) this.#reserved.delete(extent);
  }

  /** Brings the published reservations down to what is reserved: after files were sealed, not for each request. */
  settle(): void {
    if (this.#writer !== undefined && this.#published.length > 0) this.#publish([...this.#reserved]);
  }

  #reserve(extents: readonly Extent[]): void {
    for (const extent of extents) this.#reserved.add(extent);
    if (extents.every((extent) => this.#published.some((range) => covers(range, extent)))) return;
    // The published ranges cover what is reserved, and are a few ranges, however many files there are.
    this.#publish([...this.#published, ...extents.map((extent) => this.#ahead(extent))]);
  }

  #publish(ranges: readonly Extent[]): void {
    const covering = coverRanges(ranges);
    this.#writer?.publishReservations(covering);
    this.#published = covering;
  }

  #ahead(extent: Extent): Extent {
    const { offset, length } = this.#options.data;
    const beyond = Math.min(PUBLISH_AHEAD, roundDown(length * PUBLISH_AHEAD_SHARE, ALLOC_UNIT));
    return { offset: extent.offset, length: Math.min(extent.length + beyond, offset + length - extent.offset) };
  }

  #rebuild(): void {
    const free = this.#options.createFree();
    for (const node of this.#options.live())
      for (const extent of extentsOf(node.layout)) free.take(extent.offset, extent.length);
    const exclusive = this.#options.exclusive();
    // Nodes that have it staged no more (unstaged, booted, declared gone) lost their unsealed files with it.
    const foreign = exclusive ? [] : (this.#writer?.foreignReservations ?? []);
    this.#withForeign = foreign.length > 0;
    for (const extent of foreign) free.take(extent.offset, extent.length);
    for (const extent of this.#reserved) free.take(extent.offset, extent.length);
    this.#removed = this.#removed.filter((entry) => !exclusive || entry.inUse());
    for (const entry of this.#removed) for (const extent of entry.extents) free.take(extent.offset, extent.length);
    // A range taken here may be in the log as well, so it is not freed by itself: `reclaim` makes all anew.
    this.#removed = this.#removed.map((entry) => ({ ...entry, taken: false }));
    this.#free = free;
  }

  #owned(): FreeSpace {
    if (this.#free === undefined) throw new FamfsError("INTERNAL", "space was asked for without owning the log");
    const unknown = this.#unknown;
    if (unknown !== undefined) {
      throw new FamfsError(
        "NO_SPACE",
        `${unknown}: what its node holds for unsealed files is not known. New space is given when that node has ` +
          "written to the volume again, or when no other node has the volume staged",
      );
    }
    return this.#free;
  }

  /** Why no range can be said to be free: a node that may live holds nobody knows which. */
  get #unknown(): string | undefined {
    const unknown = this.#writer?.unknownReservations[0];
    return unknown === undefined || this.#options.exclusive() ? undefined : unknown;
  }

  #noSpace(bytes: number): FamfsError {
    const free = this.#free;
    return new FamfsError(
      "NO_SPACE",
      `${formatSize(bytes)} do not fit: ${formatSize(free?.freeBytes ?? 0)} are free, ` +
        `at most ${formatSize(free?.largestFreeBytes ?? 0)} in one piece`,
    );
  }
}

/** What a layout occupies of the primary region; replay takes only whole allocation units of the volume. */
export function extentsOf(layout: Layout | undefined): Extent[] {
  if (layout === undefined) return [];
  const extents = layout.type === "simple" ? layout.extents : layout.strips;
  return extents.filter((extent) => extent.devindex === 0).map(({ offset, length }) => ({ offset, length }));
}

/** Bytes of `extentsOf`, for each entry of a log. */
function occupiedBytes(layout: Layout | undefined): number {
  if (layout === undefined) return 0;
  let sum = 0;
  for (const extent of layout.type === "simple" ? layout.extents : layout.strips) {
    if (extent.devindex === 0) sum += extent.length;
  }
  return sum;
}

/** `length`, then half of it and so on, in whole units down to one. */
function halvings(length: number): number[] {
  const sizes: number[] = [];
  for (let size = length; size > ALLOC_UNIT; size = roundUp(Math.floor(size / 2), ALLOC_UNIT)) {
    if (size === sizes.at(-1)) break;
    sizes.push(size);
  }
  sizes.push(ALLOC_UNIT);
  return sizes;
}

function first<T, R>(values: readonly T[], attempt: (value: T) => R | undefined): R | undefined {
  for (const value of values) {
    const result = attempt(value);
    if (result !== undefined) return result;
  }
  return undefined;
}

function covers(range: Extent, extent: Extent): boolean {
  return range.offset <= extent.offset && extent.offset + extent.length <= range.offset + range.length;
}
