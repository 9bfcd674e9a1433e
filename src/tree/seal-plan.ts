import { FamfsError } from "../base/index.ts";
import { type Link, MAX_SYMLINK_TARGET, type SealedTree, standInPath } from "../format/index.ts";
import { type Extents, logLayoutOf } from "./layouts.ts";
import { pathOf, type TreeNode } from "./nodes.ts";
import { type Step, sealedIndex } from "./transactions.ts";

/** FILE flags as stock writes them (format 2: all hosts read-write). */
const FILE_FLAGS = 2;

const NO_EXTENTS: Extents = { extents: [], chunkSize: undefined };

/** What a file has when it seals. */
export interface FinalContent {
  readonly size: number;
  readonly content: Extents;
}

/**
 * The entries that put `node` at its place, the first of them at `index`: one where the path can be logged directly
 * (or the entry carries its place), otherwise a hidden stand-in and a RELINK, which may also replace what the log
 * has at that name.
 */
export function planSeal(node: TreeNode, index: number, sealed: SealedTree, final?: FinalContent): Step[] {
  if (node.parent === undefined) throw new FamfsError("INTERNAL", `${pathOf(node)} has no place to seal at`);
  const link: Link = { parent: sealedIndex(node.parent), name: node.name };
  const { mode, uid, gid, mtime } = node;
  const attributes = { mode, uid, gid, mtime };
  if (node.kind === "symlink") {
    const made = { type: "node", kind: "symlink", ...attributes, symlinkTarget: node.target } as const;
    if (node.name.length + node.target.length <= MAX_SYMLINK_TARGET) return [{ entry: { ...made, link }, node }];
    return [
      { entry: { ...made, link: undefined }, node },
      { entry: { type: "relink", target: index, link, ...attributes } },
    ];
  }
  if (node.kind === "file" && (final === undefined || final.size === 0)) {
    return [{ entry: { type: "node", kind: "file", link, ...attributes, symlinkTarget: "" }, node }];
  }
  const direct = sealed.directPath(link);
  const path = direct ?? standInPath(index);
  // Stock entries have no time.
  const stock = { mode, uid, gid, ...(sealed.extended && { mtime }) };
  const made: Step =
    node.kind === "directory"
      ? { entry: { type: "mkdir", path, ...stock }, node }
      : {
          entry: {
            type: "file",
            path,
            size: final?.size ?? 0,
            flags: FILE_FLAGS,
            layout: logLayoutOf(final?.content ?? NO_EXTENTS),
            ...stock,
          },
          node,
        };
  return direct !== undefined ? [made] : [made, { entry: { type: "relink", target: index, link, ...attributes } }];
}
