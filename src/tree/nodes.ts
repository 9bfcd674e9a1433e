import { FamfsError } from "../base/index.ts";
import type { Layout, SealedNode, Time } from "../format/index.ts";
import { Children } from "./children.ts";
import type { OpenFile } from "./open-file.ts";
import type { UnsealedFile } from "./unsealed-file.ts";

/**
 * The live nodes of a volume: what this node's processes see, which is the log plus what is local. `sealed` is what
 * the log has of a node; while it is undefined, the node is known here alone. A name that is taken locally by an
 * unsealed node may still belong to another node in the log: that one goes when the unsealed one seals.
 */
interface NodeBase {
  readonly nodeid: number;
  /** undefined for the root and for what was unlinked. */
  parent: DirectoryNode | undefined;
  name: string;
  /** Permission bits. */
  mode: number;
  uid: number;
  gid: number;
  atime: Time;
  mtime: Time;
  ctime: Time;
  sealed: SealedNode | undefined;
  /** How often the kernel was told of it and has not forgotten that: as long as this is not 0, it may come back. */
  lookups: number;
}

export interface FileNode extends NodeBase {
  readonly kind: "file";
  content: SealedContent | UnsealedFile;
  /** Set while handles are open. */
  open: OpenFile | undefined;
  /** It was opened since the kernel was last told to forget its pages. */
  mayHavePages: boolean;
  /** Set while extents are added, cut off or zeroed: one such change at a time, and what it zeroes is not written. */
  changing: Promise<void> | undefined;
}

export interface SealedContent {
  readonly type: "sealed";
  readonly size: number;
  /** undefined for an empty file. */
  readonly layout: Layout | undefined;
  /**
   * The generation of `Coherence` in which the processors of this host had nothing old of it. In a later one, or with
   * 0, they may have what was in its extents before another node wrote it.
   */
  freshIn: number;
}

export interface SymlinkNode extends NodeBase {
  readonly kind: "symlink";
  readonly target: string;
}

export interface DirectoryNode extends NodeBase {
  readonly kind: "directory";
  readonly children: Children;
}

export type TreeNode = FileNode | SymlinkNode | DirectoryNode;

export const ROOT_NODEID = 1;
const NOT_OPEN = { open: undefined, mayHavePages: false, changing: undefined } as const;
/** nodeids of nodes that came from the log: this plus the log index. A log has fewer than 2^32 entries. */
const SEALED_NODEIDS = 2;
/** nodeids of nodes that were made here; they keep theirs when they seal. */
const LOCAL_NODEIDS = 2 ** 40;

export interface NewNode {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly time: Time;
}

/** All live nodes by nodeid, and by log index those that the log knows. */
export class Nodes {
  readonly root: DirectoryNode;
  readonly #byId = new Map<number, TreeNode>();
  readonly #bySealedIndex = new Map<number, TreeNode>();
  readonly #now: () => Time;
  #nextLocal = LOCAL_NODEIDS;

  constructor(root: SealedNode, now: () => Time) {
    this.#now = now;
    this.root = {
      kind: "directory",
      nodeid: ROOT_NODEID,
      parent: undefined,
      name: "",
      ...attributesOf(root, now()),
      sealed: root,
      lookups: 0,
      children: this.#childrenOf(() => this.root),
    };
    this.#byId.set(ROOT_NODEID, this.root);
    this.#bySealedIndex.set(root.index, this.root);
  }

  /** NODE_STALE for a nodeid that is gone. */
  get(nodeid: number): TreeNode {
    const node = this.#byId.get(nodeid);
    if (node === undefined) throw new FamfsError("NODE_STALE", `node ${nodeid} is gone`);
    return node;
  }

  find(nodeid: number): TreeNode | undefined {
    return this.#byId.get(nodeid);
  }

  directory(nodeid: number): DirectoryNode {
    const node = this.get(nodeid);
    if (node.kind !== "directory") throw new FamfsError("NOT_A_DIRECTORY", `${pathOf(node)} is not a directory`);
    return node;
  }

  file(nodeid: number): FileNode {
    const node = this.get(nodeid);
    if (node.kind === "directory") throw new FamfsError("IS_A_DIRECTORY", `${pathOf(node)} is a directory`);
    if (node.kind !== "file") throw new FamfsError("INVALID_OPERATION", `${pathOf(node)} is a symlink`);
    return node;
  }

  /** Undefined when nobody has asked for it yet. */
  ofSealed(sealed: SealedNode): TreeNode | undefined {
    return this.#bySealedIndex.get(sealed.index);
  }

  /** The live node of `sealed`, made if need be; undefined when the name is another node's here. */
  reach(sealed: SealedNode): TreeNode | undefined {
    const made = this.ofSealed(sealed);
    if (made !== undefined || sealed.parent === undefined) return made;
    const parent = this.reach(sealed.parent);
    const node = parent?.kind === "directory" ? parent.children.get(sealed.name) : undefined;
    return node?.sealed === sealed ? node : undefined;
  }

