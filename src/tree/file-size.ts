import { ALLOC_UNIT, type Extent, FamfsError, formatSize, hasCode, roundUp } from "../base/index.ts";
import type { TreeContext } from "./context.ts";
import { Growth } from "./growth.ts";
import { contentRanges, mapLayoutOf, NOTHING, splitContent } from "./layouts.ts";
import { type FileNode, pathOf, type SealedContent } from "./nodes.ts";
import { filledOf, pause, resume, sizeOf } from "./open-file.ts";
import { withRoom } from "./shortage.ts";
import { requirePossible, requireUnsealed, sizeSealed, writePastEnd } from "./size-errors.ts";
import { MAX_SLOTS_PER_NODE } from "./slots.ts";
import { extentsOf } from "./space.ts";
import { keptLength, totalLength, UnsealedFile } from "./unsealed-file.ts";

const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;
const FALLOC_ZERO_RANGE = 16;
const SEEK_DATA = 3;

/** Sizes of files: unsealed ones grow and shrink, sealed ones refuse. */
export class FileSizes {
  readonly #ctx: TreeContext;
  readonly #growth: Growth;

  constructor(ctx: TreeContext) {
    this.#ctx = ctx;
    this.#growth = new Growth(ctx);
  }

  /** Content of a new file, with the space of its first bytes. NO_SPACE. */
  newContent(): UnsealedFile {
    const { space, options } = this.#ctx;
    const content = new UnsealedFile(options.clock.monotonicMs());
    content.extents = [withRoom(this.#ctx, () => space.reserveUnit())];
    return content;
  }

  /**
   * Gives back all that `content` of `file` holds, when nothing of it is being zeroed and no worker is at it any
   * more. If `file` is open, its map shows something else already.
   */
  discard(file: FileNode, content: UnsealedFile): void {
    content.lost = true;
    this.#growth.forget(file);
    const { changing, open } = file;
    if (changing === undefined && open === undefined) {
      this.#giveBack(content);
      return;
    }
    const unused = open === undefined ? undefined : this.#ctx.options.maps.idle(open.map);
    Promise.all([changing, unused])
      .then(() => this.#giveBack(content))
      .catch((error) => {
        // A defect here must not end the process, which serves other volumes, too.
        this.#ctx.options.logger.error({ err: error, file: pathOf(file) }, "space of a dropped file stays taken");
      });
  }

  /** `file` was sealed. */
  sealed(file: FileNode): void {
    this.#growth.forget(file);
  }

  #giveBack(content: UnsealedFile): void {
    this.#ctx.space.release(content.extents);
    content.extents = [];
  }

  /** O_TRUNC. NO_SPACE, LOG_FULL; then the file is whole. */
  async empty(file: FileNode): Promise<void> {
    await this.#alone(file, async () => {
      const { content } = file;
      if (content.type === "unsealed") await this.#setSize(file, 0);
      else if (content.size > 0) {
        await this.#requireRoomForAsMuch(file, content);
        await this.#unseal(file);
      }
    });
    file.mtime = this.#ctx.now();
    file.ctime = file.mtime;
    if (file.content.type === "sealed") this.#ctx.staleTimes.add(file);
  }

