import type { Logger } from "../base/index.ts";
import { contentRanges } from "./layouts.ts";
import type { FileNode, SealedContent } from "./nodes.ts";
import type { DataMemory } from "./ports.ts";

export interface CpuCachesOptions {
  readonly memory: Pick<DataMemory, "invalidate">;
  readonly logger: Logger;
  /** What the kernel has of an open file may have been read before the caches were dropped. */
  readonly dropped: (file: FileNode) => void;
}

/**
 * What CPU caches of this host may still have of files that other nodes wrote, or of what was in their extents before
 * (design 6). Dropping takes about 50 ms per GiB, so it is done per file, when it is opened first. Nothing to do
 * where hosts are coherent.
 */
export class CpuCaches {
  readonly #options: CpuCachesOptions;
  /** Never rejects. */
  readonly #underWay = new Map<SealedContent, Promise<void>>();

  constructor(options: CpuCachesOptions) {
    this.#options = options;
  }

  /** Another node wrote `file`. What nobody has open waits for its next open. */
  doubt(file: FileNode): void {
    const { content, open } = file;
    if (this.#options.memory.invalidate === undefined || content.type !== "sealed") return;
    content.mayBeCached = true;
    if (open !== undefined) this.refresh(file);
  }

  /** Drops what is in doubt of an open file, then has the kernel forget what it read meanwhile. */
  refresh(file: FileNode): void {
    if (file.content.type !== "sealed" || !file.content.mayBeCached) return;
    this.fresh(file)
      ?.then(() => this.#options.dropped(file))
      .catch((error: unknown) => {
        this.#options.logger.error({ err: error, nodeid: file.nodeid }, "an open file may show old bytes");
      });
  }

  /** Undefined when reads see what other nodes wrote; otherwise when they do. MEMORY_ERROR. */
  fresh(file: FileNode): undefined | Promise<void> {
    const { content } = file;
    const { invalidate } = this.#options.memory;
    if (invalidate === undefined || content.type !== "sealed") return undefined;
    const before = this.#underWay.get(content);
    if (!content.mayBeCached) return before;
    const ranges = contentRanges(content, 0, content.size);
    content.mayBeCached = false; // a change from now on counts again
    const drop = async () => {
      await before;
      for (const { offset, length } of ranges) {
        const pending = invalidate(offset, length);
        if (pending !== undefined) await pending;
      }
    };
    const done = drop().catch((error: unknown) => {
      content.mayBeCached = true;
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

  /** Nothing is being dropped. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay.values());
  }
}
