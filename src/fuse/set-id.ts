import { FATTR, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_IXGRP } from "./flags.ts";
import type { AttributeChange, Attributes } from "./operations.ts";

/**
 * Set-id bits of regular files. HANDLE_KILLPRIV_V2 leaves it to the server to remove them when a file is written,
 * truncated or given away; in return the kernel asks for no security.capability before each write. Such files are
 * rare, so we remember which there are, from the attributes that pass by, and everything else stays fast.
 */
export class SetIdFiles {
  readonly #nodeids = new Set<number>();

  /** Learns from attributes on their way to the kernel. Returns whether the answer for this nodeid has changed. */
  learn(attributes: Attributes): boolean {
    const { nodeid, mode } = attributes;
    const before = this.#nodeids.size;
    if ((mode & S_IFMT) === S_IFREG && (mode & (S_ISUID | S_ISGID)) !== 0) this.#nodeids.add(nodeid);
    else if (before > 0) this.#nodeids.delete(nodeid);
    return this.#nodeids.size !== before;
  }

  has(nodeid: number): boolean {
    return this.#nodeids.has(nodeid);
  }

  /**
   * True when a SETATTR must also remove the bits: it says so (truncate by somebody without CAP_FSETID), or it
   * changes the owner without setting a mode.
   */
  mustClear(nodeid: number, valid: number): boolean {
    const asked = (valid & (FATTR.KILL_SUIDGID | FATTR.UID | FATTR.GID)) !== 0;
    return asked && (valid & FATTR.MODE) === 0 && this.#nodeids.has(nodeid);
  }
}

/** The mode without set-user-id, and without set-group-id where that means "run as group" (group execute is on). */
export function withoutSetId(mode: number): number {
  const cleared = mode & ~S_ISUID;
  return (cleared & S_IXGRP) === 0 ? cleared : cleared & ~S_ISGID;
}

/** The change that removes the bits, or undefined when nothing is to be done. */
export function clearingChange(attributes: Attributes): AttributeChange | undefined {
  const mode = withoutSetId(attributes.mode);
  return mode === attributes.mode ? undefined : { mode: mode & 0o7777 };
}