  /**
   * The bytes of a sealed file stay taken until new ones are sealed. Should space end before that, a piece of the new
   * content would take the place of the old one: refused while the file is whole.
   */
  async #requireRoomForAsMuch(file: FileNode, { layout }: SealedContent): Promise<void> {
    const bytes = totalLength(extentsOf(layout));
    try {
      await this.#growth.requireFree(file, bytes);
    } catch (error) {
      if (!hasCode(error, "NO_SPACE")) throw error;
      throw new FamfsError(
        "NO_SPACE",
        `${pathOf(file)} keeps its ${formatSize(bytes)} until its new content is sealed, and there is no room for as ` +
          `many beside them: remove it first. ${error.message}`,
        { cause: error },
      );
    }
  }

  /** An empty new content for a file that is sealed. What the log has stays there until the new one seals. */
  async #unseal(file: FileNode): Promise<UnsealedFile> {
    const { transactions } = this.#ctx;
    const isNamed = file.parent !== undefined;
    if (isNamed) transactions.requireForNew(MAX_SLOTS_PER_NODE); // its name was used before
    const content = this.newContent();
    if (isNamed) transactions.promise(file, MAX_SLOTS_PER_NODE);
    file.content = content;
    const map = file.open?.map;
    if (map !== undefined) {
      const { maps } = this.#ctx.options;
      maps.setSize(map, 0);
      maps.setFilled(map, 0);
      maps.setLayout(map, NOTHING, 0);
      maps.setSealed(map, false);
      await maps.idle(map); // who was allowed to write the old content has written
      if (file.content === content && file.open?.map === map)
        maps.setLayout(map, mapLayoutOf(content), content.capacity);
    }
    this.#ctx.sealer.changed(file);
    return content;
  }

  /**
   * Makes [0, end) of an unsealed file, or of an empty one, writable: reserves, zeroes, extends the map. Answers up to
   * where a write from `offset` on can go: to the end of a sealed file, and without space to the end of what there
   * is. WRITE_PAST_END and NO_SPACE when that is nothing; OWNER_STALE.
   */
  async ensureCapacity(file: FileNode, offset: number, end: number): Promise<number> {
    requirePossible(file, end, "write");
    await this.settled(file);
    if (this.#isReady(file, offset, end)) return end;
    return await this.#alone(file, async () => {
      const { content } = file;
      if (content.type === "sealed" && content.size > 0) {
        if (offset >= content.size) throw writePastEnd(file, offset, end);
        return Math.min(end, content.size);
      }
      let fits = end;
      try {
        await this.#growTo(file, end, false);
      } catch (error) {
        fits = content.type === "unsealed" ? content.capacity : 0;
        if (!hasCode(error, "NO_SPACE") || offset >= fits) throw error;
      }
      await this.#growth.fillTo(file, requireUnsealed(file), offset);
      return fits;
    });
  }

  #isReady(file: FileNode, offset: number, end: number): boolean {
    const { content } = file;
    if (content.type === "sealed" || content.lost || end > content.capacity) return false;
    return offset <= filledOf(file, content, this.#ctx.options.maps);
  }

  /**
   * Zeroes what the last unit of a file about to seal has behind its data. Undefined when there is nothing to do.
   * OWNER_STALE.
   */
  fillLastUnit(file: FileNode): undefined | Promise<void> {
    const { content } = file;
    if (content.type === "sealed" || content.lost) return undefined;
    const end = this.#lastUnitEnd(file, content);
    if (end <= filledOf(file, content, this.#ctx.options.maps)) return undefined;
    return this.#alone(file, async () => {
      try {
        await this.#growth.fillTo(file, content, end);
      } catch (error) {
        if (file.content === content && !content.lost) throw error; // otherwise it will never seal
      }
    });
  }

  /** The same for one that nobody can write, while nothing may be waited for. */
  fillLastUnitNow(file: FileNode): void {
    const { content } = file;
    if (content.type === "unsealed" && !content.lost) {
      this.#growth.fillNow(file, content, this.#lastUnitEnd(file, content));
    }
  }

  #lastUnitEnd(file: FileNode, { capacity }: UnsealedFile): number {
    return Math.min(capacity, roundUp(sizeOf(file, this.#ctx.options.maps), ALLOC_UNIT));
  }

  /**
   * Room for [0, end). An empty file that is sealed becomes an unsealed one for it, and is sealed as before when
   * there is none: what is refused changes nothing.
   */
  async #growTo(file: FileNode, end: number, declared: boolean): Promise<UnsealedFile> {
    const before = file.content;
    if (before.type === "sealed") {
      if (before.size > 0) throw sizeSealed(file, end);
      await this.#unseal(file);
    }
    const content = requireUnsealed(file);
    try {
      if (end > content.capacity) await this.#growth.grow(file, content, end, declared);
    } catch (error) {
      if (before.type === "sealed" && file.content === content && !content.lost) this.#reseal(file, content, before);
      throw error;
    }
    return content;
  }

  #reseal(file: FileNode, content: UnsealedFile, before: SealedContent): void {
    file.content = before;
    this.#ctx.sealer.forget(file);
    this.#ctx.transactions.withdraw(file);
    this.showContent(file);
    this.discard(file, content);
  }

  /** Waits until no extents of `file` are added, cut off or zeroed. */
  async settled(file: FileNode): Promise<void> {
    while (file.changing !== undefined) await file.changing;
  }

  /** ftruncate and truncate. SIZE_SEALED, NO_SPACE, EFBIG. `signal` ends it while space is zeroed. */
  async setSize(file: FileNode, size: number, signal?: AbortSignal): Promise<void> {
    requirePossible(file, size, "truncate");
    await this.#alone(file, () => this.#setSize(file, size, signal));
  }

  async #setSize(file: FileNode, size: number, signal?: AbortSignal): Promise<void> {
    if (file.content.type === "sealed" && size === file.content.size) return;
    const before = sizeOf(file, this.#ctx.options.maps);
    const content = await this.#growTo(file, size, true);
    await this.#growth.fillTo(file, content, size, signal);
    this.#applySize(file, content, size);
    if (size < before) await this.#zeroUnwritten(file, contentRanges(content, size, before));
    if (size !== before) content.declaredSize = size > before ? size : undefined;
    this.#modified(file);
    this.#ctx.sealer.changed(file);
  }

  /** fallocate. NOT_SUPPORTED for modes that move data; EFBIG, SIZE_SEALED, NO_SPACE. */
  async allocate(file: FileNode, offset: number, length: number, mode: number, signal?: AbortSignal): Promise<void> {
    if (length <= 0) throw new FamfsError("INVALID_ARGUMENT", `fallocate of ${length} bytes at ${offset}`);
    const end = offset + length;
    requirePossible(file, end, "fallocate");
    await this.#alone(file, () => this.#allocate(file, offset, end, mode, signal));
  }

  /** What may refuse comes first, and then what changes bytes: a refused call leaves the file as it was. */
  async #allocate(
    file: FileNode,
    offset: number,
    end: number,
    mode: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { maps } = this.#ctx.options;
    const keepSize = (mode & FALLOC_KEEP_SIZE) !== 0;
    const what = mode & ~FALLOC_KEEP_SIZE;
    const punches = what === FALLOC_PUNCH_HOLE && keepSize;
    const zeroes = punches || what === FALLOC_ZERO_RANGE;
    if (what !== 0 && !zeroes) {
      throw new FamfsError("NOT_SUPPORTED", `fallocate mode 0x${mode.toString(16)} on ${pathOf(file)}`);
    }
    const grows = end > sizeOf(file, maps) && !punches;
    // Of a sealed file, only what it has can be zeroed: space behind its end would be of no use to it.
    const onlyInside = zeroes && keepSize && file.content.type === "sealed" && file.content.size > 0;
    const content = grows && !onlyInside ? await this.#growTo(file, end, true) : undefined;
    if (content !== undefined && !keepSize) await this.#growth.fillTo(file, content, end, signal);
    if (zeroes) await this.#zeroContent(file, offset, end);
    if (content === undefined) return;
    if (keepSize) {
      content.keptBytes = Math.max(content.keptBytes, end);
      return;
    }
    this.#applySize(file, content, Math.max(end, sizeOf(file, maps)));
    content.declaredSize = end;
    this.#modified(file);
    this.#ctx.sealer.changed(file);
  }

  /** The content as it is in the log again, for handles that are open. */
  showContent(file: FileNode): void {
    if (file.open === undefined) return;
    const { maps } = this.#ctx.options;
    const { map } = file.open;
    maps.setSize(map, 0);
    maps.setLayout(map, mapLayoutOf(file.content), file.content.size);
    maps.setSize(map, file.content.size);
    maps.setSealed(map, true);
  }

  /** SEEK_DATA and SEEK_HOLE: files have no holes that anybody could see, but the one at the end. */
  seek(file: FileNode, offset: number, whence: number): number {
    const size = sizeOf(file, this.#ctx.options.maps);
    if (offset < 0 || offset >= size) {
      throw new FamfsError("SYSTEM", `lseek to ${offset} in ${pathOf(file)} of ${size} bytes`, {
        details: { errno: "ENXIO", syscall: "lseek" },
      });
    }
    return whence === SEEK_DATA ? offset : size;
  }

  /** Gives back what an unsealed file has beyond its size and what it asked to keep. */
  async trim(file: FileNode): Promise<void> {
    const { content } = file;
    if (content.type !== "unsealed" || file.changing !== undefined) return;
    const { maps } = this.#ctx.options;
    const { open } = file;
    // The first unit stays, so that the first write cannot fail.
    const keep = () => Math.max(ALLOC_UNIT, keptLength(content, sizeOf(file, maps)));
    if (keep() >= content.capacity) return;
    if (open !== undefined) {
      pause(open, maps);
      await maps.idle(open.map);
    }
    // The wait may have sealed or closed it.
    if (file.content === content && file.open === open && file.changing === undefined) {
      const { head, tail } = splitContent(content, keep());
      this.#ctx.space.rename(content.extents, [...head.extents, ...tail]);
      Object.assign(content, head);
      content.filled = Math.min(filledOf(file, content, maps), content.capacity);
      if (open !== undefined) {
        maps.setFilled(open.map, content.filled);
        maps.setLayout(open.map, mapLayoutOf(content), content.capacity);
      }
      this.#ctx.space.release(tail);
    }
    if (open !== undefined) resume(open, maps);
  }

  #applySize(file: FileNode, content: UnsealedFile, size: number): void {
    content.size = size;
    content.sizeSeen = size;
    content.sizeChangedAtMs = this.#ctx.options.clock.monotonicMs();
    if (file.open !== undefined) this.#ctx.options.maps.setSize(file.open.map, size);
  }

  /** Zeroes [from, to) of what the file holds, within its size. */
  async #zeroContent(file: FileNode, from: number, to: number): Promise<void> {
    const end = Math.min(to, sizeOf(file, this.#ctx.options.maps));
    if (from >= end) return;
    await this.#zeroUnwritten(file, contentRanges(file.content, from, end));
    this.#modified(file);
  }

  /** One change of extents or zeroing at a time: the program that asked may be interrupted and go on without it. */
  async #alone<T>(file: FileNode, change: () => Promise<T>): Promise<T> {
    await this.settled(file);
    const done = change().finally(() => {
      file.changing = undefined;
    });
    // Others only wait for it: its failure belongs to the caller that asked for it.
    file.changing = done.then(
      () => {},
      () => {},
    );
    return await done;
  }

  /** Zeroes what workers could write: what is written meanwhile waits, so that it stays. */
  async #zeroUnwritten(file: FileNode, ranges: readonly Extent[]): Promise<void> {
    const { maps } = this.#ctx.options;
    const { open } = file;
    if (open !== undefined) {
      pause(open, maps);
      await maps.idle(open.map);
    }
    try {
      await this.#growth.zero(file.content, ranges);
    } finally {
      if (open !== undefined) resume(open, maps);
    }
  }

  #modified(file: FileNode): void {
    file.mtime = this.#ctx.now();
    file.ctime = file.mtime;
    if (file.open !== undefined) file.open.timesSetMs = this.#ctx.options.clock.wallMs();
    if (file.open !== undefined && file.content.type === "sealed") file.open.zeroed = true;
    if (file.content.type === "sealed") this.#ctx.staleTimes.add(file);
  }
}
