import { FamfsError, type RequestContext, uninterrupted, unlessAborted } from "../base/index.ts";
import { assembleTree } from "./assemble.ts";
import { type AttributesOfNodes, type AttributeUpdate, type NodeAttributes, UNTIL_INVALIDATED } from "./attributes.ts";
import type { ChangeFeed } from "./change-feed.ts";
import type { TreeContext } from "./context.ts";
import { LogWatch } from "./log-watch.ts";
import { telling } from "./losses.ts";
import { checkName, type Names } from "./names.ts";
import { type DirectoryNode, isUnsealed, pathOf, type TreeNode } from "./nodes.ts";
import type { OpenedFile, OpenFiles, WriteToCome } from "./open-files.ts";
import type { TreeSettings, VolumeTreeOptions } from "./options.ts";
import { placeOf } from "./places.ts";
import type { KernelCaches, TreeCondition } from "./ports.ts";
import { afterForgets, letGo } from "./removed.ts";
import { getSealAttribute, requireSealAttribute } from "./seal-attribute.ts";

const BLOCK_SIZE = 4096;
const MAX_NAME_BYTES = 255;
const O_EXCL = 0o200;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;

export interface NodeEntry {
  readonly attributes: NodeAttributes;
  readonly generation: bigint;
  readonly entryValidSeconds: number;
}

export interface ListedEntry {
  readonly name: string;
  readonly entry: NodeEntry;
  readonly cookie: number;
}

/**
 * The file system of one volume on one node (design 7): what the log says, with what is local on top. Operations
 * take nodeids, as the kernel names inodes; refusals are FamfsErrors.
 */
export class VolumeTree implements AsyncDisposable {
  readonly #ctx: TreeContext;
  readonly #names: Names;
  readonly #files: OpenFiles;
  readonly #attributes: AttributesOfNodes;
  readonly #feed: ChangeFeed;
  readonly #watch: LogWatch;
  #closed = false;
  #abandoned = false;

  /** Begins empty: `catchUp`, or `poll`, replays the log. */
  constructor(options: VolumeTreeOptions) {
    const { ctx, names, files, attributes, feed } = assembleTree(options, {
      requireChangeable: () => this.#requireChangeable(),
      ownerLost: (message) => this.#condition({ code: "OWNER_LOST", message }),
    });
    this.#ctx = ctx;
    this.#names = names;
    this.#files = files;
    this.#attributes = attributes;
    this.#feed = feed;
    this.#watch = new LogWatch(ctx, feed, (condition) => this.#condition(condition));
  }