  /** Those that were made. */
  all(): Iterable<TreeNode> {
    return this.#byId.values();
  }

  newFile(init: NewNode, content: FileNode["content"]): FileNode {
    return this.#keep({ kind: "file", ...this.#local(init), content, ...NOT_OPEN });
  }

  newDirectory(init: NewNode): DirectoryNode {
    return this.#keep({ kind: "directory", ...this.#local(init), children: new Children() });
  }

  newSymlink(init: NewNode, target: string): SymlinkNode {
    return this.#keep({ kind: "symlink", ...this.#local(init), target });
  }

  /** The node of a log entry that another node, or an earlier session, wrote. */
  fromLog(sealed: SealedNode): TreeNode {
    const usual = SEALED_NODEIDS + sealed.index;
    const base = {
      // An entry that was retracted may have left a node that is still held.
      nodeid: this.#byId.has(usual) ? this.#nextLocal++ : usual,
      parent: undefined,
      name: "",
      ...attributesOf(sealed, this.#now()),
      sealed,
      lookups: 0,
    };
    const node: TreeNode =
      sealed.kind === "directory"
        ? { kind: "directory", ...base, children: this.#childrenOf(() => node) }
        : sealed.kind === "symlink"
          ? { kind: "symlink", ...base, target: sealed.symlinkTarget ?? "" }
          : {
              kind: "file",
              ...base,
              content: sealedContent(sealed, 0),
              ...NOT_OPEN,
            };
    this.#bySealedIndex.set(sealed.index, node);
    return this.#keep(node);
  }

  /** From now on `sealed` is what the log has of `node`. */
  bind(node: TreeNode, sealed: SealedNode): void {
    if (node.sealed !== undefined) this.#bySealedIndex.delete(node.sealed.index);
    node.sealed = sealed;
    this.#bySealedIndex.set(sealed.index, node);
  }

  /** The log has nothing of `node` any more. */
  unbind(node: TreeNode): void {
    if (node.sealed !== undefined) this.#bySealedIndex.delete(node.sealed.index);
    node.sealed = undefined;
  }

  attach(node: TreeNode, parent: DirectoryNode, name: string): void {
    parent.children.add(name, node);
    node.parent = parent;
    node.name = name;
  }

  detach(node: TreeNode): void {
    node.parent?.children.remove(node.name);
    node.parent = undefined;
  }

  /** The node is gone when nothing leads to it any more: no name, no entry of the log, and nothing that holds it. */
  letGo(node: TreeNode): void {
    if (node.parent === undefined && node.sealed === undefined && !isHeld(node)) this.#byId.delete(node.nodeid);
  }

  #childrenOf(directory: () => TreeNode): Children {
    return new Children({
      directory: () => directory().sealed,
      make: (sealed) => {
        const node = this.ofSealed(sealed) ?? this.fromLog(sealed);
        const parent = directory();
        this.detach(node);
        if (parent.kind === "directory") this.attach(node, parent, sealed.name);
        return node;
      },
    });
  }

  #local(init: NewNode) {
    return {
      nodeid: this.#nextLocal++,
      parent: undefined,
      name: "",
      mode: init.mode,
      uid: init.uid,
      gid: init.gid,
      atime: init.time,
      mtime: init.time,
      ctime: init.time,
      sealed: undefined,
      lookups: 0,
    };
  }

  #keep<T extends TreeNode>(node: T): T {
    this.#byId.set(node.nodeid, node);
    return node;
  }
}

export function sealedContent(sealed: SealedNode, freshIn: number): SealedContent {
  return { type: "sealed", size: sealed.size, layout: sealed.layout, freshIn };
}

/** Mode, owner and times as the log has them; `now` where a stock entry has no time. */
export function attributesOf(sealed: SealedNode, now: Time) {
  const time = sealed.mtime ?? now;
  return { mode: sealed.mode, uid: sealed.uid, gid: sealed.gid, atime: time, mtime: time, ctime: time };
}

/** For messages; latin1 as names are. */
export function pathOf(node: TreeNode): string {
  const parts: string[] = [];
  for (let at: TreeNode | undefined = node; at?.parent !== undefined; at = at.parent) parts.unshift(at.name);
  return `/${Buffer.from(parts.join("/"), "latin1").toString("utf8")}`;
}

/** Whether `node` is `ancestor` or below it. */
export function isWithin(node: TreeNode, ancestor: TreeNode): boolean {
  for (let at: TreeNode | undefined = node; at !== undefined; at = at.parent) if (at === ancestor) return true;
  return false;
}

/** Whether programs may come back to `node` without a name: it is open, or the kernel refers to it. */
export function isHeld(node: TreeNode): boolean {
  return node.lookups > 0 || (node.kind === "file" && node.open !== undefined);
}

export function isUnsealed(node: TreeNode): boolean {
  return node.sealed === undefined || (node.kind === "file" && node.content.type === "unsealed");
}
