import { setImmediate as yieldToOthers } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { FamfsError } from "../base/index.ts";
import type { Finding, SealedChange, SealedNode, SealedPlace, SealedTree } from "../format/index.ts";
import type { TreeContext } from "./context.ts";
import { attributesOf, type DirectoryNode, type FileNode, isHeld, sealedContent, type TreeNode } from "./nodes.ts";
import type { IndexedEntry, LogNews, TreeCondition } from "./ports.ts";
import type { UnsealedFile } from "./unsealed-file.ts";

/** Entries that are refused one by one before they are only counted: a hostile log has millions. */
const NAMED_REFUSALS = 20;
/** After a failure here the log is read again from its start: at first after this time, then after longer ones. */
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 60_000;
/** The longest a take-over waits for entries that are in the log, and its look between. */
const ARRIVAL_MS = 3000;
const ARRIVAL_LOOK_MS = 5;

/**
 * Brings the live tree up to the log: what other nodes (or an earlier session) appended. The kernel is told what it
 * may have cached of it. A log is read in slices of some milliseconds: all volumes of a node share one thread.
 */
export class ChangeFeed {
  readonly #ctx: TreeContext;
  #corruptAt: number | undefined;
  /** The first replay stamps nothing: times come from the log. */
  #live = false;
  /** What the log says, begun anew: live nodes are bound to it when it is whole. */
  #renewed: SealedTree | undefined;
  /** A slice failed, for no fault of the memory: how long to wait before all is read again. */
  #failed: { readonly retryAtMs: number; readonly delayMs: number } | undefined;
  #complete = false;
  #completeAt: number;
  #refused = 0;
  #refusedTold = 0;

  constructor(ctx: TreeContext) {
    this.#ctx = ctx;
    this.#completeAt = ctx.options.clock.monotonicMs();
  }

  /** Milliseconds since this node last had applied all that was published. */
  get behindMs(): number {
    return this.#ctx.options.clock.monotonicMs() - this.#completeAt;
  }

  /** Entries are on their way (published, and not readable so far), or are to be read again. */
  get isBehind(): boolean {
    return this.#failed !== undefined || (!this.#complete && this.#corruptAt === undefined);
  }

