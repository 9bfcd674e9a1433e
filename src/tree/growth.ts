import { setImmediate as yieldToOthers } from "node:timers/promises";
import { stripLength } from "../alloc/index.ts";
import { ALLOC_UNIT, type Extent, hasCode, roundUp } from "../base/index.ts";
import type { TreeContext } from "./context.ts";
import { contentRanges, mapLayoutOf } from "./layouts.ts";
import type { FileNode } from "./nodes.ts";
import { filledOf, pause, resume, sizeOf } from "./open-file.ts";
import { stale } from "./ownership.ts";
import { withRoom } from "./shortage.ts";
import { mergeAdjacent, rangesOf, totalLength, type UnsealedFile } from "./unsealed-file.ts";

/**
 * How unsealed files get more bytes: reserved, then shown to their map. Simple extents are not zeroed, since what
 * comes next is nearly always a write; `fillTo` zeroes what is not written. The caller sees to it that no two changes
 * of one file's extents run at a time.
 */
export class Growth {
  readonly #ctx: TreeContext;
  /** Unsealed files that were given more than the unit of their creation: some of it may be more than they need. */
  readonly #grown = new Set<FileNode>();

  constructor(ctx: TreeContext) {
    this.#ctx = ctx;
  }

  /** `file` is sealed, or its content was dropped. */
  forget(file: FileNode): void {
    this.#grown.delete(file);
  }

  /**
   * Makes [0, end) writable. `declared`: the size is said before the data comes, so that the file is interleaved
   * where its volume asks for that. NO_SPACE, OWNER_STALE.
   */
  async grow(file: FileNode, content: UnsealedFile, end: number, declared: boolean): Promise<void> {
    if (content.chunkSize !== undefined) {
      if (!(await this.#addStripes(file, content, end))) await this.#moveToSimple(file, content, end);
      return;
    }
    const hasData = filledOf(file, content, this.#ctx.options.maps) > 0;
    if (declared && !hasData && (await this.#interleave(file, content, end))) return;
    await this.#addExtents(file, content, end);
  }

  /**
   * Makes sure that [0, to), which the file has room for, was written or zeroed. Undefined when it is already.
   * Writers wait meanwhile, so that what they write stays. OWNER_STALE; the reason of `signal` when that is aborted
   * first, and then nothing is to be seen of it.
   */
  fillTo(file: FileNode, content: UnsealedFile, to: number, signal?: AbortSignal): undefined | Promise<void> {
    return to <= filledOf(file, content, this.#ctx.options.maps) ? undefined : this.#fillTo(file, content, to, signal);
  }

  async #fillTo(file: FileNode, content: UnsealedFile, to: number, signal?: AbortSignal): Promise<void> {
    const { maps } = this.#ctx.options;
    const { open } = file;
    if (open !== undefined) {
      pause(open, maps);
      await maps.idle(open.map);
    }
    try {
      const from = filledOf(file, content, maps);
      // Whole units cost a simulated device nothing, parts of them do.
      const end = Math.min(content.capacity, roundUp(to, ALLOC_UNIT));
      if (from >= end) return;
      await this.zero(content, contentRanges(content, from, end), signal);
      if (content.lost || file.content !== content) throw stale();
      this.#setFilled(file, content, end);
    } finally {
      if (open !== undefined) resume(open, maps);
    }
  }

  /** `fillTo` at once, for at most a unit of a file that nobody is writing. */
  fillNow(file: FileNode, content: UnsealedFile, end: number): void {
    const from = filledOf(file, content, this.#ctx.options.maps);
    if (from >= end) return;
    this.#requireMemory(content);
    for (const { offset, length } of contentRanges(content, from, end)) {
      this.#ctx.options.memory.zeroNow(offset, length);
    }
    this.#setFilled(file, content, end);
  }

  #setFilled(file: FileNode, content: UnsealedFile, bytes: number): void {
    if (file.open !== undefined) this.#ctx.options.maps.setFilled(file.open.map, bytes);
    content.filled = bytes;
  }

  #setAllFilled(file: FileNode, content: UnsealedFile): void {
    this.#setFilled(file, content, content.capacity);
  }

  /** Zeroes `ranges` for `content`. OWNER_STALE, and nothing more is touched, once they may be another's. */
  async zero(content: FileNode["content"], ranges: readonly Extent[], signal?: AbortSignal): Promise<void> {
    const check = () => {
      signal?.throwIfAborted();
      this.#requireMemory(content);
    };
    for (const range of ranges) {
      const pending = this.#ctx.options.memory.zero(range.offset, range.length, check);
      if (pending !== undefined) await pending;
    }
  }

  /** What data writes check too: with `dataWriters: any` sealed files need the region alone, all else the log. */
  #requireMemory(content: FileNode["content"]): void {
    const { options, settings, ownership } = this.#ctx;
    const needsLog = content.type === "unsealed" || settings.dataWriters !== "any";
    if (needsLog ? ownership.yieldingWriter?.holds() !== true : !options.memory.isCurrent()) throw stale();
  }

  async #addExtents(file: FileNode, content: UnsealedFile, end: number): Promise<void> {
    const { space } = this.#ctx;
    if (roundUp(end, ALLOC_UNIT) <= totalLength(content.extents)) return;
    const added = await this.#reserve(file, content.extents, end);
    if (content.lost || file.content !== content) {
      space.release(added);
      throw stale();
    }
    const before = [...content.extents, ...added];
    content.extents = mergeAdjacent(before);
    space.rename(before, content.extents);
    this.#show(file, content);
  }

  /** Strips for a file without data; false when it has to be simple. */
  async #interleave(file: FileNode, content: UnsealedFile, end: number): Promise<boolean> {
    const { space, settings } = this.#ctx;
    const { striping } = settings;
    if (striping === undefined || end < striping.chunkSize) return false;
    let strips = space.reserveStrips(end, striping);
    if (strips === undefined) {
      space.reclaim();
      strips = space.reserveStrips(end, striping);
    }
    if (strips === undefined) return false;
    await this.#fill(file, content, strips);
    const { open } = file;
    if (open !== undefined) {
      pause(open, this.#ctx.options.maps);
      await this.#ctx.options.maps.idle(open.map);
    }
    try {
      if (filledOf(file, content, this.#ctx.options.maps) > 0) {
        space.release(strips); // somebody has written meanwhile
        return false;
      }
      const before = content.extents;
      content.extents = strips;
      content.chunkSize = striping.chunkSize;
      this.#show(file, content);
      this.#setAllFilled(file, content);
      space.release(before);
    } finally {
      if (open !== undefined) resume(open, this.#ctx.options.maps);
    }
    return true;
  }

  /** Further stripes in place, right behind every strip; false, and nothing changes, when one of them is stuck. */
  async #addStripes(file: FileNode, content: UnsealedFile, end: number): Promise<boolean> {
    const { space } = this.#ctx;
    const { extents: strips, chunkSize } = content;
    const [first] = strips;
    if (chunkSize === undefined || first === undefined) return false;
    const more = stripLength(end, { nstrips: strips.length, chunkSize }) - first.length;
    const added = space.reserveBehind(strips, more);
    if (added === undefined) return false;
    await this.#fill(file, content, added);
    content.extents = strips.map(({ offset, length }) => ({ offset, length: length + more }));
    space.rename([...strips, ...added], content.extents);
    this.#show(file, content);
    this.#setAllFilled(file, content);
    return true;
  }

  /** The content goes on in simple extents. Writers wait; the strips are free when nobody reads them any more. */
  async #moveToSimple(file: FileNode, content: UnsealedFile, end: number): Promise<void> {
    const { space, options } = this.#ctx;
    const { maps } = options;
    const strips = content.extents;
    const extents = await this.#reserve(file, [], end);
    for (let moved = false; !moved; ) {
      const { open } = file;
      if (open !== undefined) pause(open, maps);
      try {
        if (open !== undefined) await maps.idle(open.map);
        await yieldToOthers(); // whoever was allowed to write before has written
        await this.#fill(file, content, extents, () =>
          this.#copy(content, contentRanges(content, 0, sizeOf(file, maps)), extents),
        );
        moved = file.open === open; // otherwise it was opened or closed, and may have been written
        if (!moved) continue;
        content.extents = mergeAdjacent(extents);
        content.chunkSize = undefined;
        space.rename(extents, content.extents);
        this.#show(file, content);
        this.#setAllFilled(file, content);
      } finally {
        if (open !== undefined) resume(open, maps);
      }
    }
    if (file.open !== undefined) await maps.idle(file.open.map);
    space.release(strips);
  }

  /** Zeroes what was reserved for `content`, then `more`; gives it back when that fails or is in vain. */
  async #fill(
    file: FileNode,
    content: UnsealedFile,
    extents: readonly Extent[],
    more: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    try {
      await this.zero(content, extents);
      await more();
      if (content.lost || file.content !== content) throw stale();
    } catch (error) {
      this.#ctx.space.release(extents);
      throw error;
    }
  }

