import type { Finding } from "./finding.ts";
import type { Layout, Time } from "./log-entry.ts";

/**
 * A node that the log made. One object per node for its whole life: `apply` changes it in place, so the live file
 * system may keep references and compare them.
 */
export interface SealedNode {
  /** Log index of the entry that made it; ROOT_INDEX for the root. */
  readonly index: number;
  readonly kind: "file" | "directory" | "symlink";
  /** undefined for the root, and for a node that is detached (not placed yet) or removed. */
  readonly parent: SealedNode | undefined;
  /** "" without a parent. */
  readonly name: string;
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** undefined: the log does not say (stock entries). */
  readonly mtime: Time | undefined;
  /** Bytes of a file; length of a symlink's target; 0 for a directory. */
  readonly size: number;
  /** undefined for directories, symlinks and empty files. */
  readonly layout: Layout | undefined;
  readonly symlinkTarget: string | undefined;
  /** Of a directory, in order of creation. */
  readonly children: ReadonlyMap<string, SealedNode> | undefined;
  /** Directories among `children`. */
  readonly subdirectories: number;
  /** Where stock tools see it: "" for the root, undefined when they do not (NODE). Never changes. */
  readonly stockPath: string | undefined;
}

export type SealedChange =
  /** A new node: placed at `node.parent`, or detached (a RELINK will place it; nobody sees it before). */
  | { readonly type: "added"; readonly node: SealedNode }
  /** `node` has a new place; `from` is undefined when it was detached. */
  | { readonly type: "moved"; readonly node: SealedNode; readonly from: SealedPlace | undefined }
  /** `node` is gone for good, its extents are free; `from` is undefined when it was detached. */
  | { readonly type: "removed"; readonly node: SealedNode; readonly from: SealedPlace | undefined }
  /** `node` is gone for good because `by` takes its place (an "added" or "moved" of `by` follows). */
  | { readonly type: "replaced"; readonly node: SealedNode; readonly by: SealedNode; readonly from: SealedPlace }
  /** Mode, owner or mtime of `node` changed. */
  | { readonly type: "attributes"; readonly node: SealedNode };

export interface SealedPlace {
  readonly parent: SealedNode;
  readonly name: string;
}

export interface Applied {
  /** In the order in which they happened; empty when the entry was refused or has no effect. */
  readonly changes: readonly SealedChange[];
  readonly findings: readonly Finding[];
}

export interface SealedTreeOptions {
  /** Bytes of the primary region (daxdev 0), and where data starts (log offset + log length). */
  readonly regionLength: number;
  readonly dataOffset: number;
  readonly allocUnit: number;
  /** Whether the volume has a record: extension entries and trailers count only then. */
  readonly extended: boolean;
  readonly rootUid: number;
  readonly rootGid: number;
  readonly rootMode: number;
}

/** How the tree sees its own nodes: with everything that may change. */
export class Node implements SealedNode {
  readonly index: number;
  readonly kind: SealedNode["kind"];
  readonly size: number;
  readonly layout: Layout | undefined;
  readonly symlinkTarget: string | undefined;
  readonly children: Map<string, Node> | undefined;
  readonly stockPath: string | undefined;
  /** The directory of `stockPath`. */
  readonly stockParent: Node | undefined;
  /** Whether it is still where stock tools see it. */
  atStockPlace = false;
  /** Of a directory: names in it that stock tools see, or may see, but that are not at their place any more. */
  usedNames: Set<string> | undefined = undefined;
  subdirectories = 0;
  parent: Node | undefined = undefined;
  name = "";
  mode: number;
  uid: number;
  gid: number;
  mtime: Time | undefined;

  constructor(
    index: number,
    kind: SealedNode["kind"],
    attributes: { mode: number; uid: number; gid: number; mtime?: Time | undefined },
    content: { size?: number; layout?: Layout; symlinkTarget?: string; stockPath?: string; stockParent?: Node },
  ) {
    this.index = index;
    this.kind = kind;
    this.mode = attributes.mode & 0o7777;
    this.uid = attributes.uid;
    this.gid = attributes.gid;
    this.mtime = attributes.mtime;
    this.size = content.size ?? 0;
    this.layout = content.layout;
    this.symlinkTarget = content.symlinkTarget;
    this.stockPath = content.stockPath;
    this.stockParent = content.stockParent;
    this.children = kind === "directory" ? new Map() : undefined;
  }

  addChild(name: string, child: Node): void {
    this.children?.set(name, child);
    if (child.kind === "directory") this.subdirectories++;
  }

  removeChild(name: string): void {
    if (this.children?.get(name)?.kind === "directory") this.subdirectories--;
    this.children?.delete(name);
  }

  useName(name: string): void {
    this.usedNames ??= new Set();
    this.usedNames.add(name);
  }

  /** It leaves the place where stock tools see it: its name there stays used. */
  leaveStockPlace(): void {
    this.atStockPlace = false;
    if (this.stockPath === undefined) return;
    this.stockParent?.useName(this.stockPath.slice(this.stockPath.lastIndexOf("/") + 1));
  }

  get place(): { parent: Node; name: string } | undefined {
    return this.parent === undefined ? undefined : { parent: this.parent, name: this.name };
  }
}

export function setAttributes(
  node: Node,
  to: { mode: number; uid: number; gid: number; mtime: Time | undefined },
): boolean {
  const mode = to.mode & 0o7777;
  const sameTime = node.mtime?.seconds === to.mtime?.seconds && node.mtime?.nanoseconds === to.mtime?.nanoseconds;
  if (node.mode === mode && node.uid === to.uid && node.gid === to.gid && sameTime) return false;
  node.mode = mode;
  node.uid = to.uid;
  node.gid = to.gid;
  node.mtime = to.mtime;
  return true;
}

export const STAND_IN_PREFIX = ".famfs-";

/**
 * The hidden name at the root for what has no direct path. On extended volumes a FILE or MKDIR whose path is its
 * own stand-in is born detached: nobody sees it before the RELINK, however the transaction ends.
 */
export function standInPath(index: number): string {
  return `${STAND_IN_PREFIX}${index}`;
}
