import { FamfsError, SortedList } from "../base/index.ts";
import type { SealedNode } from "../format/index.ts";
import type { TreeNode } from "./nodes.ts";

/** Where the names of a directory come from that the log knows. */
export interface NamesInLog {
  /** The directory as the log has it now; undefined when it does not any more. */
  readonly directory: () => SealedNode | undefined;
  /** Makes the live node of `sealed`, which is in the directory, and adds it. */
  readonly make: (sealed: SealedNode) => TreeNode;
}

/**
 * The names of a directory. As long as they are those of the log, a node is made when it is asked for: most of a
 * volume's files nobody looks up. From the first name on that is here otherwise than in the log, all are kept.
 */
export class Children {
  readonly #byName = new Map<string, TreeNode>();
  /** By nodeid, made when it is first listed: so cookies survive any change in between. */
  #ordered: SortedList<TreeNode, Pick<TreeNode, "nodeid">> | undefined;
  #directories = 0;
  /** While set, the names are those of the log, and `#byName` has the nodes that were made. */
  #log: NamesInLog | undefined;

  /** Without `log` it is empty. */
  constructor(log?: NamesInLog) {
    this.#log = log;
  }

  get size(): number {
    return this.#log === undefined ? this.#byName.size : (this.#log.directory()?.children?.size ?? 0);
  }

  get directories(): number {
    return this.#log === undefined ? this.#directories : (this.#log.directory()?.subdirectories ?? 0);
  }

  /** All names are kept here: a name that comes with the log has to be added. */
  get isWhole(): boolean {
    return this.#log === undefined;
  }

  get(name: string): TreeNode | undefined {
    const made = this.#byName.get(name);
    if (made !== undefined || this.#log === undefined) return made;
    const sealed = this.#inLog(name);
    return sealed === undefined ? undefined : this.#log.make(sealed);
  }

  values(): Iterable<TreeNode> {
    this.makeWhole();
    return this.#byName.values();
  }

  add(name: string, node: TreeNode): void {
    if (this.#log !== undefined && (node.sealed === undefined || this.#inLog(name) !== node.sealed)) this.makeWhole();
    if (this.#byName.has(name)) throw new FamfsError("INTERNAL", `name "${name}" is taken in its directory`);
    this.#byName.set(name, node);
    if (node.kind === "directory") this.#directories++;
    this.#ordered?.add(node);
  }

  remove(name: string): void {
    const node = this.#byName.get(name);
    if (node === undefined) return;
    if (node.sealed !== undefined && this.#inLog(name) === node.sealed) this.makeWhole();
    this.#byName.delete(name);
    if (node.kind === "directory") this.#directories--;
    this.#ordered?.delete(node);
  }

  /** Nodes with a nodeid above `cookie`, in order. What changes meanwhile is seen or not. */
  *after(cookie: number): Generator<TreeNode> {
    this.makeWhole();
    this.#ordered ??= this.#order();
    for (let last = cookie; ; ) {
      const node = this.#ordered.ceiling({ nodeid: last + 1 });
      if (node === undefined) return;
      yield node;
      last = node.nodeid;
    }
  }

  #inLog(name: string): SealedNode | undefined {
    return this.#log?.directory()?.children?.get(name);
  }

  /** Keeps all names here from now on. */
  makeWhole(): void {
    const log = this.#log;
    if (log === undefined) return;
    for (const [name, sealed] of log.directory()?.children ?? []) if (!this.#byName.has(name)) log.make(sealed);
    this.#log = undefined;
  }

  #order(): SortedList<TreeNode, Pick<TreeNode, "nodeid">> {
    const ordered = new SortedList<TreeNode, Pick<TreeNode, "nodeid">>((a, b) => a.nodeid - b.nodeid);
    for (const node of this.#byName.values()) ordered.add(node);
    return ordered;
  }
}
