import { FamfsError } from "../base/index.ts";
import { type FileNode, pathOf } from "./nodes.ts";
import { stale } from "./ownership.ts";
import type { UnsealedFile } from "./unsealed-file.ts";

/** Why a file cannot be as long as somebody wants it. */

/** EFBIG for what no file can be long, whatever space there is (a position that is no exact number any more). */
export function requirePossible(file: FileNode, size: number, syscall: string): void {
  if (Number.isSafeInteger(size)) return;
  throw new FamfsError("SYSTEM", `${syscall} up to byte ${size} of ${pathOf(file)}: at most 2^53 - 1`, {
    details: { errno: "EFBIG", syscall },
  });
}

/** SIZE_SEALED, OWNER_STALE. */
export function requireUnsealed(file: FileNode): UnsealedFile {
  if (file.content.type === "sealed") throw sizeSealed(file, undefined);
  if (file.content.lost) throw stale();
  return file.content;
}

export function sizeSealed(file: FileNode, wanted: number | undefined): FamfsError {
  const { size } = file.content;
  return new FamfsError(
    "SIZE_SEALED",
    `${pathOf(file)} is sealed at ${size} bytes${wanted === undefined ? "" : `, not ${wanted}`}: ` +
      "write a new file and rename it over this one",
  );
}

export function writePastEnd(file: FileNode, offset: number, end: number): FamfsError {
  return new FamfsError(
    "WRITE_PAST_END",
    `a write of bytes ${offset} to ${end} of ${pathOf(file)}, sealed at ${file.content.size} bytes: ` +
      "write a new file and rename it over this one",
  );
}
