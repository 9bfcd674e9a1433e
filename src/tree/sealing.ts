import { type Extent, FamfsError, isFamfsError } from "../base/index.ts";
import { MAX_TRANSACTION } from "../format/index.ts";
import type { TreeContext } from "./context.ts";
import { mapLayoutOf, splitContent } from "./layouts.ts";
import {
  type DirectoryNode,
  type FileNode,
  isUnsealed,
  isWithin,
  pathOf,
  sealedContent,
  type TreeNode,
} from "./nodes.ts";
import { filledOf, type OpenFile, pause, refreshTimes, resume, sizeOf } from "./open-file.ts";
import { type FinalContent, planSeal } from "./seal-plan.ts";
import { MAX_SLOTS_PER_NODE } from "./slots.ts";
import type { Step } from "./transactions.ts";
import { totalLength, type UnsealedFile } from "./unsealed-file.ts";

/** What becomes due within this time seals together. */
const GATHER_MS = 20;
const RETRY_MS = 1000;

/**
 * When files and directories made here enter the log (design 7): a while after their last close, a declared file
 * also while it is open, at once when asked. Many become one transaction.
 */
export class Sealer {
  readonly #ctx: TreeContext;
  /** Unsealed nodes that have a name, and when they are due; Infinity while open. Monotonic milliseconds. */
  readonly #due = new Map<TreeNode, number>();
  #timer: { readonly atMs: number; readonly handle: Disposable } | undefined;

  constructor(ctx: TreeContext) {
    this.#ctx = ctx;
  }