  /** The damage of the log, as far as it can be read. */
  get condition(): TreeCondition | undefined {
    if (this.#corruptAt === undefined) return undefined;
    return { code: "LOG_CORRUPT", message: `log entry ${this.#corruptAt} is corrupt; what follows is not served` };
  }

  /** Reads all that is new, without a pause. Returns how many entries were applied. */
  poll(): number {
    using _together = this.#ctx.coherence.kernel.gather();
    let applied = 0;
    for (let more = true; more; ) {
      const slice = this.step();
      applied += slice.applied;
      more = slice.more;
    }
    return applied;
  }

  /**
   * Reads all that is new, and lets others have their turn in between. With `end` it goes on until the entries below
   * that are applied: LOG_CORRUPT when they do not come.
   */
  async catchUp(end = 0): Promise<void> {
    const { clock } = this.#ctx.options;
    const giveUpMs = clock.monotonicMs() + ARRIVAL_MS;
    for (;;) {
      while (this.step().more) await yieldToOthers();
      const { nextIndex } = this.#ctx.sealed;
      if (nextIndex >= end) return;
      // The reader waits a moment before it looks again at an entry that had not arrived.
      if (clock.monotonicMs() >= giveUpMs) {
        throw new FamfsError("LOG_CORRUPT", `the log has ${end} entries, of which ${nextIndex} can be read`, {
          details: { index: nextIndex },
        });
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      clock.schedule(ARRIVAL_LOOK_MS, resolve);
      await promise;
    }
  }

  /** One slice. `more`: the next one is there already. MEMORY_ERROR. */
  step(): { readonly applied: number; readonly more: boolean } {
    const { log, clock, createSealed } = this.#ctx.options;
    if (this.#failed !== undefined && this.#renewed === undefined) {
      if (clock.monotonicMs() < this.#failed.retryAtMs) return { applied: 0, more: false };
      log.rewind();
      this.#renewed = createSealed();
    }
    const news = log.poll();
    using _together = this.#ctx.coherence.kernel.gather();
    try {
      const applied = this.#take(news);
      if (!news.more) this.#failed = undefined;
      return { applied, more: news.more };
    } catch (error) {
      // What this slice did is not known, and the reader is past it. Nothing is lost: all is read again.
      const delayMs = Math.min(2 * (this.#failed?.delayMs ?? FIRST_RETRY_MS / 2), LAST_RETRY_MS);
      this.#failed = { retryAtMs: clock.monotonicMs() + delayMs, delayMs };
      this.#renewed = undefined;
      throw error;
    }
  }

  #take(news: LogNews): number {
    const { logger, onCondition, clock, createSealed } = this.#ctx.options;
    if (news.restarted) {
      logger.warn({}, "entries of a former owner were retracted; the log is read again");
      this.#renewed = createSealed();
    }
    const applied = this.#applyAll(news.entries);
    if (news.more) return applied;
    this.#tellRefused();
    if (this.#renewed !== undefined) this.#rebind(this.#renewed);
    this.#ctx.coherence.heard(news.contentChanges);
    const isNews = news.corruptAt !== this.#corruptAt;
    this.#corruptAt = news.corruptAt;
    if (isNews) onCondition?.(this.condition);
    if (!this.#live) this.#begin();
    this.#complete = news.complete;
    if (news.complete) this.#completeAt = clock.monotonicMs();
    return applied;
  }

  /** A mount begins with what the log says of the root. */
  #begin(): void {
    this.#live = true;
    const { nodes, sealed } = this.#ctx;
    Object.assign(nodes.root, attributesOf(sealed.root, nodes.root.mtime));
  }

  #applyAll(entries: readonly IndexedEntry[]): number {
    const sealed = this.#renewed ?? this.#ctx.sealed;
    let applied = 0;
    for (const { index, entry } of entries) {
      if (index < sealed.nextIndex) continue; // this node's own
      const { changes, findings } = sealed.apply(index, entry);
      for (const finding of findings) this.#refuse(finding);
      if (this.#renewed === undefined) for (const change of changes) this.#apply(change);
      applied++;
    }
    return applied;
  }

  #refuse(finding: Finding): void {
    if (this.#refused++ >= NAMED_REFUSALS) return;
    this.#refusedTold = this.#refused;
    this.#ctx.options.logger.warn({ finding }, "log entry was refused");
  }

  #tellRefused(): void {
    if (this.#refused === this.#refusedTold) return;
    this.#refusedTold = this.#refused;
    this.#ctx.options.logger.warn({ refused: this.#refused }, "log entries were refused; fsck names them");
  }

  /** Makes the names here what the log says, after what was local is gone. */
  restore(): void {
    for (const node of this.#ctx.sealed.byIndex.values()) {
      if (node.parent === undefined) continue;
      const live = this.#ctx.nodes.ofSealed(node);
      if (live === undefined && !this.#isMissing(node)) continue;
      if (live?.kind === "file" && live.content.type === "unsealed") this.#restoreContent(live, live.content, node);
      this.#place(node);
    }
  }

  /** Its directory does not make it by itself. */
  #isMissing({ parent }: SealedNode): boolean {
    const live = parent && this.#ctx.nodes.ofSealed(parent);
    return live?.kind === "directory" && live.children.isWhole;
  }

  /** From now on `sealed` is what the log says. */
  #rebind(sealed: SealedTree): void {
    const { nodes, space } = this.#ctx;
    this.#ctx.sealed = sealed;
    this.#renewed = undefined;
    for (const live of [...nodes.all()]) {
      if (live.sealed === undefined) continue;
      const node = sealed.byIndex.get(live.sealed.index);
      // Another entry may have taken the place of one that was retracted.
      if (node === undefined || !isDeepStrictEqual(contentOf(node), contentOf(live.sealed)))
        this.#remove(live, live.parent && { parent: live.sealed, name: live.name });
      else nodes.bind(live, node);
    }
    space.recount();
    this.restore();
  }

  #apply(change: SealedChange): void {
    const { nodes, space } = this.#ctx;
    switch (change.type) {
      case "added":
        space.sealedAdded(change.node);
        this.#place(change.node);
        return;
      case "moved":
        this.#place(change.node);
        return;
      case "removed":
      case "replaced": {
        const live = nodes.ofSealed(change.node);
        space.sealedRemoved(change.node, () => live?.kind === "file" && isHeld(live));
        if (live !== undefined) this.#remove(live, change.from);
        else if (change.from !== undefined) this.#touchSealed(change.from.parent);
        return;
      }
      case "attributes": {
        const live = nodes.ofSealed(change.node);
        if (live === undefined) return;
        this.#takeAttributes(live, change.node);
        return;
      }
    }
  }

  /** Puts the node of `sealed` where the log has it, and tells the kernel of both names. */
  #place(sealed: SealedNode): void {
    const { nodes, coherence } = this.#ctx;
    if (sealed.parent === undefined) return;
    const known = nodes.ofSealed(sealed);
    // What nobody has asked for in a directory that nobody has asked for is made when somebody does.
    const parent = known === undefined ? nodes.ofSealed(sealed.parent) : nodes.reach(sealed.parent);
    if (parent?.kind !== "directory") return;
    if (known === undefined && !parent.children.isWhole) {
      this.#touch(parent);
      coherence.kernel.name(parent.nodeid, sealed.name); // it may be known not to be there
      return;
    }
    const live = known ?? nodes.fromLog(sealed);
    if (live.parent === parent && live.name === sealed.name) return;
    const isMove = live.parent !== undefined;
    if (live.parent !== undefined) {
      coherence.kernel.name(live.parent.nodeid, live.name);
      this.#touch(live.parent);
      nodes.detach(live);
    }
    const there = parent.children.get(sealed.name);
    if (there !== undefined && there !== live) {
      nodes.detach(there);
      this.#takenAway(there);
    }
    if (there !== live) nodes.attach(live, parent, sealed.name);
    if (isMove) this.#takenAway(live);
    this.#touch(parent);
    if (known !== undefined) this.#takeAttributes(live, sealed);
    coherence.kernel.name(parent.nodeid, sealed.name);
  }

  #touchSealed(sealed: SealedNode): void {
    const directory = this.#ctx.nodes.ofSealed(sealed);
    if (directory?.kind === "directory") this.#touch(directory);
  }

  #remove(live: TreeNode, from: SealedPlace | undefined): void {
    const { nodes, coherence, staleTimes } = this.#ctx;
    const { parent, name } = live;
    staleTimes.delete(live);
    nodes.unbind(live);
    if (parent !== undefined && from !== undefined) {
      nodes.detach(live);
      this.#takenAway(live);
      this.#touch(parent);
      coherence.kernel.removed(parent.nodeid, live.nodeid, name);
    }
    nodes.letGo(live);
  }

