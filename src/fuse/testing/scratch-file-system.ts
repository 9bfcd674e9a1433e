/**
 * A small file system in memory for tests of the session: names and attributes in maps, file bytes in a window of a
 * temporary file. Grows files on demand, so that `prepareWrite` and `setLayout` are used.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { native, THROUGH } from "../../../native/index.ts";
import { type Caller, type Extent, FamfsError, type RequestContext, roundUp } from "../../base/index.ts";
import type { FileMapId, FileMapTable } from "../file-map.ts";
import type {
  AttributeChange,
  Attributes,
  DirectoryEntry,
  Entry,
  Missing,
  Opened,
  Operations,
  Time,
  WriteToCome,
} from "../operations.ts";

const UNIT = 64 * 1024;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const O_ACCMODE = 3;
const O_TRUNC = 0o1000;

interface Node {
  readonly nodeid: number;
  readonly children: Map<string, number> | undefined;
  readonly target: string;
  mode: number;
  uid: number;
  gid: number;
  mtime: Time;
  map: FileMapId | undefined;
  extents: Extent[];
  sealed: boolean;
}

export interface ScratchOptions {
  readonly sizeBytes?: number;
  readonly validSeconds?: number;
  readonly directIo?: boolean;
  /** The simulated host that serves: its caches agree with nobody's, and data goes past them (`PathSpec`). */
  readonly host?: string;
}

export class ScratchFileSystem implements Operations, Disposable {
  readonly window: number;
  /** What all hosts share. */
  readonly memory: number;
  readonly path: string;
  readonly #fileMaps: FileMapTable;
  readonly #options: ScratchOptions;
  readonly #directory = mkdtempSync(join(tmpdir(), "famfs-fuse-"));
  readonly #nodes = new Map<number, Node>();
  readonly #handles = new Map<number, Node>();
  #nextNodeid = 1;
  #nextHandle = 1;
  #nextOffset = 0;
  #openCount = 0;

