import { createHash } from "node:crypto";

/** What a Kubernetes object may be called, less the dots. */
const PLAIN = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** Ids that are derived otherwise; a name that looks like one is hashed, so that no two names give one id. */
const RESERVED = /^(vol|adopted)-/;

/**
 * The volume id of a CSI name: the name itself where it can name an object (`pvc-…`), a hash of it otherwise. The same
 * name always gives the same id, so a repeated CreateVolume finds its volume, whichever controller it reaches.
 */
export function volumeIdFor(csiName: string): string {
  if (PLAIN.test(csiName) && !RESERVED.test(csiName)) return csiName;
  return `vol-${createHash("sha256").update(csiName, "utf8").digest("hex").slice(0, 40)}`;
}
