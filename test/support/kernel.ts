import { accessSync, constants } from "node:fs";

/**
 * For `test({ skip })`: why tests that mount cannot run here, or false. Under CI=true nothing is skipped, so that a
 * machine that cannot run them fails.
 */
export function skipWithoutMounts(): string | false {
  if (process.env["CI"] === "true") return false;
  if (process.getuid?.() !== 0) return "mounting needs root; run as root or under `unshare -Urm`";
  try {
    accessSync("/dev/fuse", constants.R_OK | constants.W_OK);
  } catch {
    return "there is no usable /dev/fuse";
  }
  return false;
}
