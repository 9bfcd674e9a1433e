import { FamfsError } from "../base/index.ts";
import type { VolumeTree } from "../tree/index.ts";

const ROOT = 1;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;

/** Components of a path in a volume, as binary strings. INVALID_ARGUMENT for `..`. */
export function components(path: string): string[] {
  const parts = Buffer.from(path, "utf8")
    .toString("latin1")
    .split("/")
    .filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new FamfsError("INVALID_ARGUMENT", `${path}: ".." leads out of the volume`);
  return parts;
}

export type Found = { readonly nodeid: number; readonly directory: boolean };

/** The node at `parts`; undefined when the last one is missing. FILE_NOT_FOUND, NOT_A_DIRECTORY for one before it. */
export function find(tree: VolumeTree, parts: readonly string[]): Found | undefined {
  let at: Found = { nodeid: ROOT, directory: true };
  for (const [i, name] of parts.entries()) {
    if (!at.directory) throw new FamfsError("NOT_A_DIRECTORY", `${parts.slice(0, i).join("/")} is not a directory`);
    const answer = tree.lookup(at.nodeid, name);
    if ("missingForSeconds" in answer) {
      if (i === parts.length - 1) return undefined;
      throw new FamfsError("FILE_NOT_FOUND", `there is no ${parts.slice(0, i + 1).join("/")} in the volume`);
    }
    const { nodeid, mode } = answer.attributes;
    at = { nodeid, directory: (mode & S_IFMT) === S_IFDIR };
  }
  return at;
}
