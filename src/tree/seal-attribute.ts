import { FamfsError } from "../base/index.ts";
import { isUnsealed, type TreeNode } from "./nodes.ts";

/**
 * The one extended attribute there is: setting it seals a file or directory at once, its value says whether it is
 * sealed.
 */
const SEAL_ATTRIBUTE = "user.famfs.seal";

/** XATTR_UNSUPPORTED for every other name. */
export function requireSealAttribute(name: string): void {
  if (name === SEAL_ATTRIBUTE) return;
  throw new FamfsError("XATTR_UNSUPPORTED", `extended attribute ${name}: famfs keeps none, only ${SEAL_ATTRIBUTE}`);
}

/** "1" when the node is in the log, otherwise "0". */
export function getSealAttribute(node: TreeNode, name: string): Uint8Array {
  requireSealAttribute(name);
  return Buffer.from(isUnsealed(node) ? "0" : "1");
}
