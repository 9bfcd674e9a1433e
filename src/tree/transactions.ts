import { FamfsError, hasCode } from "../base/index.ts";
import { type Finding, type LogEntry, ROOT_INDEX, type SealedTree } from "../format/index.ts";
import { isHeld, type Nodes, type TreeNode } from "./nodes.ts";
import type { Ownership } from "./ownership.ts";
import type { Space } from "./space.ts";

/**
 * Entries that nothing new may take, so that a volume with a full log can still be cleared and put in order. The log
 * gives no entries back, so this bounds how much.
 */
const RESERVE_SHARE = 1 / 256;
const MIN_RESERVE = 32;

/** An entry to append, and the live node that it makes. */
export interface Step {
  readonly entry: LogEntry;
  readonly node?: TreeNode;
}

/** Appends of this node: checks the log's slots, writes, and brings model, bindings and space in line. */
export class Transactions {
  readonly #model: { readonly sealed: SealedTree };
  readonly #nodes: Nodes;
  readonly #space: Space;
  readonly #ownership: Ownership;
  readonly #capacity: number;
  readonly #reserve: number;
  readonly #extended: boolean;
  readonly #promised = new Map<TreeNode, number>();
  #promisedSlots = 0;

  constructor(parts: {
    model: { readonly sealed: SealedTree };
    nodes: Nodes;
    space: Space;
    ownership: Ownership;
    capacity: number;
    extended: boolean;
  }) {
    this.#model = parts.model;
    this.#nodes = parts.nodes;
    this.#space = parts.space;
    this.#ownership = parts.ownership;
    this.#capacity = parts.capacity;
    this.#extended = parts.extended;
    // Nothing is removed or renamed in a stock log.
    this.#reserve = parts.extended ? Math.max(MIN_RESERVE, Math.floor(parts.capacity * RESERVE_SHARE)) : 0;
  }

  get #sealed(): SealedTree {
    return this.#model.sealed;
  }

  /** Entries for all that is made here in the life of the log. */
  get capacityForNew(): number {
    return Math.max(0, this.#capacity - this.#reserve);
  }

  /** Slots that nothing has been promised and that something new may take. */
  get freeForNew(): number {
    return Math.max(0, this.#freeSlots - this.#reserve);
  }

  get #freeSlots(): number {
    return Math.max(0, this.#capacity - this.#sealed.nextIndex - this.#promisedSlots);
  }

  /** Index the next entry gets. */
  get nextIndex(): number {
    return this.#sealed.nextIndex;
  }

  /** LOG_FULL unless `count` more entries fit: for what frees something or only moves it, and for what was promised. */
  require(count: number): void {
    if (this.#freeSlots < count) throw this.#full(count, "");
  }

  /** LOG_FULL unless `count` more entries fit beside those kept for removing and renaming. */
  requireForNew(count: number): void {
    if (count > 1) this.requireExtended("a name that was used before, or a path of more than 78 bytes");
    if (this.freeForNew < count) throw this.#full(count, ` beside the ${this.#reserve} kept for removing and renaming`);
  }

  /** NOT_PERMITTED on a stock file system, whose log cannot say `what`. */
  requireExtended(what: string): void {
    if (this.#extended) return;
    throw new FamfsError(
      "NOT_PERMITTED",
      `the file system was formatted by the stock tools, which know only new files and directories, not ${what}; ` +
        "copy it to a volume of this driver to change it",
    );
  }

  #full(count: number, beside: string): FamfsError {
    return new FamfsError(
      "LOG_FULL",
      `the log holds ${this.#sealed.nextIndex} of ${this.#capacity} entries and ${this.#promisedSlots} are promised to ` +
        `files not sealed yet: ${count} more do not fit${beside}; copy the volume to a new one with a larger log`,
    );
  }

  /** Promises `node` the slots that it needs to seal, instead of what it was promised before. LOG_FULL. */
  promise(node: TreeNode, count: number): void {
    const more = count - (this.#promised.get(node) ?? 0);
    if (more > 0) this.require(more);
    this.#promised.set(node, count);
    this.#promisedSlots += more;
  }

  /** `node` is in the log, or will never be. */
  withdraw(node: TreeNode): void {
    this.#promisedSlots -= this.#promised.get(node) ?? 0;
    this.#promised.delete(node);
  }

  /**
   * Appends `steps` as one transaction. OWNER_STALE; then everything unsealed is lost. NOT_PERMITTED for what a stock
   * log cannot say.
   */
  append(steps: readonly Step[]): void {
    if (steps.length === 0) return;
    const writer = this.#ownership.yieldingWriter;
    if (writer === undefined) throw new FamfsError("INTERNAL", "an append without owning the log");
    const first = this.#sealed.nextIndex;
    if (writer.nextIndex !== first) {
      throw new FamfsError("INTERNAL", `the log is at ${writer.nextIndex}, the tree at ${first}`);
    }
    if (first + steps.length > this.#capacity) this.require(steps.length);
    try {
      writer.append(steps.map((step) => step.entry));
    } catch (error) {
      if (hasCode(error, "OWNER_STALE")) this.#ownership.lose(error);
      throw error;
    }
    const refused = steps.flatMap((step, at) => this.#apply(first + at, step));
    if (refused.length === 0) return;
    // What this node believes and what the log says differ: everything is read again, and what was not in the log is
    // lost.
    const error = new FamfsError(
      "LOG_CORRUPT",
      `an entry of this node has no effect: ${refused.map(({ message }) => message).join("; ")}`,
      { details: { index: first } },
    );
    this.#ownership.lose(error);
    throw error;
  }

  /** Why replay refuses the entry. */
  #apply(index: number, step: Step): readonly Finding[] {
    const { changes, findings } = this.#sealed.apply(index, step.entry);
    for (const change of changes) {
      if (change.type === "added") {
        this.#space.sealedAdded(change.node);
        if (step.node !== undefined) this.#nodes.bind(step.node, change.node);
      } else if (change.type === "removed" || change.type === "replaced") {
        const { layout } = change.node;
        const node = this.#nodes.ofSealed(change.node);
        if (node !== undefined) this.#nodes.unbind(node);
        this.#space.sealedRemoved(change.node, () => node !== undefined && reads(node, layout));
        if (node !== undefined) this.#nodes.letGo(node);
      }
    }
    return findings;
  }

  /** RELINK of a sealed node to where it is, or will be, with its attributes of now. */
  relink(node: TreeNode, place?: { parent: TreeNode; name: string }): LogEntry {
    const target = sealedIndex(node);
    const parent = place?.parent ?? node.parent;
    return {
      type: "relink",
      target,
      link:
        target === ROOT_INDEX || parent === undefined
          ? undefined
          : { parent: sealedIndex(parent), name: place?.name ?? node.name },
      mode: node.mode,
      uid: node.uid,
      gid: node.gid,
      mtime: node.mtime,
    };
  }

  /** RELINK that removes a sealed node for good. */
  removal(index: number, node?: TreeNode): LogEntry {
    return {
      type: "relink",
      target: index,
      link: undefined,
      mode: node?.mode ?? 0,
      uid: node?.uid ?? 0,
      gid: node?.gid ?? 0,
      mtime: node?.mtime,
    };
  }
}

export function sealedIndex(node: TreeNode): number {
  if (node.sealed === undefined) throw new FamfsError("INTERNAL", `node ${node.nodeid} is not in the log`);
  return node.sealed.index;
}

/** Whether programs may still read `layout` through `node`. */
function reads(node: TreeNode, layout: unknown): boolean {
  return node.kind === "file" && isHeld(node) && node.content.type === "sealed" && node.content.layout === layout;
}