  /** From now on the kernel is told what it must forget. `directIoAllowMmap` is what it negotiated. */
  attachKernel(caches: KernelCaches, negotiated: Pick<TreeSettings, "directIoAllowMmap">): void {
    Object.assign(this.#ctx.settings, negotiated);
    this.#ctx.coherence.kernel.attach(caches);
  }

  /** The volume was taken from this node: what is not in the log will never be. */
  abandon(): void {
    this.#abandoned = true;
    this.#ctx.ownership.abandon();
  }

  /** While stalled, nothing is logged and no data is written: a lease is about to run out (design 5). */
  setStalled(stalled: boolean): void {
    this.#ctx.ownership.setStalled(stalled);
    if (stalled) void this.#files.pauseWriters();
    // After a hand-over they wait for the next take-over instead.
    else if (this.#ctx.ownership.writer !== undefined) this.#files.resumeWriters();
  }

  /** Looks at the log within `intervalMs` of what others append to it, until the tree is closed. */
  watch(intervalMs: number): void {
    this.#watch.start(intervalMs);
  }

  /** Brings the tree up to the log; entries applied. */
  poll(): number {
    return this.#watch.poll();
  }

  /** `poll` with pauses, for a log of any length. */
  catchUp(): Promise<void> {
    return this.#watch.catchUp();
  }

  // ---- names ----

  lookup(parent: number, name: string): NodeEntry | { readonly missingForSeconds: number } {
    if (name.length > MAX_NAME_BYTES) checkName(name);
    const node = this.#ctx.nodes.directory(parent).children.get(name);
    return node === undefined ? { missingForSeconds: UNTIL_INVALIDATED } : this.#entry(node);
  }

  readDirectory(nodeid: number, cookie: number): Iterable<ListedEntry> {
    return this.#list(this.#ctx.nodes.directory(nodeid), cookie);
  }

  readLink(nodeid: number): string {
    const node = this.#ctx.nodes.get(nodeid);
    if (node.kind !== "symlink") throw new FamfsError("INVALID_OPERATION", `${pathOf(node)} is not a symlink`);
    return node.target;
  }

  createNode(parent: number, name: string, mode: number, by: RequestContext): NodeEntry | Promise<NodeEntry> {
    const type = mode & S_IFMT;
    if (type !== 0 && type !== S_IFREG) {
      throw new FamfsError(
        "NOT_PERMITTED",
        "only regular files, directories and symlinks; no devices, FIFOs or sockets",
      );
    }
    return afterForgets(() =>
      this.#change([parent], by, (directory) => this.#entry(this.#names.createFile(directory, name, mode, by.caller))),
    );
  }

  create(
    parent: number,
    name: string,
    mode: number,
    flags: number,
    by: RequestContext,
  ): Promise<{ entry: NodeEntry; opened: OpenedFile }> | { entry: NodeEntry; opened: OpenedFile } {
    const make = (directory: DirectoryNode) => {
      if ((flags & O_EXCL) === 0 && directory.children.get(name) !== undefined) {
        // Another node made it, and the kernel did not know: it has to follow it if it is a symlink, and to decide
        // whether this program may open it.
        this.#ctx.places.lookAgain(by);
        throw new FamfsError("NODE_STALE", `"${name}" is there by now: it must be looked up again`);
      }
      const node = this.#names.createFile(directory, name, mode, by.caller);
      const opened = this.#files.openNew(node, flags);
      return { entry: this.#entry(node), opened };
    };
    return afterForgets(() => this.#change([parent], by, make));
  }

  makeDirectory(parent: number, name: string, mode: number, by: RequestContext): NodeEntry | Promise<NodeEntry> {
    return this.#change([parent], by, (directory) =>
      this.#entry(this.#names.makeDirectory(directory, name, mode, by.caller)),
    );
  }

  makeSymlink(parent: number, name: string, target: string, by: RequestContext): NodeEntry | Promise<NodeEntry> {
    return this.#change([parent], by, (directory) =>
      this.#entry(this.#names.makeSymlink(directory, name, target, by.caller)),
    );
  }

  link(nodeid: number, _newParent: number, newName: string): never {
    const node = this.#ctx.nodes.get(nodeid);
    throw new FamfsError(
      "NOT_PERMITTED",
      `${pathOf(node)} cannot get a second name "${newName}": no hard links in famfs`,
    );
  }

  unlink(parent: number, name: string, by = uninterrupted()): void | Promise<void> {
    return this.#change([parent], by, (directory) => this.#names.unlink(directory, name));
  }

  removeDirectory(parent: number, name: string, by = uninterrupted()): void | Promise<void> {
    const victim = this.#ctx.nodes.directory(parent).children.get(name)?.nodeid;
    const locked = victim === undefined ? [] : [victim];
    return this.#change([parent], by, (directory) => this.#names.removeDirectory(directory, name), locked);
  }

  rename(
    parent: number,
    name: string,
    newParent: number,
    newName: string,
    flags: number,
    by = uninterrupted(),
  ): void | Promise<void> {
    return this.#change([parent, newParent], by, (from, to) => this.#names.rename(from, name, to, newName, flags));
  }

  // ---- what the kernel refers to ----

  looked(nodeid: number): void {
    const node = this.#ctx.nodes.find(nodeid);
    if (node !== undefined) node.lookups++;
  }

  forget(nodeid: number, count: number): void {
    const node = this.#ctx.nodes.find(nodeid);
    if (node === undefined || node.lookups === 0) return;
    node.lookups = Math.max(0, node.lookups - count);
    if (node.lookups === 0) letGo(this.#ctx, node);
  }

  // ---- attributes ----

  getAttributes(nodeid: number, _handle?: number): NodeAttributes {
    return this.#attributes.get(this.#ctx.nodes.get(nodeid));
  }

  setAttributes(
    nodeid: number,
    change: AttributeUpdate & { readonly size?: number; readonly handle?: number },
    by = uninterrupted(),
  ): NodeAttributes | Promise<NodeAttributes> {
    this.#requireChangeable();
    const { nodes, settings, ownership, places } = this.#ctx;
    const { size, handle, ...update } = change;
    const node = nodes.get(nodeid);
    const place = placeOf(node);
    const body = async (): Promise<NodeAttributes> => {
      if (handle === undefined) places.require(place, by);
      else if (size !== undefined) this.#files.flush(handle);
      if (size !== undefined) {
        await unlessAborted(this.#ctx.sizes.settled(nodes.file(nodeid)), by.signal);
        await afterForgets(() => this.#ctx.sizes.setSize(nodes.file(nodeid), size, by.signal));
      }
      this.#attributes.set(node, update);
      return this.#attributes.get(node);
    };
    if (handle !== undefined && size !== undefined) this.#files.flush(handle);
    // What already is as asked is judged by what other nodes have done until now.
    if (ownership.writer === undefined) this.poll();
    if (size === undefined && !places.isDoubted(place, by) && !this.#attributes.needsLog(node, update)) {
      this.#attributes.set(node, update);
      return this.#attributes.get(node);
    }
    const limitMs = size === undefined ? settings.nameTimeoutMs : settings.writerTimeoutMs;
    return this.#holding(node.kind === "directory" ? [nodeid] : [], () => ownership.with(limitMs, by, body));
  }

  // ---- open files ----

  open(nodeid: number, flags: number, by = uninterrupted()): OpenedFile | Promise<OpenedFile> {
    return afterForgets(() => this.#files.open(nodeid, flags, by));
  }

  async prepareWrite(handle: number, write: WriteToCome, by = uninterrupted()): Promise<number> {
    return await afterForgets(() => this.#files.prepareWrite(handle, write, by));
  }

  flush(handle: number): void {
    this.#files.flush(handle);
  }

  /** Data is in the memory since it was stored. A file that nobody writes any more is also in the log afterwards. */
  fsync(handle: number, _dataOnly: boolean, by = uninterrupted()): void | Promise<void> {
    this.#files.fsync(handle);
    const { file } = this.#files.handle(handle);
    if (!isUnsealed(file) || file.parent === undefined || (file.open?.writers ?? 0) > 0) return undefined;
    return this.#writable(by).then(() => this.#ctx.sealer.seal([file], { forced: false }));
  }

  release(handle: number): void {
    this.#files.release(handle);
  }

  async allocate(handle: number, offset: number, length: number, mode: number, by = uninterrupted()): Promise<void> {
    this.#files.flush(handle);
    const open = this.#files.handle(handle);
    const { file, grant } = open;
    const { ownership, settings, sizes } = this.#ctx;
    if (grant !== "not needed") await ownership.acquire(by.budget.leftMs(settings.writerTimeoutMs), by.signal);
    await unlessAborted(sizes.settled(file), by.signal);
    this.#files.requireGrant(open);
    await afterForgets(() => sizes.allocate(file, offset, length, mode, by.signal));
  }

  seek(handle: number, offset: number, whence: number): number {
    return this.#ctx.sizes.seek(this.#files.handle(handle).file, offset, whence);
  }

  // ---- the whole ----

  /** fsync of a directory: what lies in it is in the log afterwards, but for files still being written. */
  async syncDirectory(nodeid: number, by = uninterrupted()): Promise<void> {
    const { losses, nodes, sealer } = this.#ctx;
    const directory = nodes.directory(nodeid);
    const seal = async () => {
      await this.#holding([nodeid], () => this.#writable(by));
      await sealer.sealAll({ forced: false, within: directory });
    };
    await telling(seal(), () => losses.takeSync(directory));
  }

  async syncFileSystem(by = uninterrupted()): Promise<void> {
    await telling(this.seal(by), () => this.#ctx.losses.takeVolume());
  }

  /** Everything is in the log afterwards, but for files still being written. What was lost before is not told. */
  async seal(by = uninterrupted()): Promise<void> {
    await this.#writable(by);
    await this.#ctx.sealer.sealAll({ forced: false });
  }

  status() {
    const { space, transactions } = this.#ctx;
    return {
      blockSize: BLOCK_SIZE,
      blocks: Math.floor(space.totalBytes / BLOCK_SIZE),
      freeBlocks: Math.floor(space.freeBytes / BLOCK_SIZE),
      files: transactions.capacityForNew,
      freeFiles: transactions.freeForNew,
      maxNameLength: MAX_NAME_BYTES,
    };
  }

  getExtendedAttribute(nodeid: number, name: string): Uint8Array {
    return getSealAttribute(this.#ctx.nodes.get(nodeid), name);
  }

  listExtendedAttributes(nodeid: number): string[] {
    this.#ctx.nodes.get(nodeid);
    return [];
  }

  async setExtendedAttribute(nodeid: number, name: string, _value: Uint8Array, by = uninterrupted()): Promise<void> {
    requireSealAttribute(name);
    this.#requireChangeable();
    const { losses, nodes, places, sealer } = this.#ctx;
    const node = nodes.get(nodeid);
    const place = placeOf(node);
    await this.#writable(by);
    places.require(place, by);
    await telling(sealer.seal([node], { forced: true }), () => losses.takeSeal(node));
  }

  removeExtendedAttribute(_nodeid: number, name: string): never {
    requireSealAttribute(name);
    throw new FamfsError("NOT_PERMITTED", "what is sealed stays sealed");
  }

  // ---- life ----

  /** Open handles; a mount that is being taken down waits for none. */
  get openHandles(): number {
    return this.#files.count;
  }

  /** Files, directories and symlinks of this node that are not in the log yet. */
  get unsealedCount(): number {
    return this.#ctx.sealer.unsealedCount;
  }

  /** How far this node has come in the log, and how far the log is now. MEMORY_ERROR. */
  replay(): { readonly position: number; readonly published: number; readonly behindMs: number } {
    const position = this.#ctx.sealed.nextIndex;
    const published = this.#ctx.options.log.published();
    return { position, published, behindMs: position < published || this.#feed.isBehind ? this.#feed.behindMs : 0 };
  }

  /** Whether this node owns the log at the moment. */
  get isWriter(): boolean {
    return this.#ctx.ownership.writer !== undefined;
  }

  /**
   * Gives the writer grant up for another node (design 6): when no file is open for write any more, or at once when
   * `forced`. False when `signal` was aborted first.
   */
  handOver(options: { readonly forced: boolean; readonly signal: AbortSignal }): Promise<boolean> {
    return this.#ctx.ownership.handOver(options);
  }

  /** Seals everything, gives up the grant, serves no more. Not before the kernel is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch[Symbol.dispose]();
    this.#files.closeAll();
    await this.#ctx.ownership.close();
    this.#ctx.sealer.close();
  }

  /** A change of names in `parents`: waits for the grant if need be. They, and `locked`, have it pending meanwhile. */
  #change<T, const Parents extends readonly number[]>(
    parents: Parents,
    by: RequestContext,
    body: (...directories: { [K in keyof Parents]: DirectoryNode }) => T | Promise<T>,
    locked: readonly number[] = [],
  ): T | Promise<T> {
    this.#requireChangeable();
    const { nodes, ownership, places, settings } = this.#ctx;
    const directories = parents.map((nodeid) => nodes.directory(nodeid));
    const reached = directories.map((directory) => placeOf(directory));
    const change = () => {
      for (const place of reached) places.require(place, by);
      return body(...(directories as { [K in keyof Parents]: DirectoryNode }));
    };
    if (ownership.writer !== undefined) return change();
    return this.#holding([...parents, ...locked], () => ownership.with(settings.nameTimeoutMs, by, change));
  }

  /** While `work` waits, the kernel holds the locks of `directories`, until the request that it answers is answered. */
  #holding<T>(directories: readonly number[], work: () => T | Promise<T>): T | Promise<T> {
    return this.#ctx.ownership.writer === undefined ? this.#whilePending(directories, work) : work();
  }

  async #whilePending<T>(directories: readonly number[], work: () => T | Promise<T>): Promise<T> {
    using _pending = this.#ctx.coherence.kernel.pending(directories);
    return await work();
  }

  /** With something to seal this node owns the log, but its lease may have to be renewed first. */
  async #writable({ budget, signal }: RequestContext): Promise<void> {
    const { ownership, sealer, settings } = this.#ctx;
    if (sealer.unsealedCount > 0) await ownership.acquire(budget.leftMs(settings.writerTimeoutMs), signal);
    signal.throwIfAborted();
  }

  #requireChangeable(): void {
    const { options, settings } = this.#ctx;
    if (options.readOnlyBecause !== undefined) throw new FamfsError("READ_ONLY", options.readOnlyBecause);
    if (settings.readOnly) throw new FamfsError("READ_ONLY", "the volume is mounted read-only here");
    if (this.#closed) throw new FamfsError("CANCELLED", "the volume is being unmounted");
  }

  *#list(directory: DirectoryNode, cookie: number): Generator<ListedEntry> {
    for (const node of directory.children.after(cookie)) {
      yield { name: node.name, entry: this.#entry(node), cookie: node.nodeid };
    }
  }

  #entry(node: TreeNode): NodeEntry {
    return {
      attributes: this.#attributes.get(node),
      generation: this.#ctx.options.generation,
      entryValidSeconds: UNTIL_INVALIDATED,
    };
  }

  #condition(condition: TreeCondition): void {
    // The part that took the volume from us says why.
    if (!this.#abandoned) this.#ctx.options.onCondition?.(condition);
  }
}
