import type { SealedChange, SealedNode, SealedPlace } from "../format/index.ts";
import type { TreeContext } from "./context.ts";
import { attributesOf, type DirectoryNode, type FileNode, sealedContent, type TreeNode } from "./nodes.ts";
import type { IndexedEntry, LogNews, TreeCondition } from "./ports.ts";
import type { UnsealedFile } from "./unsealed-file.ts";

/**
 * Brings the live tree up to the log: what other nodes (or an earlier session) appended. The kernel is told what it
 * may have cached of it.
 */
export class ChangeFeed {
  readonly #ctx: TreeContext;
  #corruptAt: number | undefined;
  /** The first replay stamps nothing: times come from the log. */
  #live = false;
  /** The model was begun anew and is not whole yet: live nodes are bound to it when it is. */
  #restarting = false;
  #completeAt: number;
  /** A run of fillers came: the log was taken over from an owner that did not say what it had done. */
  #uncleanRun = false;

  constructor(ctx: TreeContext) {
    this.#ctx = ctx;
    this.#completeAt = ctx.options.clock.monotonicMs();
  }

  /** Milliseconds since this node last had applied all that was published. */
  get behindMs(): number {
    return this.#ctx.options.clock.monotonicMs() - this.#completeAt;
  }

  /** What is wrong with the log, as far as it can be read. */
  get condition(): TreeCondition | undefined {
    if (this.#corruptAt === undefined) return undefined;
    return { code: "LOG_CORRUPT", message: `log entry ${this.#corruptAt} is corrupt; what follows is not served` };
  }

  /** Reads what is new. Returns how many entries were applied. */
  poll(): number {
    const { log, onCondition } = this.#ctx.options;
    using _together = this.#ctx.coherence.kernel.gather();
    let applied = 0;
    let news: LogNews;
    do {
      news = log.poll();
      if (news.restarted) {
        this.#restart();
      }
      applied += this.#applyAll(news.entries);
    } while (news.more);
    if (this.#restarting) this.#rebind();
    this.#restarting = false;
    this.#ctx.coherence.heard(news.contentChanges);
    // Before the first look nothing is cached.
    if (this.#uncleanRun && this.#live) this.#ctx.coherence.ownerChanged({ clean: false });
    this.#uncleanRun = false;
    const isNews = news.corruptAt !== this.#corruptAt;
    this.#corruptAt = news.corruptAt;
    if (isNews) onCondition?.(this.condition);
    this.#live = true;
    if (news.complete) this.#completeAt = this.#ctx.options.clock.monotonicMs();
    return applied;
  }

  #applyAll(entries: readonly IndexedEntry[]): number {
    const { sealed, options } = this.#ctx;
    let applied = 0;
    for (const { index, entry } of entries) {
      if (index < sealed.nextIndex) continue; // this node's own
      if (entry.type === "filler") this.#uncleanRun = true;
      const { changes, findings } = sealed.apply(index, entry);
      for (const finding of findings) options.logger.warn({ finding }, "log entry was refused");
      if (!this.#restarting) for (const change of changes) this.#apply(change);
      applied++;
    }
    return applied;
  }

  /** Makes the names here what the log says, after what was local is gone. */
  restore(): void {
    for (const node of this.#ctx.sealed.byIndex.values()) {
      if (node.parent === undefined) continue;
      const live = this.#ctx.nodes.ofSealed(node);
      if (live?.kind === "file" && live.content.type === "unsealed") this.#restoreContent(live, live.content, node);
      this.#place(node);
    }
  }

  /** What was applied does not all hold: the model begins anew, live nodes are bound to it afterwards. */
  #restart(): void {
    this.#ctx.options.logger.warn({}, "entries of a former owner were retracted; the log is read again");
    this.#ctx.sealed = this.#ctx.options.createSealed();
    this.#restarting = true;
  }

  #rebind(): void {
    const { nodes, sealed, space } = this.#ctx;
    for (const live of [...nodes.all()]) {
      if (live.sealed === undefined) continue;
      const node = sealed.byIndex.get(live.sealed.index);
      if (node === undefined) this.#remove(live, live.parent && { parent: live.sealed, name: live.name });
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
        space.sealedRemoved(change.node, () => live?.kind === "file" && live.open !== undefined);
        if (live !== undefined) this.#remove(live, change.from);
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
    const parent = nodes.ofSealed(sealed.parent);
    if (parent?.kind !== "directory") return;
    const known = nodes.ofSealed(sealed);
    const live = known ?? nodes.fromLog(sealed, this.#ctx.now());
    if (live.parent === parent && live.name === sealed.name) return;
    const isMove = live.parent !== undefined;
    if (live.parent !== undefined) {
      coherence.kernel.name(live.parent.nodeid, live.name);
      this.#touch(live.parent);
      nodes.detach(live);
    }
    const there = parent.children.get(sealed.name);
    if (there !== undefined) {
      nodes.detach(there);
      this.#takenAway(there);
    }
    nodes.attach(live, parent, sealed.name);
    if (isMove) this.#takenAway(live);
    this.#touch(parent);
    if (known !== undefined) this.#takeAttributes(live, sealed);
    coherence.kernel.name(parent.nodeid, sealed.name);
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
    if (live.kind !== "file" || live.open === undefined) nodes.forget(live);
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
      this.#ctx.coherence.kernel.content(live.nodeid);
    }
    this.#ctx.sizes.discard(live, unsealed);
  }
}
