import { FamfsError, type RequestContext, unlessAborted } from "../base/index.ts";
import type { TreeContext } from "./context.ts";
import { mapLayoutOf } from "./layouts.ts";
import { type FileNode, pathOf } from "./nodes.ts";
import { type Handle, type OpenFile, pause, refreshTimes, resume } from "./open-file.ts";
import { decideOpen } from "./open-policy.ts";
import { stale } from "./ownership.ts";
import { type Place, placeOf } from "./places.ts";
import { letGo } from "./removed.ts";
import { writePastEnd } from "./size-errors.ts";

const O_ACCMODE = 3;
const O_TRUNC = 0o1000;

export interface OpenedFile {
  readonly handle: number;
  readonly map: number;
  readonly directIo: boolean;
  readonly keepCache: boolean;
  readonly writable: boolean;
  /** Closing waits for FLUSH, which can fail. */
  readonly reportsAtClose: boolean;
}

/** A write of [offset, end) that the file map does not allow yet. */
export interface WriteToCome {
  readonly offset: number;
  readonly end: number;
  /** The kernel writes back pages that were changed by a mapping; through which handle says nothing. */
  readonly isWriteBack: boolean;
}

/** Open handles: who may write, what the close of a file brings about. */
export class OpenFiles {
  readonly #ctx: TreeContext;
  readonly #handles = new Map<number, Handle>();
  readonly #paused = new Set<OpenFile>();
  #nextHandle = 1;
  /** Handles that were opened under the grant and keep it. */
  #granted = 0;

  constructor(ctx: TreeContext) {
    this.#ctx = ctx;
  }

  get count(): number {
    return this.#handles.size;
  }

  /** Whether files are open for write: the grant stays here. */
  get isBusy(): boolean {
    return this.#granted > 0;
  }

  handle(id: number): Handle {
    const handle = this.#handles.get(id);
    if (handle === undefined) throw new FamfsError("HANDLE_STALE", `file handle ${id} is not open`);
    return handle;
  }

  /** OWNER_BUSY, READ_ONLY, and for O_TRUNC NO_SPACE and LOG_FULL. */
  open(nodeid: number, flags: number, by: RequestContext): OpenedFile | Promise<OpenedFile> {
    const file = this.#ctx.nodes.file(nodeid);
    const writable = (flags & O_ACCMODE) !== 0;
    const truncates = (flags & O_TRUNC) !== 0;
    if (!writable && !truncates) return this.#openedFresh(file, flags, by);
    this.#ctx.requireChangeable();
    const { dataWriters } = this.#ctx.settings;
    if (!truncates && dataWriters === "any" && file.content.type === "sealed" && file.content.size > 0) {
      return this.#openedFresh(file, flags, by);
    }
    return this.#openOwning(file, placeOf(file), flags, by);
  }