  /** The kernel may still come by the name: before the first replay there is none. */
  #takenAway(live: TreeNode): void {
    if (this.#live) this.#ctx.places.takenAway(live);
  }

  #takeAttributes(live: TreeNode, sealed: SealedNode): void {
    const { mode, uid, gid, mtime } = attributesOf(sealed, live.mtime);
    Object.assign(live, { mode, uid, gid, mtime });
    if (this.#live) live.ctime = this.#ctx.now();
    this.#ctx.coherence.kernel.attributes(live.nodeid);
  }

  #touch(directory: DirectoryNode): void {
    if (!this.#live) return;
    directory.mtime = this.#ctx.now();
    directory.ctime = directory.mtime;
    this.#ctx.coherence.kernel.content(directory.nodeid); // the kernel keeps pages of listings
  }

  #restoreContent(live: FileNode, unsealed: UnsealedFile, sealed: SealedNode): void {
    live.content = sealedContent(sealed, 0);
    if (live.open !== undefined) {
      this.#ctx.sizes.showContent(live);
      this.#ctx.coherence.refresh(live);
    }
    this.#ctx.coherence.kernel.content(live.nodeid); // also of one that is closed: size and pages are what was lost
    this.#ctx.sizes.discard(live, unsealed);
  }
}

/** What a node is for good, wherever it lies. */
function contentOf({ kind, size, layout, symlinkTarget }: SealedNode) {
  return { kind, size, layout, symlinkTarget };
}
