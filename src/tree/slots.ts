import { MAX_DIRECT_PATH, MAX_SYMLINK_TARGET, type SealedTree } from "../format/index.ts";
import { type DirectoryNode, isUnsealed, type TreeNode } from "./nodes.ts";

/** A file or directory takes at most two entries: itself, and a RELINK to its place. */
export const MAX_SLOTS_PER_NODE = 2;

/** Entries that sealing a new file or directory called `name` in `parent` takes, as things are. */
export function slotsFor(parent: DirectoryNode, name: string, sealed: SealedTree): number {
  return futurePath(parent, name, sealed) === undefined ? MAX_SLOTS_PER_NODE : 1;
}

export function slotsForSymlink(name: string, target: string): number {
  return name.length + target.length <= MAX_SYMLINK_TARGET ? 1 : MAX_SLOTS_PER_NODE;
}

/** The path stock tools will see, through directories that are not in the log yet themselves. */
function futurePath(parent: DirectoryNode, name: string, sealed: SealedTree): string | undefined {
  if (parent.sealed !== undefined) return sealed.directPath({ parent: parent.sealed.index, name });
  if (parent.parent === undefined) return undefined;
  const above = futurePath(parent.parent, parent.name, sealed);
  if (above === undefined) return undefined;
  const path = `${above}/${name}`;
  return path.length <= MAX_DIRECT_PATH ? path : undefined;
}

/** Whether `node`, with what is below it, could be logged under its paths alone if it were `name` in `parent`. */
export function staysDirect(node: TreeNode, parent: DirectoryNode, name: string, sealed: SealedTree): boolean {
  const path = futurePath(parent, name, sealed);
  return path !== undefined && path.length + lengthBelow(node) <= MAX_DIRECT_PATH;
}

function lengthBelow(node: TreeNode): number {
  if (node.kind !== "directory") return 0;
  let longest = 0;
  for (const child of node.children.values()) longest = Math.max(longest, 1 + child.name.length + lengthBelow(child));
  return longest;
}

/** `node` and what is below it, as far as it is not in the log. */
export function* unsealedWithin(node: TreeNode): Generator<TreeNode> {
  if (isUnsealed(node)) yield node;
  if (node.kind === "directory" && node.sealed === undefined) {
    for (const child of node.children.values()) yield* unsealedWithin(child);
  }
}