  /** Copies `from`, in order, to the start of `to`. */
  async #copy(content: UnsealedFile, from: readonly Extent[], to: readonly Extent[]): Promise<void> {
    const check = () => this.#requireMemory(content);
    let done = 0;
    for (const { offset, length } of from) {
      let copied = 0;
      for (const part of rangesOf(to, done, done + length)) {
        const pending = this.#ctx.options.memory.copy(offset + copied, part.offset, part.length, check);
        if (pending !== undefined) await pending;
        copied += part.length;
      }
      done += length;
    }
  }

  #show(file: FileNode, content: UnsealedFile): void {
    this.#grown.add(file);
    if (file.open !== undefined)
      this.#ctx.options.maps.setLayout(file.open.map, mapLayoutOf(content), content.capacity);
  }

  /** NO_SPACE unless `bytes` are free for `file`; nothing is reserved. */
  async requireFree(file: FileNode, bytes: number): Promise<void> {
    await this.#orTrimmed(file, () => this.#ctx.space.requireFree(bytes));
  }

  #reserve(file: FileNode, base: readonly Extent[], end: number): Promise<Extent[]> {
    return this.#orTrimmed(file, () => this.#ctx.space.reserveGrowth(base, end));
  }

  /** When space is short, what others hold beyond their size comes back before `file` is refused. */
  async #orTrimmed<T>(file: FileNode, attempt: () => T): Promise<T> {
    try {
      return withRoom(this.#ctx, attempt);
    } catch (error) {
      if (!hasCode(error, "NO_SPACE")) throw error;
    }
    for (const other of [...this.#grown]) if (other !== file) await this.#ctx.sizes.trim(other);
    return attempt();
  }
}