  #openOwning(file: FileNode, place: Place, flags: number, by: RequestContext): OpenedFile | Promise<OpenedFile> {
    const { ownership, places, settings, coherence } = this.#ctx;
    return ownership.with(settings.writerTimeoutMs, by, () => {
      places.require(place, by);
      if (file.content.type === "unsealed" && file.content.lost) throw stale();
      if ((flags & O_TRUNC) !== 0) return this.#truncate(file, by).then(() => this.#opened(file, flags, true));
      const dropping = coherence.fresh(file);
      if (dropping === undefined) return this.#opened(file, flags, true);
      const { writer } = ownership;
      return unlessAborted(dropping, by.signal).then(() =>
        // Only if the grant is gone when the caches are dropped, the path may lead elsewhere again.
        ownership.writer === writer && coherence.fresh(file) === undefined
          ? this.#opened(file, flags, true)
          : this.#openOwning(file, place, flags, by),
      );
    });
  }

  /** A handle of a file that was made for it. Owns the log. */
  openNew(file: FileNode, flags: number): OpenedFile {
    return this.#opened(file, flags, true);
  }

  /**
   * Makes a write possible that the file map does not allow: grows an unsealed file, waits for the grant after a
   * hand-over. Answers up to where: a part, where only that fits (POSIX write). WRITE_PAST_END and NO_SPACE when
   * nothing does, OWNER_STALE, OWNER_BUSY. Growing goes on when the request is interrupted: nobody sees room behind
   * the end of a file.
   */
  async prepareWrite(id: number, { offset, end, isWriteBack }: WriteToCome, by: RequestContext): Promise<number> {
    const handle = this.handle(id);
    const { file } = handle;
    if (!handle.writable) throw new FamfsError("NOT_PERMITTED", `${pathOf(file)} was opened for reading`);
    if (file.content.type === "sealed" && offset >= file.content.size && file.content.size > 0) {
      throw writePastEnd(file, offset, end);
    }
    if (handle.grant !== "not needed") {
      this.#ctx.ownership.verify();
      this.#requireWrite(handle, isWriteBack);
      await this.#acquire(by);
    }
    this.#requireWrite(handle, isWriteBack);
    await unlessAborted(this.#ctx.sizes.settled(file), by.signal);
    if (file.content.type === "sealed" && file.content.size === 0) {
      this.#ctx.requireChangeable();
      await this.#acquire(by);
    }
    return await unlessAborted(this.#ctx.sizes.ensureCapacity(file, offset, end), by.signal);
  }

  #requireWrite(handle: Handle, isWriteBack: boolean): void {
    const { file } = handle;
    // Which mapping changed the pages is not known: it may be one that lost the grant.
    if (isWriteBack && file.open !== undefined && file.open.lostWriters > 0) {
      this.#ctx.coherence.kernel.content(file.nodeid); // readers here would see the pages, and nobody else
      throw stale();
    }
    this.requireGrant(handle);
  }

  async #acquire({ budget, signal }: RequestContext): Promise<void> {
    if (this.#ctx.ownership.writer !== undefined) return;
    using _held = budget.hold();
    await this.#ctx.ownership.acquire(budget.leftMs(this.#ctx.settings.writerTimeoutMs), signal);
  }

  /** What can be known of errors to come: OWNER_STALE. */
  flush(id: number): void {
    const handle = this.handle(id);
    if (handle.writable) this.requireGrant(handle);
  }

  fsync(id: number): void {
    const handle = this.handle(id);
    const { file } = handle;
    if (handle.writable) {
      this.requireGrant(handle);
      if (refreshTimes(file, this.#ctx.options.maps) && file.sealed !== undefined) this.#ctx.staleTimes.add(file);
      this.#ctx.coherence.synced(file);
    }
    const lost = this.#ctx.losses.takeSync(file);
    if (lost !== undefined) throw lost;
  }

  /** After the last close and munmap of a handle; the file seals or goes when it was the last one. */
  release(id: number): void {
    const handle = this.handle(id);
    const { file } = handle;
    const { maps } = this.#ctx.options;
    const open = file.open;
    if (open === undefined) throw new FamfsError("INTERNAL", `${pathOf(file)} is open without a map`);
    this.#handles.delete(id);
    open.handles--;
    if (refreshTimes(file, maps) && file.sealed !== undefined) this.#ctx.staleTimes.add(file);
    if (handle.writable) {
      open.writers--;
      this.#closedAfterWrite(file);
    }
    if (open.handles === 0) {
      if (file.content.type === "unsealed") {
        file.content.size = maps.size(open.map);
        file.content.filled = maps.filled(open.map);
      }
      file.open = undefined;
      maps.destroy(open.map);
    }
    if (handle.grant === "lost" && --open.lostWriters === 0) resume(open, maps);
    if (open.writers === 0 && handle.writable) this.#ctx.sealer.changed(file);
    letGo(this.#ctx, file);
    if (handle.grant === "needed") this.#granted--;
    this.#ctx.ownership.changed();
  }

  /** The kernel is gone, and with it whoever had files open. */
  closeAll(): void {
    for (const id of [...this.#handles.keys()]) this.release(id);
  }

  /** Stops what workers write by themselves, and waits until none is at it. */
  async pauseWriters(): Promise<void> {
    const { maps } = this.#ctx.options;
    for (const { grant, file } of this.#handles.values()) {
      if (grant === "not needed" || file.open === undefined || this.#paused.has(file.open)) continue;
      this.#paused.add(file.open);
      pause(file.open, maps);
    }
    await Promise.all([...this.#paused].filter(({ handles }) => handles > 0).map(({ map }) => maps.idle(map)));
  }

  resumeWriters(): void {
    for (const open of this.#paused) resume(open, this.#ctx.options.maps);
    this.#paused.clear();
  }

  /** Before the log is given up: what is open for write and was rewritten in place is named to the other nodes. */
  nameRewritten(): void {
    for (const { file, writable } of this.#handles.values()) if (writable) this.#ctx.coherence.synced(file);
  }

  /** This node owns the log again: data writes check that it still does. */
  setGuards(): void {
    const { maps } = this.#ctx.options;
    for (const { file } of this.#handles.values())
      if (file.open !== undefined) maps.setGuard(file.open.map, this.#guard());
  }

  /** What was opened for write under the grant writes no more: neither by workers nor by `prepareWrite`. */
  lose(): void {
    for (const handle of this.#handles.values()) {
      const { open } = handle.file;
      if (handle.grant !== "needed" || open === undefined) continue;
      handle.grant = "lost";
      if (open.lostWriters++ === 0) pause(open, this.#ctx.options.maps);
    }
    this.#granted = 0;
  }

  async #truncate(file: FileNode, { signal }: RequestContext): Promise<void> {
    await unlessAborted(this.#ctx.sizes.settled(file), signal);
    await this.#ctx.sizes.empty(file);
  }

  /** Without the grant, with what other nodes wrote before this. */
  #openedFresh(file: FileNode, flags: number, by: RequestContext): OpenedFile | Promise<OpenedFile> {
    const { nodeid, content } = file;
    const opened = () => this.#opened(file, flags, false);
    const dropping = this.#ctx.coherence.fresh(file);
    if (dropping === undefined) return opened();
    return unlessAborted(dropping, by.signal).then(() => {
      if (this.#ctx.nodes.file(nodeid).content !== content) return this.open(nodeid, flags, by);
      const answer = opened();
      this.#ctx.coherence.refresh(file); // of changes since, while it was not open
      return answer;
    });
  }

  #opened(file: FileNode, flags: number, granted: boolean): OpenedFile {
    const { maps, memory } = this.#ctx.options;
    const writable = (flags & O_ACCMODE) !== 0;
    if (file.open === undefined) {
      const { content } = file;
      const map = maps.create({
        window: memory.window,
        guard: this.#guard(),
        layout: mapLayoutOf(content),
        size: content.size,
        capacity: content.type === "sealed" ? content.size : content.capacity,
        filled: content.type === "sealed" ? content.size : content.filled,
        sealed: content.type === "sealed",
      });
      const counts = { handles: 0, writers: 0, lostWriters: 0, pauses: 0 };
      const open: OpenFile = { map, ...counts, zeroed: false, timesSetMs: 0, namedMs: 0 };
      file.open = open;
      if (file.changing !== undefined) {
        // Its bytes are being zeroed or moved: no worker may write between.
        pause(open, maps);
        void file.changing.then(() => resume(open, maps));
      }
    }
    file.open.handles++;
    file.mayHavePages = true;
    if (writable) file.open.writers++;
    const id = this.#nextHandle++;
    const grant = writable && granted ? "needed" : "not needed";
    if (grant === "needed") this.#granted++;
    this.#handles.set(id, { id, file, writable, grant });
    if (writable) this.#ctx.sealer.changed(file);
    return { handle: id, map: file.open.map, writable, ...decideOpen(flags, this.#ctx.settings) };
  }

  /** What data writes check: with `dataWriters: any` the region alone, otherwise also who owns the log. */
  #guard(): number {
    const { memory } = this.#ctx.options;
    if (this.#ctx.settings.dataWriters === "any") return memory.regionGuard;
    return this.#ctx.ownership.yieldingWriter?.guard ?? memory.regionGuard;
  }

  /** OWNER_STALE. */
  requireGrant(handle: Handle): void {
    const { content } = handle.file;
    if (handle.grant === "lost" || (content.type === "unsealed" && content.lost)) throw stale();
  }

  /** A close cannot report errors, and the handle goes in any case: others would wait for the grant for ever. */
  #closedAfterWrite(file: FileNode): void {
    try {
      this.#ctx.coherence.synced(file);
    } catch (error) {
      this.#ctx.options.logger.error({ err: error, file: pathOf(file) }, "a file was rewritten unknown to other nodes");
    }
  }
}