  /** Everything that is not in the log as it is here, and has a name. */
  get unsealed(): TreeNode[] {
    return [...this.#due.keys()];
  }

  get unsealedCount(): number {
    return this.#due.size;
  }

  /** `node` is new, changed its size, or was closed. */
  changed(node: TreeNode): void {
    if (node.parent === undefined || !isUnsealed(node)) return;
    const dueMs = this.#dueMs(node);
    this.#due.set(node, dueMs);
    this.#schedule(dueMs);
  }

  /** `node` will never be in the log; true when it was to be. */
  forget(node: TreeNode): boolean {
    return this.#due.delete(node);
  }

  /**
   * Seals what is closed or declared; `forced`: also what is open for write. `within` limits it to what is directly
   * in a directory, and the directory itself.
   */
  async sealAll(options: { readonly forced: boolean; readonly within?: DirectoryNode }): Promise<void> {
    const { within, forced } = options;
    const chosen = [...this.#due.keys()].filter(
      (node) =>
        (within === undefined || node === within || node.parent === within) &&
        (forced || !this.#isGrowing(node)) &&
        this.#canBeLogged(node),
    );
    await this.seal(chosen, { forced });
  }

  /** Seals `nodes` and what they lie in; unless `forced` not those that turn out to be written beyond their end. */
  async seal(nodes: readonly TreeNode[], { forced }: { readonly forced: boolean }): Promise<void> {
    const { maps } = this.#ctx.options;
    if (!nodes.every((node) => this.#canBeLogged(node))) this.#ctx.transactions.requireExtended("empty files");
    const paused: OpenFile[] = [];
    try {
      for (const node of nodes) {
        if (node.kind !== "file" || node.content.type !== "unsealed") continue;
        if (node.open === undefined || node.open.writers === 0) continue;
        paused.push(node.open);
        pause(node.open, maps);
      }
      for (const { map, handles } of paused) if (handles > 0) await maps.idle(map);
      for (let waiting = this.#notReady(nodes, forced); waiting.length > 0; waiting = this.#notReady(nodes, forced)) {
        await Promise.all(waiting);
      }
      this.#sealNow(forced ? nodes : nodes.filter((node) => !this.#isGrowing(node)));
    } finally {
      for (const open of paused) resume(open, maps);
    }
  }

  /**
   * Seals at once the files that are closed, which gives back what they have beyond their bytes (a unit even when they
   * are empty) and what they replace. Nothing while the log may not be written.
   */
  sealClosed(): void {
    if (this.#ctx.ownership.writer === undefined) return;
    const isClosed = ({ open, changing }: FileNode) => (open?.writers ?? 0) === 0 && changing === undefined;
    const closed = [...this.#due.keys()].filter(
      (node) => node.kind === "file" && isClosed(node) && this.#canBeLogged(node),
    );
    for (const node of closed) if (node.kind === "file") this.#ctx.sizes.fillLastUnitNow(node);
    this.#sealNow(closed);
  }

  /** Changes and zeroing to wait for. While one is waited for, another may begin. */
  #notReady(nodes: readonly TreeNode[], forced: boolean): Promise<void>[] {
    const waiting: Promise<void>[] = [];
    for (const node of nodes) {
      if (node.kind !== "file" || !this.#due.has(node) || (!forced && this.#isGrowing(node))) continue;
      const ready = node.changing ?? this.#ctx.sizes.fillLastUnit(node);
      if (ready !== undefined) waiting.push(ready);
    }
    return waiting;
  }

  /** Seals `directory` and what it lies in: what is in the log can only be moved to what is in the log. */
  sealDirectory(directory: DirectoryNode): void {
    const missing: TreeNode[] = [];
    for (let at: DirectoryNode | undefined = directory; at !== undefined && at.sealed === undefined; at = at.parent) {
      missing.unshift(at);
    }
    for (const node of missing) this.#append([node]);
  }

  close(): void {
    this.#timer?.handle[Symbol.dispose]();
    this.#timer = undefined;
    this.#due.clear();
  }

  /** A stock log has no empty files: they stay here until they have bytes. */
  #canBeLogged(node: TreeNode): boolean {
    return this.#ctx.options.extended || node.kind !== "file" || sizeOf(node, this.#ctx.options.maps) > 0;
  }

  #dueMs(node: TreeNode): number {
    const { clock } = this.#ctx.options;
    if (!this.#canBeLogged(node)) return Number.POSITIVE_INFINITY;
    const delayMs = this.#ctx.settings.sealDelayMs;
    if (
      node.kind !== "file" ||
      node.content.type !== "unsealed" ||
      node.open === undefined ||
      node.open.writers === 0
    ) {
      return clock.monotonicMs() + delayMs;
    }
    return this.#isDeclared(node, node.content) ? node.content.sizeChangedAtMs + delayMs : Number.POSITIVE_INFINITY;
  }

  /** Open for write, and nobody said how long it will be. */
  #isGrowing(node: TreeNode): boolean {
    return (
      node.kind === "file" &&
      node.content.type === "unsealed" &&
      !this.#isDeclared(node, node.content) &&
      node.open !== undefined &&
      node.open.writers > 0
    );
  }

  #isDeclared(file: FileNode, { declaredSize }: UnsealedFile): boolean {
    return declaredSize !== undefined && declaredSize === sizeOf(file, this.#ctx.options.maps);
  }

  #schedule(atMs: number): void {
    if (atMs === Number.POSITIVE_INFINITY) return;
    if (this.#timer !== undefined && this.#timer.atMs <= atMs) return;
    this.#timer?.handle[Symbol.dispose]();
    const { clock } = this.#ctx.options;
    const handle = clock.schedule(Math.max(0, atMs - clock.monotonicMs()) + GATHER_MS, () => {
      this.#timer = undefined;
      void this.#tick();
    });
    this.#timer = { atMs, handle };
  }

  async #tick(): Promise<void> {
    const { clock, logger, maps } = this.#ctx.options;
    const nowMs = clock.monotonicMs();
    if (this.#ctx.ownership.writer === undefined) {
      // Being handed over, or waiting for a lease to be renewed.
      this.#schedule(nowMs + RETRY_MS);
      return;
    }
    const due: TreeNode[] = [];
    for (const [node, atMs] of this.#due) {
      if (atMs > nowMs) continue;
      if (node.kind === "file" && node.content.type === "unsealed" && (node.open?.writers ?? 0) > 0) {
        const size = sizeOf(node, maps);
        if (size !== node.content.sizeSeen) {
          // Declared when it became due, but written beyond that since: it is not finished.
          node.content.sizeSeen = size;
          node.content.sizeChangedAtMs = nowMs;
          this.#due.set(node, this.#dueMs(node));
          continue;
        }
      }
      due.push(node);
    }
    try {
      await this.seal(due, { forced: false });
      this.#ctx.space.settle();
    } catch (error) {
      // A defect here must not end the process, which serves other volumes, too.
      logger[isFamfsError(error) ? "warn" : "error"]({ err: error, files: due.length }, "sealing failed");
      for (const node of due) if (this.#due.has(node)) this.#due.set(node, nowMs + RETRY_MS);
    }
    let nextMs = Number.POSITIVE_INFINITY;
    for (const atMs of this.#due.values()) nextMs = Math.min(nextMs, atMs);
    this.#schedule(nextMs);
  }

  #sealNow(nodes: readonly TreeNode[]): void {
    const chosen = nodes.filter((node) => this.#due.has(node) && isLinked(node, this.#ctx.nodes.root));
    for (const node of chosen) {
      if (node.kind === "directory") this.sealDirectory(node);
      else if (node.parent !== undefined) this.sealDirectory(node.parent);
    }
    const rest = chosen.filter((node) => node.kind !== "directory" && this.#due.has(node));
    const step = MAX_TRANSACTION / MAX_SLOTS_PER_NODE;
    for (let at = 0; at < rest.length; at += step) this.#append(rest.slice(at, at + step));
  }

  /** One transaction: `nodes` lie in directories that are sealed. */
  #append(nodes: readonly TreeNode[]): void {
    const { transactions } = this.#ctx;
    const steps: Step[] = [];
    const contents = new Map<TreeNode, FinalContent & { readonly tail: readonly Extent[] }>();
    for (const node of nodes) {
      const final = node.kind === "file" ? this.#finalContent(node) : undefined;
      if (final !== undefined) contents.set(node, final);
      steps.push(...planSeal(node, transactions.nextIndex + steps.length, this.#ctx.sealed, final));
    }
    transactions.append(steps);
    for (const node of nodes) {
      this.#due.delete(node);
      transactions.withdraw(node);
      if (node.kind === "file") this.#finish(node, contents.get(node)?.tail ?? []);
    }
  }

  /** The size and the extents as they will be for ever. The data is in the memory since it was stored. */
  #finalContent(file: FileNode): FinalContent & { readonly tail: readonly Extent[] } {
    const { maps } = this.#ctx.options;
    const { content } = file;
    if (content.type === "sealed")
      return { size: content.size, content: { extents: [], chunkSize: undefined }, tail: [] };
    refreshTimes(file, maps);
    const size = sizeOf(file, maps);
    const { head, tail } = splitContent(content, size);
    if (filledOf(file, content, maps) < totalLength(head.extents)) {
      throw new FamfsError("INTERNAL", `${pathOf(file)} would seal with bytes that nobody wrote`);
    }
    return { size, content: head, tail };
  }

  #finish(file: FileNode, tail: readonly Extent[]): void {
    const { maps } = this.#ctx.options;
    const { content } = file;
    if (content.type === "sealed" || file.sealed === undefined) return;
    this.#ctx.space.sealed(content.extents);
    this.#ctx.space.release(tail);
    file.content = sealedContent(file.sealed, this.#ctx.coherence.generation);
    this.#ctx.sizes.sealed(file);
    if (file.open !== undefined) {
      maps.setLayout(file.open.map, mapLayoutOf(file.content), file.content.size);
      maps.setSealed(file.open.map, true);
    }
    if (tail.length > 0) this.#ctx.coherence.kernel.attributes(file.nodeid);
  }
}

function isLinked(node: TreeNode, root: DirectoryNode): boolean {
  return isWithin(node, root);
}
