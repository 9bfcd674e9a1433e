import type { Logger } from "../base/index.ts";
import type { Invalidations } from "./invalidations.ts";
import { contentRanges } from "./layouts.ts";
import type { FileNode, SealedContent, TreeNode } from "./nodes.ts";
import type { Clock, ContentChange, DataMemory, FileMaps, LogWriter } from "./ports.ts";

export interface CoherenceOptions {
  readonly memory: Pick<DataMemory, "invalidate">;
  readonly maps: Pick<FileMaps, "lastWriteMs">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly kernel: Invalidations;
  readonly nodes: { all(): Iterable<TreeNode> };
  /** The live node of a log entry. */
  readonly ofIndex: (index: number) => TreeNode | undefined;
  /** The log, as long as this node may write to it. */
  readonly writer: () => LogWriter | undefined;
}

/**
 * What the nodes of a volume do so that each sees the file contents that others wrote (design 6). Three kinds of
 * caches can be old: pages of the kernels, lines of the processors where those of all hosts do not agree, and none of
 * data that is stored: it goes past the caches at once, so closing, syncing and giving space back need not write back.
 *
 * A file that was rewritten in place is named in the ring of changes when it is closed or synced, and before the log is
 * given up. A node that dies, or loses the log, names nothing: then all contents are in doubt.
 */
export class Coherence {
  /** What the kernel of this node is told to forget. */
  readonly kernel: Invalidations;
  readonly #options: CoherenceOptions;
  /** Grows when all contents are in doubt. */
  #generation = 1;
  /** Lines being dropped. Never rejects. */
  readonly #underWay = new Map<SealedContent, Promise<void>>();

  constructor(options: CoherenceOptions) {
    this.#options = options;
    this.kernel = options.kernel;
  }

  /** `SealedContent.freshIn` of what was written here just now. */
  get generation(): number {
    return this.#generation;
  }

  // ---- what this node wrote ----

  /** Names `file` to the other nodes if it was rewritten in place since it was named last. OWNER_STALE, MEMORY_ERROR. */
  synced(file: FileNode): void {
    const { open, sealed, content } = file;
    if (open === undefined || sealed === undefined || content.type !== "sealed") return;
    const nowMs = this.#options.clock.wallMs();
    const writtenMs = this.#options.maps.lastWriteMs(open.map);
    if (!open.zeroed && (writtenMs === 0 || writtenMs < open.namedMs)) return;
    const writer = this.#options.writer();
    // Without it there is nothing new: writers were stopped, and what they wrote was named, or the next owner says it.
    if (writer === undefined) return;
    writer.recordChanged(sealed.index, file.mtime);
    open.zeroed = false;
    open.namedMs = nowMs;
  }

  // ---- what others wrote ----

  /**
   * The ring of changes says so; "all" when it has overflowed, or when an owner took the log over from one that had not
   * released it and so may have rewritten files and named none.
   */
  heard(changes: readonly ContentChange[] | "all"): void {
    if (changes === "all") {
      this.#doubtAll();
      return;
    }
    for (const { index, mtime } of changes) {
      const node = this.#options.ofIndex(index);
      if (node === undefined) continue;
      node.mtime = mtime;
      node.ctime = mtime;
      if (node.kind === "file") this.#doubt(node);
      this.kernel.content(node.nodeid);
    }
  }

  /** Undefined when reads see what other nodes wrote; otherwise when they do. MEMORY_ERROR. */
  fresh(file: FileNode): undefined | Promise<void> {
    const { content } = file;
    const { invalidate } = this.#options.memory;
    if (invalidate === undefined || content.type !== "sealed") return undefined;
    const before = this.#underWay.get(content);
    if (content.freshIn >= this.#generation) return before;
    const ranges = contentRanges(content, 0, content.size);
    const was = content.freshIn;
    content.freshIn = this.#generation; // a change from now on counts again
    const drop = async () => {
      await before;
      for (const { offset, length } of ranges) {
        const pending = invalidate(offset, length);
        if (pending !== undefined) await pending;
      }
    };
    const done = drop().catch((error: unknown) => {
      content.freshIn = was;
      throw error;
    });
    const settled = done
      .catch(() => {}) // belongs to who opened the file
      .finally(() => {
        if (this.#underWay.get(content) === settled) this.#underWay.delete(content);
      });
    this.#underWay.set(content, settled);
    return done;
  }

  /** Drops what is in doubt of an open file, then has the kernel forget what it read meanwhile. */
  refresh(file: FileNode): void {
    this.fresh(file)
      ?.then(() => this.kernel.content(file.nodeid))
      .catch((error: unknown) => {
        this.#options.logger.error({ err: error, nodeid: file.nodeid }, "an open file may show old bytes");
      });
  }

  /** Resolves when what was heard so far is out of the caches, as far as it must be before this node goes on. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay.values());
    await this.kernel.delivered();
  }

  #doubtAll(): void {
    this.#generation++;
    for (const node of this.#options.nodes.all()) {
      if (node.kind !== "file" || node.content.type !== "sealed" || !node.mayHavePages) continue;
      if (node.open === undefined) node.mayHavePages = false;
      else this.refresh(node);
      this.kernel.content(node.nodeid);
    }
  }

  /** Dropping takes about 50 ms per GiB, so what nobody has open waits for its next open. */
  #doubt(file: FileNode): void {
    if (file.content.type !== "sealed") return;
    file.content.freshIn = 0;
    if (file.open !== undefined) this.refresh(file);
  }
}
