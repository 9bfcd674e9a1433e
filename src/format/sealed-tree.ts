import { ALLOC_UNIT, FamfsError, type Range, RangeSet } from "../base/index.ts";
import { isName } from "./entry-encode.ts";
import { ExtensionType } from "./extension-structs.ts";
import type { FindingCode } from "./finding.ts";
import { claimExtents, type Daxdev, extentsOf, layoutProblem, type Problem, releaseExtents } from "./layout-check.ts";
import {
  type AddDaxdevEntry,
  type FileEntry,
  type Link,
  type LogEntry,
  type MkdirEntry,
  type NodeEntry,
  type RelinkEntry,
  ROOT_INDEX,
} from "./log-entry.ts";
import {
  type Applied,
  Node,
  type SealedChange,
  type SealedNode,
  type SealedTreeOptions,
  STAND_IN_PREFIX,
  setAttributes,
  standInPath,
} from "./sealed-node.ts";
import { MAX_DIRECT_PATH } from "./structs.ts";

/** A path longer than any a system call takes: directories this deep are refused, so that checks stay bounded. */
const MAX_DEPTH = 4096;

/** Where stock tools put what an entry makes. A stand-in is born detached, whatever its directory. */
interface StockPlace {
  readonly directory: Node;
  readonly name: string;
  readonly standIn: boolean;
}

const EXTENSION_TYPES: ReadonlySet<number> = new Set(Object.values(ExtensionType));

const NONE: readonly never[] = [];
const NOTHING: Applied = { changes: NONE, findings: NONE };

/**
 * The file system that a prefix of the log describes (format 5.4 and 6, docs/format-extensions.md). Pure, and stricter
 * than stock replay: what is refused is reported and has no effect. Entries are applied in order of index.
 */
export class SealedTree {
  readonly #root: Node;
  readonly #nodes = new Map<number, Node>();
  /** Directories alive, by the path under which stock tools see them. */
  readonly #stockDirectories = new Map<string, Node>();
  readonly #daxdevs = new Map<number, Daxdev>();
  readonly #daxdevUuids = new Set<string>();
  readonly #allocUnit: number;
  readonly #extended: boolean;
  #nextIndex = 0;
  #files = 0;
  #directories = 0;
  #fileBytes = 0;

