import { FamfsError } from "../base/index.ts";
import { type LogEntry, MAX_SYMLINK_TARGET, standInPath } from "../format/index.ts";
import type { TreeContext } from "./context.ts";
import { shownPermissions } from "./mount-group.ts";
import {
  type DirectoryNode,
  type FileNode,
  isUnsealed,
  isWithin,
  type NewNode,
  pathOf,
  type TreeNode,
} from "./nodes.ts";
import { letGo } from "./removed.ts";
import { MAX_SLOTS_PER_NODE, slotsFor, slotsForSymlink, staysDirect, unsealedWithin } from "./slots.ts";
import type { Step } from "./transactions.ts";

const MAX_NAME_BYTES = 255;
const S_ISGID = 0o2000;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;

export interface Creator {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Changes of names. All run while this node owns the log, and none of them waits: what is sealed changes in the log
 * first (one entry, or one transaction), then here; what is unsealed changes here alone.
 */
export class Names {
  readonly #ctx: TreeContext;

  constructor(ctx: TreeContext) {
    this.#ctx = ctx;
  }

  createFile(parent: DirectoryNode, name: string, mode: number, creator: Creator): FileNode {
    this.#requireFree(parent, name);
    const slots = slotsFor(parent, name, this.#ctx.sealed);
    this.#ctx.transactions.requireForNew(slots);
    const content = this.#ctx.sizes.newContent();
    const node = this.#ctx.nodes.newFile(this.#newNode(parent, mode, creator), content);
    return this.#place(node, parent, name, slots);
  }

  makeDirectory(parent: DirectoryNode, name: string, mode: number, creator: Creator): DirectoryNode {
    this.#requireFree(parent, name);
    const slots = slotsFor(parent, name, this.#ctx.sealed);
    this.#ctx.transactions.requireForNew(slots);
    const inherited = shownPermissions(parent, this.#ctx.settings.mountGroup).mode & S_ISGID;
    const node = this.#ctx.nodes.newDirectory(this.#newNode(parent, mode | inherited, creator));
    return this.#place(node, parent, name, slots);
  }

  makeSymlink(parent: DirectoryNode, name: string, target: string, creator: Creator): TreeNode {
    this.#requireFree(parent, name);
    this.#ctx.transactions.requireExtended("symlinks");
    if (target.length === 0) throw new FamfsError("FILE_NOT_FOUND", "a symlink needs a target");
    if (target.length > MAX_SYMLINK_TARGET) {
      throw new FamfsError(
        "NAME_TOO_LONG",
        `a symlink target of ${target.length} bytes; at most ${MAX_SYMLINK_TARGET}`,
      );
    }
    const slots = slotsForSymlink(name, target);
    this.#ctx.transactions.requireForNew(slots);
    const node = this.#ctx.nodes.newSymlink(this.#newNode(parent, 0o777, creator), target);
    return this.#place(node, parent, name, slots);
  }

  unlink(parent: DirectoryNode, name: string): void {
    const node = childOf(parent, name);
    if (node.kind === "directory") throw new FamfsError("IS_A_DIRECTORY", `${pathOf(node)} is a directory`);
    this.#remove(node, parent);
  }

  removeDirectory(parent: DirectoryNode, name: string): void {
    const node = childOf(parent, name);
    if (node.kind !== "directory") throw new FamfsError("NOT_A_DIRECTORY", `${pathOf(node)} is not a directory`);
    requireEmpty(node);
    this.#remove(node, parent);
  }

  rename(parent: DirectoryNode, name: string, newParent: DirectoryNode, newName: string, flags: number): void {
    checkName(newName);
    requirePresent(newParent);
    const node = childOf(parent, name);
    const target = newParent.children.get(newName);
    if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0 || flags === (RENAME_NOREPLACE | RENAME_EXCHANGE)) {
      throw new FamfsError("INVALID_OPERATION", `rename flags 0x${flags.toString(16)} are not supported`);
    }
    if (node.kind === "directory" && isWithin(newParent, node)) {
      throw new FamfsError("INVALID_OPERATION", `${pathOf(node)} cannot move below itself`);
    }
    if (flags === RENAME_EXCHANGE) {
      if (target === undefined) throw notFound(newParent, newName);
      if (target.kind === "directory" && isWithin(parent, target)) {
        throw new FamfsError("INVALID_OPERATION", `${pathOf(target)} cannot move below itself`);
      }
      if (target !== node) this.#exchange(node, target);
      return;
    }
    if (target === node) return;
    if (target !== undefined) {
      if (flags === RENAME_NOREPLACE) throw new FamfsError("FILE_EXISTS", `${pathOf(target)} exists`);
      requireReplaceable(node, target);
    }
    this.#move(node, newParent, newName, target);
  }

  #move(node: TreeNode, newParent: DirectoryNode, newName: string, target: TreeNode | undefined): void {
    const { nodes, transactions, sealer } = this.#ctx;
    const parent = parentOf(node);
    // A former content that is still in the log was never at the new name: it goes, and the new one seals there.
    if (!isUnsealed(node)) {
      sealer.sealDirectory(newParent);
      this.#append([{ entry: transactions.relink(node, { parent: newParent, name: newName }) }]);
    } else {
      this.#promiseMost(node, newParent, newName);
      this.#append(removalOfShadow(parent, node.name, transactions));
    }
    if (target !== undefined) this.#drop(target);
    nodes.detach(node);
    nodes.attach(node, newParent, newName);
    node.ctime = this.#ctx.now();
    this.#touch(parent);
    if (newParent !== parent) this.#touch(newParent);
  }

  /** Two RELINKs and a stop at a hidden name between them, published together. */
  #exchange(a: TreeNode, b: TreeNode): void {
    const { nodes, transactions, sealer } = this.#ctx;
    const [parentA, nameA] = [parentOf(a), a.name];
    const [parentB, nameB] = [parentOf(b), b.name];
    const [sealedA, sealedB] = [!isUnsealed(a), !isUnsealed(b)];
    if (sealedA) sealer.sealDirectory(parentB);
    if (sealedB) sealer.sealDirectory(parentA);
    if (!sealedA) this.#promiseMost(a, parentB, nameB);
    if (!sealedB) this.#promiseMost(b, parentA, nameA);
    const steps: Step[] = [];
    if (sealedA && sealedB) {
      steps.push({ entry: transactions.relink(a, { parent: nodes.root, name: this.#unusedName() }) });
    }
    if (sealedB) steps.push({ entry: transactions.relink(b, { parent: parentA, name: nameA }) });
    if (sealedA) steps.push({ entry: transactions.relink(a, { parent: parentB, name: nameB }) });
    // Names that the log then has otherwise than this node.
    if (!sealedA || !sealedB) for (const { children } of [parentA, parentB]) children.makeWhole();
    this.#append(steps);
    // A former content stays at its name until what comes there seals.
    if (!sealedA) nodes.unbind(a);
    if (!sealedB) nodes.unbind(b);
    nodes.detach(a);
    nodes.detach(b);
    nodes.attach(a, parentB, nameB);
    nodes.attach(b, parentA, nameA);
    a.ctime = this.#ctx.now();
    b.ctime = a.ctime;
    this.#touch(parentA);
    this.#touch(parentB);
  }

  /** A name of the root that the log does not have: a RELINK to one that it has would replace what is there. */
  #unusedName(): string {
    const { nodes, transactions } = this.#ctx;
    for (let index = transactions.nextIndex; ; index++) {
      const name = standInPath(index);
      if (nodes.root.sealed?.children?.has(name) !== true) return name;
    }
  }

  /** At its new place `node`, and what is below it, may need a stand-in to seal. LOG_FULL; NOT_PERMITTED if stock. */
  #promiseMost(node: TreeNode, parent: DirectoryNode, name: string): void {
    const { transactions, options, sealed } = this.#ctx;
    if (!options.extended) {
      if (!staysDirect(node, parent, name, sealed)) transactions.requireExtended("such a path, or another's name");
      return;
    }
    for (const each of unsealedWithin(node)) this.#ctx.transactions.promise(each, MAX_SLOTS_PER_NODE);
  }

  #remove(node: TreeNode, parent: DirectoryNode): void {
    const { transactions } = this.#ctx;
    this.#append(
      node.sealed === undefined
        ? removalOfShadow(parent, node.name, transactions)
        : [{ entry: transactions.removal(node.sealed.index, node) }],
    );
    this.#drop(node);
    this.#touch(parent);
  }