  constructor(fileMaps: FileMapTable, options: ScratchOptions = {}) {
    this.#fileMaps = fileMaps;
    this.#options = options;
    this.path = join(this.#directory, "device");
    const size = options.sizeBytes ?? 1 << 30;
    const fd = openSync(this.path, "w+");
    ftruncateSync(fd, size);
    const { host } = options;
    this.window = native.windowMap(fd, 0, size, true, host === undefined ? THROUGH.nothing : THROUGH.all, host);
    this.memory = host === undefined ? this.window : native.windowMap(fd, 0, size, true);
    closeSync(fd);
    this.#make(S_IFDIR | 0o755, { uid: 0, gid: 0, pid: 0 });
  }

  [Symbol.dispose](): void {
    native.windowUnmap(this.window);
    if (this.memory !== this.window) native.windowUnmap(this.memory);
    rmSync(this.#directory, { recursive: true });
  }

  get openFiles(): number {
    return this.#openCount;
  }

  /** A file with `extents`, as if it came from a log. */
  addSealed(name: string, size: number, extents: Extent[]): number {
    return this.#addSealed(name, size, extents, 0);
  }

  /** The same, where each write checks `guard` first. */
  addGuarded(name: string, size: number, extent: Extent, guard: number): number {
    return this.#addSealed(name, size, [extent], guard);
  }

  #addSealed(name: string, size: number, extents: Extent[], guard: number): number {
    const node = this.#make(S_IFREG | 0o644, { uid: 0, gid: 0, pid: 0 });
    node.extents = extents;
    node.sealed = true;
    node.map = this.#fileMaps.create({
      window: this.window,
      guard,
      layout: { type: "simple", extents },
      size,
      capacity: size,
      filled: size,
      sealed: true,
    });
    this.#node(1).children?.set(name, node.nodeid);
    return node.nodeid;
  }

  addFile(parent: number, name: string): number {
    const node = this.#make(S_IFREG | 0o644, { uid: 0, gid: 0, pid: 0 });
    this.#node(parent).children?.set(name, node.nodeid);
    return node.nodeid;
  }

  mapOf(nodeid: number): FileMapId {
    return this.#mapOf(this.#node(nodeid));
  }

  lookup(parent: number, name: string, _by?: RequestContext): Entry | Missing | Promise<Entry | Missing> {
    const child = this.#node(parent).children?.get(name);
    return child === undefined ? { missingForSeconds: 0 } : this.#entry(this.#node(child));
  }

  getAttributes(nodeid: number): Attributes {
    return this.#attributes(this.#node(nodeid));
  }

  setAttributes(nodeid: number, change: AttributeChange): Attributes {
    const node = this.#node(nodeid);
    if (change.mode !== undefined) node.mode = (node.mode & ~0o7777) | change.mode;
    if (change.uid !== undefined) node.uid = change.uid;
    if (change.gid !== undefined) node.gid = change.gid;
    if (change.mtime !== undefined) node.mtime = change.mtime === "now" ? now() : change.mtime;
    if (change.size !== undefined) this.#resize(node, change.size);
    return this.#attributes(node);
  }

  /** References that the kernel holds, by nodeid. */
  readonly lookups = new Map<number, number>();

  looked(nodeid: number): void {
    this.lookups.set(nodeid, (this.lookups.get(nodeid) ?? 0) + 1);
  }

  forget(nodeid: number, count: number): void {
    const left = (this.lookups.get(nodeid) ?? 0) - count;
    if (left === 0) this.lookups.delete(nodeid);
    else this.lookups.set(nodeid, left);
  }

  readLink(nodeid: number): string {
    return this.#node(nodeid).target;
  }

  createNode(parent: number, name: string, mode: number, { caller }: RequestContext): Entry {
    if ((mode & 0o170000) !== S_IFREG) throw new FamfsError("NOT_PERMITTED", `${name}: not a regular file`);
    return this.#entry(this.#add(parent, name, this.#make(mode, caller)));
  }

  makeDirectory(parent: number, name: string, mode: number, { caller }: RequestContext): Entry | Promise<Entry> {
    return this.#entry(this.#add(parent, name, this.#make(S_IFDIR | mode, caller)));
  }

  makeSymlink(parent: number, name: string, target: string, { caller }: RequestContext): Entry {
    return this.#entry(this.#add(parent, name, this.#make(S_IFLNK | 0o777, caller, target)));
  }

  link(): Entry {
    throw new FamfsError("NOT_PERMITTED", "no hard links");
  }

  unlink(parent: number, name: string): void {
    if (this.#node(parent).children?.delete(name) !== true) throw new FamfsError("FILE_NOT_FOUND", name);
  }

  removeDirectory(parent: number, name: string): void {
    this.unlink(parent, name);
  }

  rename(parent: number, name: string, newParent: number, newName: string): void {
    const child = this.#node(parent).children?.get(name);
    if (child === undefined) throw new FamfsError("FILE_NOT_FOUND", name);
    this.#node(parent).children?.delete(name);
    this.#node(newParent).children?.set(newName, child);
  }

  open(nodeid: number, flags: number, _by?: RequestContext): Opened | Promise<Opened> {
    const node = this.#node(nodeid);
    if ((flags & O_TRUNC) !== 0) this.#resize(node, 0);
    return this.#open(node, (flags & O_ACCMODE) !== 0);
  }

  create(parent: number, name: string, mode: number, _flags: number, { caller }: RequestContext) {
    const node = this.#add(parent, name, this.#make(S_IFREG | (mode & 0o7777), caller));
    return { entry: this.#entry(node), opened: this.#open(node, true) };
  }

  prepareWrite(handle: number, { offset, end }: WriteToCome, _by?: RequestContext): number | Promise<number> {
    const node = this.#byHandle(handle);
    if (node.sealed) {
      const size = this.#fileMaps.size(this.#mapOf(node));
      if (offset >= size) throw new FamfsError("WRITE_PAST_END", "sealed");
      return Math.min(end, size);
    }
    this.#grow(node, end);
    return end;
  }

  flush(): void | Promise<void> {}
  fsync(): void {}

  release(handle: number): void {
    this.#byHandle(handle);
    this.#handles.delete(handle);
    this.#openCount--;
  }

  allocate(handle: number, offset: number, length: number): void {
    const node = this.#byHandle(handle);
    this.#grow(node, offset + length);
    this.#resize(node, Math.max(this.#fileMaps.size(this.#mapOf(node)), offset + length));
  }

  seek(handle: number, offset: number, whence: number): number {
    return whence === 3 ? offset : this.#fileMaps.size(this.#mapOf(this.#byHandle(handle)));
  }

  *readDirectory(nodeid: number, cookie: number): Iterable<DirectoryEntry> {
    let position = 0;
    for (const [name, child] of this.#node(nodeid).children ?? []) {
      position++;
      if (position > cookie) yield { name, entry: this.#entry(this.#node(child)), cookie: position };
    }
  }

  syncDirectory(): void {}
  syncFileSystem(): void {}

  status() {
    return { blockSize: 4096, blocks: 262144, freeBlocks: 1000, files: 5000, freeFiles: 4000, maxNameLength: 255 };
  }

  getExtendedAttribute(_nodeid: number, name: string): Uint8Array {
    if (name === "user.test") return Buffer.from("value");
    throw new FamfsError("XATTR_NOT_FOUND", name);
  }

  listExtendedAttributes(): string[] {
    return ["user.test"];
  }

  setExtendedAttribute(): void {
    throw new FamfsError("XATTR_UNSUPPORTED", "not kept");
  }

  removeExtendedAttribute(): void {
    throw new FamfsError("XATTR_UNSUPPORTED", "not kept");
  }

  #make(mode: number, caller: Caller, target = ""): Node {
    const node: Node = {
      nodeid: this.#nextNodeid++,
      children: (mode & 0o170000) === S_IFDIR ? new Map() : undefined,
      target,
      mode,
      uid: caller.uid,
      gid: caller.gid,
      mtime: now(),
      map: undefined,
      extents: [],
      sealed: false,
    };
    this.#nodes.set(node.nodeid, node);
    return node;
  }

  #add(parent: number, name: string, node: Node): Node {
    const { children } = this.#node(parent);
    if (children === undefined) throw new FamfsError("NOT_A_DIRECTORY", name);
    if (children.has(name)) throw new FamfsError("FILE_EXISTS", name);
    children.set(name, node.nodeid);
    return node;
  }

  #open(node: Node, writable: boolean): Opened {
    const handle = this.#nextHandle++;
    this.#handles.set(handle, node);
    this.#openCount++;
    const directIo = this.#options.directIo === true;
    return { handle, map: this.#mapOf(node), directIo, keepCache: !directIo, writable, reportsAtClose: writable };
  }

  #mapOf(node: Node): FileMapId {
    node.map ??= this.#fileMaps.create({
      window: this.window,
      guard: 0,
      layout: { type: "simple", extents: [] },
      size: 0,
      capacity: 0,
      filled: 0,
      sealed: false,
    });
    return node.map;
  }

  #grow(node: Node, end: number): void {
    const has = node.extents.reduce((sum, extent) => sum + extent.length, 0);
    if (end <= has) return;
    const length = roundUp(Math.max(end - has, has), UNIT);
    node.extents = [...node.extents, { offset: this.#nextOffset, length }];
    this.#nextOffset += length;
    this.#fileMaps.setLayout(this.#mapOf(node), { type: "simple", extents: node.extents }, has + length);
    this.#fileMaps.setFilled(this.#mapOf(node), has + length); // nobody used that memory before
  }

  #resize(node: Node, size: number): void {
    if (node.sealed) throw new FamfsError("SIZE_SEALED", "the size of a sealed file never changes");
    const map = this.#mapOf(node);
    const old = this.#fileMaps.size(map);
    this.#grow(node, size);
    this.#fileMaps.setSize(map, size);
    if (size < old) {
      // Bytes that are cut off read as zeros when the file grows again.
      let at = 0;
      for (const { offset, length } of node.extents) {
        const from = Math.max(size - at, 0);
        if (from < length) native.zero(this.window, offset + from, Math.min(length - from, old - at - from));
        at += length;
        if (at >= old) break;
      }
    }
  }

  #attributes(node: Node): Attributes {
    const size = node.map === undefined ? node.target.length : this.#fileMaps.size(node.map);
    const written = node.map === undefined ? 0 : this.#fileMaps.lastWriteMs(node.map);
    const mtime = written > 0 ? fromMs(written) : node.mtime;
    return {
      nodeid: node.nodeid,
      mode: node.mode,
      nlink: node.children === undefined ? 1 : 2,
      uid: node.uid,
      gid: node.gid,
      size,
      allocatedBytes: node.extents.reduce((sum, extent) => sum + extent.length, 0),
      atime: mtime,
      mtime,
      ctime: mtime,
      validSeconds: this.#options.validSeconds ?? 1,
    };
  }

  #entry(node: Node): Entry {
    return {
      attributes: this.#attributes(node),
      generation: 7n,
      entryValidSeconds: this.#options.validSeconds ?? 1,
    };
  }

  #node(nodeid: number): Node {
    const node = this.#nodes.get(nodeid);
    if (node === undefined) throw new FamfsError("FILE_NOT_FOUND", `node ${nodeid}`);
    return node;
  }

  #byHandle(handle: number): Node {
    const node = this.#handles.get(handle);
    if (node === undefined) throw new FamfsError("HANDLE_STALE", `handle ${handle}`);
    return node;
  }
}

function now(): Time {
  return fromMs(Date.now());
}

function fromMs(ms: number): Time {
  return { seconds: Math.floor(ms / 1000), nanoseconds: Math.floor(ms % 1000) * 1_000_000 };
}