  constructor(options: SealedTreeOptions) {
    this.#allocUnit = options.allocUnit;
    this.#extended = options.extended;
    this.#root = new Node(
      ROOT_INDEX,
      "directory",
      { mode: options.rootMode, uid: options.rootUid, gid: options.rootGid },
      { stockPath: "" },
    );
    this.#nodes.set(ROOT_INDEX, this.#root);
    this.#stockDirectories.set("", this.#root);
    this.#daxdevs.set(0, { size: options.regionLength, dataOffset: options.dataOffset, used: new RangeSet() });
  }

  get root(): SealedNode {
    return this.#root;
  }

  /** Nodes alive, by the index of the entry that made them; detached ones and the root (ROOT_INDEX) are among them. */
  get byIndex(): ReadonlyMap<number, SealedNode> {
    return this.#nodes;
  }

  /** Index the next entry has. */
  get nextIndex(): number {
    return this.#nextIndex;
  }

  get extended(): boolean {
    return this.#extended;
  }

  /** Regular files and symlinks; the root is not among the directories. */
  get counts(): { readonly files: number; readonly directories: number; readonly fileBytes: number } {
    return { files: this.#files, directories: this.#directories, fileBytes: this.#fileBytes };
  }

  /** Indices of the daxdevs there are: 0, and those that ADD_DAXDEV added. */
  get daxdevs(): ReadonlyMap<number, Omit<Daxdev, "used">> {
    return this.#daxdevs;
  }

  /** Bytes of a daxdev that files of the tree hold, as ranges. Live: do not keep it over an `apply`. */
  used(devindex: number): Pick<RangeSet, "total" | "count" | "contains" | "firstOverlap" | "from"> & Iterable<Range> {
    return this.#daxdevs.get(devindex)?.used ?? new RangeSet();
  }

  /**
   * Applies the entry with log index `index`; undefined for one that must have no effect (malformed, retracted).
   * INTERNAL when it is not the next one.
   */
  apply(index: number, entry: LogEntry | undefined): Applied {
    if (index !== this.#nextIndex) {
      throw new FamfsError("INTERNAL", `log entry ${index} applied where ${this.#nextIndex} is next`);
    }
    this.#nextIndex = index + 1;
    switch (entry?.type) {
      case "file":
        return this.#file(index, entry);
      case "mkdir":
        return this.#mkdir(index, entry);
      case "addDaxdev":
        return this.#addDaxdev(index, entry);
      case "relink":
        return this.#extended ? this.#relink(index, entry) : this.#notStock(index, entry.type);
      case "node":
        return this.#extended ? this.#node(index, entry) : this.#notStock(index, entry.type);
      case "filler":
        return this.#extended ? NOTHING : this.#notStock(index, entry.type);
      case "unknown":
        if (EXTENSION_TYPES.has(entry.code)) return this.#notStock(index, `0x${entry.code.toString(16)}`);
        return refused(index, "ENTRY_TYPE_UNKNOWN", `type ${entry.code} is unknown and ignored`);
      case "delete":
      case "invalid":
      case undefined:
        return NOTHING;
    }
  }

  /**
   * The path under which a new FILE or MKDIR at `link` can be logged directly: what stock tools see of the parent
   * plus the name, if that fits and was never used in this log. undefined: log it under `standInPath(index)` and
   * place it by a RELINK in the same transaction.
   */
  directPath(link: Link): string | undefined {
    const parent = this.#nodes.get(link.parent);
    if (parent?.stockPath === undefined) return undefined;
    const path = parent.stockPath === "" ? link.name : `${parent.stockPath}/${link.name}`;
    if (path.length > MAX_DIRECT_PATH || parent.usedNames?.has(link.name) === true) return undefined;
    if (parent.children?.has(link.name) !== false) return undefined;
    // Only its own entry may use a stand-in name.
    return path.startsWith(STAND_IN_PREFIX) && !path.includes("/") ? undefined : path;
  }

  #file(index: number, entry: FileEntry): Applied {
    const place = this.#stockPlace(index, entry.path);
    if ("code" in place) return refused(index, place.code, place.message);
    const problem =
      this.#existing(place) ??
      (entry.size > 0 ? undefined : ({ code: "ENTRY_MALFORMED", message: "a file of 0 bytes" } as const)) ??
      layoutProblem(entry.layout, entry.size, this.#allocUnit, this.#daxdevs) ??
      claimExtents(entry.layout, this.#daxdevs);
    if (problem !== undefined) return this.#refuseAt(index, entry.path, place, problem);
    const content = {
      size: entry.size,
      layout: entry.layout,
      stockPath: entry.path,
      stockParent: place.directory,
    };
    return this.#create(new Node(index, "file", entry, content), place);
  }

  #mkdir(index: number, entry: MkdirEntry): Applied {
    const place = this.#stockPlace(index, entry.path);
    if ("code" in place) return refused(index, place.code, place.message);
    // An existing directory is fine, as in stock.
    if (this.#stockDirectories.has(entry.path)) return NOTHING;
    const problem = this.#existing(place);
    if (problem !== undefined) return this.#refuseAt(index, entry.path, place, problem);
    const content = { stockPath: entry.path, stockParent: place.directory };
    return this.#create(new Node(index, "directory", entry, content), place);
  }

  #existing({ directory, name, standIn }: StockPlace): Problem | undefined {
    const there = directory.children?.get(name);
    // What has the name only here does not stand in the way of a stand-in, which is not placed under it.
    const taken = standIn ? there?.atStockPlace === true : there !== undefined;
    if (!taken && directory.usedNames?.has(name) !== true) return undefined;
    return { code: "NAME_EXISTS", message: "exists; the first entry counts" };
  }

  /** Stock tools may see what is refused here, so its path counts as used. */
  #refuseAt(index: number, path: string, { directory, name }: StockPlace, problem: Problem): Applied {
    directory.useName(name);
    return refused(index, problem.code, `"${path}": ${problem.message}`);
  }

  #addDaxdev(index: number, entry: AddDaxdevEntry): Applied {
    if (entry.index !== this.#daxdevs.size || entry.size <= ALLOC_UNIT || this.#daxdevUuids.has(entry.uuid)) {
      return refused(
        index,
        "DAXDEV_INVALID",
        `daxdev ${entry.index} (${entry.uuid}, ${entry.size} bytes) where daxdev ${this.#daxdevs.size} is next`,
      );
    }
    this.#daxdevUuids.add(entry.uuid);
    // The first unit of a further region is kept for a header of its own.
    this.#daxdevs.set(entry.index, { size: entry.size, dataOffset: ALLOC_UNIT, used: new RangeSet() });
    return NOTHING;
  }

  #relink(index: number, entry: RelinkEntry): Applied {
    const node = this.#nodes.get(entry.target);
    if (node === undefined) return refused(index, "RELINK_TARGET", `no node was made by entry ${entry.target}`);
    const changes: SealedChange[] = [];
    if (node === this.#root) {
      if (entry.link !== undefined) return refused(index, "RELINK_REFUSED", "the root has no name");
    } else if (entry.link === undefined) {
      if (isFull(node)) return refused(index, "RELINK_REFUSED", `directory of entry ${node.index} is not empty`);
      const from = node.place;
      this.#drop(node);
      return { changes: [{ type: "removed", node, from }], findings: NONE };
    } else {
      const problem = this.#link(node, entry.link, changes);
      if (problem !== undefined) return refused(index, problem.code, problem.message);
    }
    if (setAttributes(node, entry)) changes.push({ type: "attributes", node });
    return { changes, findings: NONE };
  }

  #node(index: number, entry: NodeEntry): Applied {
    const content =
      entry.kind === "symlink" ? { symlinkTarget: entry.symlinkTarget, size: entry.symlinkTarget.length } : {};
    const node = new Node(index, entry.kind, entry, content);
    const changes: SealedChange[] = [];
    if (entry.link !== undefined) {
      const problem = this.#link(node, entry.link, changes);
      if (problem !== undefined) return refused(index, problem.code, problem.message);
    }
    this.#register(node);
    // It was born there: "replaced" stays, the move from nowhere is the "added".
    return {
      changes: [...changes.filter((change) => change.type !== "moved"), { type: "added", node }],
      findings: [],
    };
  }

  /** Gives `node` the place `link`, in place of what is there. */
  #link(node: Node, link: Link, changes: SealedChange[]): Problem | undefined {
    const parent = this.#nodes.get(link.parent);
    if (parent === undefined) {
      return { code: "PARENT_MISSING", message: `"${link.name}": no directory was made by entry ${link.parent}` };
    }
    if (parent.children === undefined) {
      return { code: "PARENT_NOT_A_DIRECTORY", message: `"${link.name}": entry ${link.parent} made no directory` };
    }
    if (!isName(link.name)) return { code: "PATH_INVALID", message: `"${link.name}" is not a name` };
    const existing = parent.children.get(link.name);
    if (existing === node) return undefined;
    if (node.kind === "directory") {
      const problem = depthProblem(node, parent);
      if (problem !== undefined) return problem;
    }
    if (existing !== undefined) {
      if ((existing.kind === "directory") !== (node.kind === "directory") || isFull(existing)) {
        const what = isFull(existing) ? "a directory that is not empty" : `a ${existing.kind}`;
        return { code: "RELINK_REFUSED", message: `"${link.name}": a ${node.kind} cannot replace ${what}` };
      }
      this.#drop(existing);
      changes.push({ type: "replaced", node: existing, by: node, from: { parent, name: link.name } });
    }
    const from = node.place;
    from?.parent.removeChild(from.name);
    node.leaveStockPlace();
    node.parent = parent;
    node.name = link.name;
    parent.addChild(link.name, node);
    changes.push({ type: "moved", node, from });
    return undefined;
  }

  #stockPlace(index: number, path: string): StockPlace | Problem {
    const slash = path.lastIndexOf("/");
    const name = path.slice(slash + 1);
    const directory = slash < 0 ? "" : path.slice(0, slash);
    const parent = this.#stockDirectories.get(directory);
    // The directory is known, so its own components were good, and a path field has no NUL and at most 80 bytes.
    if (parent !== undefined && slash !== 0 && name !== "" && name !== "." && name !== "..") {
      const standIn = this.#extended && path.startsWith(STAND_IN_PREFIX) && path === standInPath(index);
      return { directory: parent, name, standIn };
    }
    if (!path.split("/").every(isName)) return { code: "PATH_INVALID", message: `"${path}" is not a relative path` };
    if (this.#isStockFile(directory)) {
      return { code: "PARENT_NOT_A_DIRECTORY", message: `"${path}": "${directory}" is not a directory` };
    }
    return { code: "PARENT_MISSING", message: `"${path}": "${directory}" does not exist` };
  }

  #isStockFile(path: string): boolean {
    const slash = path.lastIndexOf("/");
    const directory = this.#stockDirectories.get(slash < 0 ? "" : path.slice(0, slash));
    return directory?.children?.get(path.slice(slash + 1))?.atStockPlace === true;
  }

  #create(node: Node, { directory, name, standIn }: StockPlace): Applied {
    if (standIn) {
      directory.useName(name);
    } else {
      node.parent = directory;
      node.name = name;
      node.atStockPlace = true;
      directory.addChild(name, node);
    }
    if (node.kind === "directory" && node.stockPath !== undefined) this.#stockDirectories.set(node.stockPath, node);
    this.#register(node);
    return { changes: [{ type: "added", node }], findings: NONE };
  }

  #register(node: Node): void {
    this.#nodes.set(node.index, node);
    if (node.kind === "directory") this.#directories++;
    else this.#files++;
    this.#fileBytes += node.kind === "file" ? node.size : 0;
  }

  #drop(node: Node): void {
    node.parent?.removeChild(node.name);
    node.parent = undefined;
    node.name = "";
    this.#nodes.delete(node.index);
    node.leaveStockPlace();
    if (node.kind === "directory" && node.stockPath !== undefined) this.#stockDirectories.delete(node.stockPath);
    if (node.layout !== undefined) releaseExtents(extentsOf(node.layout), this.#daxdevs);
    if (node.kind === "directory") this.#directories--;
    else this.#files--;
    this.#fileBytes -= node.kind === "file" ? node.size : 0;
  }

  #notStock(index: number, type: string): Applied {
    return refused(index, "EXTENSION_IN_STOCK", `extension type ${type} in a volume without a record is ignored`);
  }
}

function refused(index: number, code: FindingCode, message: string): Applied {
  return { changes: NONE, findings: [{ code, index, message: `log entry ${index}: ${message}` }] };
}

function isFull(node: Node): boolean {
  return node.children !== undefined && node.children.size > 0;
}

function depthProblem(node: Node, parent: Node): Problem | undefined {
  let depth = 0;
  for (let at: Node | undefined = parent; at !== undefined; at = at.parent) {
    if (at === node) return { code: "RELINK_CYCLE", message: `entry ${node.index} would be below itself` };
    if (++depth > MAX_DEPTH) return { code: "RELINK_REFUSED", message: `more than ${MAX_DEPTH} directories deep` };
  }
  return undefined;
}