  /** `node` has no name any more. What the log still has under it goes when its replacement seals. */
  #drop(node: TreeNode): void {
    const { nodes, sealer, transactions } = this.#ctx;
    sealer.forget(node);
    transactions.withdraw(node);
    nodes.detach(node);
    node.ctime = this.#ctx.now();
    this.#ctx.staleTimes.delete(node);
    letGo(this.#ctx, node);
  }

  /** Entries that no create has reserved. LOG_FULL. */
  #append(steps: readonly Step[]): void {
    if (steps.length === 0) return;
    this.#ctx.transactions.require(steps.length);
    this.#ctx.transactions.append(steps);
  }

  #place<T extends TreeNode>(node: T, parent: DirectoryNode, name: string, slots: number): T {
    this.#ctx.transactions.promise(node, slots);
    this.#ctx.nodes.attach(node, parent, name);
    this.#touch(parent);
    this.#ctx.sealer.changed(node);
    return node;
  }

  #newNode(parent: DirectoryNode, mode: number, { uid, gid }: Creator): NewNode {
    const inherits = (parent.mode & S_ISGID) !== 0;
    const { mountGroup } = this.#ctx.settings;
    return { mode: mode & 0o7777, uid, gid: mountGroup ?? (inherits ? parent.gid : gid), time: this.#ctx.now() };
  }

  /** Names in `directory` changed. */
  #touch(directory: DirectoryNode): void {
    directory.mtime = this.#ctx.now();
    directory.ctime = directory.mtime;
    if (directory.sealed !== undefined) this.#ctx.staleTimes.add(directory);
  }

  #requireFree(parent: DirectoryNode, name: string): void {
    checkName(name);
    requirePresent(parent);
    const there = parent.children.get(name);
    if (there !== undefined) throw new FamfsError("FILE_EXISTS", `${pathOf(there)} exists`);
  }
}

