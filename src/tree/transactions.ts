import { FamfsError, hasCode, type Logger } from "../base/index.ts";
import { type LogEntry, ROOT_INDEX, type SealedTree } from "../format/index.ts";
import type { Nodes, TreeNode } from "./nodes.ts";
import type { Ownership } from "./ownership.ts";
import type { Space } from "./space.ts";

/** An entry to append, and the live node that it makes. */
export interface Step {
  readonly entry: LogEntry;
  readonly node?: TreeNode;
}

/** Appends of this node: checks the log's slots, writes, and brings model, bindings and space in line. */
export class Transactions {
  readonly #model: () => SealedTree;
  readonly #nodes: Nodes;
  readonly #space: Space;
  readonly #ownership: Ownership;
  readonly #logger: Logger;
  readonly #capacity: number;
  readonly #promised = new Map<TreeNode, number>();
  #reserved = 0;

  constructor(parts: {
    sealed: () => SealedTree;
    nodes: Nodes;
    space: Space;
    ownership: Ownership;
    logger: Logger;
    capacity: number;
  }) {
    this.#model = parts.sealed;
    this.#nodes = parts.nodes;
    this.#space = parts.space;
    this.#ownership = parts.ownership;
    this.#logger = parts.logger;
    this.#capacity = parts.capacity;
  }

  get #sealed(): SealedTree {
    return this.#model();
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** Slots that nothing has been promised. */
  get freeSlots(): number {
    return Math.max(0, this.#capacity - this.#sealed.nextIndex - this.#reserved);
  }

  /** Index the next entry gets. */
  get nextIndex(): number {
    return this.#sealed.nextIndex;
  }

  /** LOG_FULL unless `count` more entries fit. */
  require(count: number): void {
    if (this.freeSlots < count) {
      throw new FamfsError(
        "LOG_FULL",
        `the log holds ${this.#sealed.nextIndex} of ${this.#capacity} entries and ${this.#reserved} are promised to ` +
          `files not sealed yet: ${count} more do not fit; copy the volume to a new one with a larger log`,
      );
    }
  }

  /** Promises `node` the slots that it needs to seal, instead of what it was promised before. LOG_FULL. */
  promise(node: TreeNode, count: number): void {
    const more = count - (this.#promised.get(node) ?? 0);
    if (more > 0) this.require(more);
    this.#promised.set(node, count);
    this.#reserved += more;
  }

  /** `node` is in the log, or will never be. */
  withdraw(node: TreeNode): void {
    this.#reserved -= this.#promised.get(node) ?? 0;
    this.#promised.delete(node);
  }

  /** Appends `steps` as one transaction. OWNER_STALE; then everything unsealed is lost. */
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
    steps.forEach((step, at) => {
      this.#apply(first + at, step);
    });
  }

  #apply(index: number, step: Step): void {
    const { changes, findings } = this.#sealed.apply(index, step.entry);
    for (const finding of findings) this.#logger.error({ finding }, "an entry of this node was refused by its replay");
    for (const change of changes) {
      if (change.type === "added") {
        this.#space.sealedAdded(change.node);
        if (step.node !== undefined) this.#nodes.bind(step.node, change.node);
      } else if (change.type === "removed" || change.type === "replaced") {
        const { layout } = change.node;
        const node = this.#nodes.ofSealed(change.node);
        if (node !== undefined) this.#nodes.unbind(node);
        this.#space.sealedRemoved(change.node, () => node !== undefined && reads(node, layout));
        if (node !== undefined && node.parent === undefined && !isOpen(node)) this.#nodes.forget(node);
      }
    }
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

function isOpen(node: TreeNode): boolean {
  return node.kind === "file" && node.open !== undefined;
}

/** Whether handles of `node` read from `layout`. */
function reads(node: TreeNode, layout: unknown): boolean {
  return (
    node.kind === "file" && node.open !== undefined && node.content.type === "sealed" && node.content.layout === layout
  );
}