export function childOf(parent: DirectoryNode, name: string): TreeNode {
  const node = parent.children.get(name);
  if (node === undefined) throw notFound(parent, name);
  return node;
}

/** What the log still has at a name that only an unsealed node has here. */
function removalOfShadow(
  parent: DirectoryNode,
  name: string,
  transactions: { removal(index: number): LogEntry },
): Step[] {
  const shadow = parent.sealed?.children?.get(name);
  return shadow === undefined ? [] : [{ entry: transactions.removal(shadow.index) }];
}

function requireReplaceable(node: TreeNode, target: TreeNode): void {
  if (node.kind === "directory") {
    if (target.kind !== "directory") throw new FamfsError("NOT_A_DIRECTORY", `${pathOf(target)} is not a directory`);
    requireEmpty(target);
  } else if (target.kind === "directory") {
    throw new FamfsError("IS_A_DIRECTORY", `${pathOf(target)} is a directory`);
  }
}

function requireEmpty(directory: DirectoryNode): void {
  if (directory.children.size > 0) {
    throw new FamfsError("DIRECTORY_NOT_EMPTY", `${pathOf(directory)} has ${directory.children.size} entries`);
  }
}

/** A directory that was removed takes no new names. */
function requirePresent(directory: DirectoryNode): void {
  if (directory.parent === undefined && directory.name !== "") {
    throw new FamfsError("FILE_NOT_FOUND", `directory "${directory.name}" was removed`);
  }
}

function parentOf(node: TreeNode): DirectoryNode {
  if (node.parent === undefined) throw new FamfsError("INTERNAL", `node ${node.nodeid} has no directory`);
  return node.parent;
}

export function checkName(name: string): void {
  if (name.length > MAX_NAME_BYTES) {
    throw new FamfsError("NAME_TOO_LONG", `a name of ${name.length} bytes; at most ${MAX_NAME_BYTES}`);
  }
  if (name === "" || name === "." || name === ".." || /[/\0]/.test(name)) {
    throw new FamfsError("NAME_INVALID", `"${name}" cannot be a file name`);
  }
}

function notFound(parent: DirectoryNode, name: string): FamfsError {
  return new FamfsError("FILE_NOT_FOUND", `no "${name}" in ${pathOf(parent)}`);
}
