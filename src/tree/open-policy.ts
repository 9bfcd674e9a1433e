import { constants } from "node:fs";
import type { TreeSettings } from "./options.ts";

/** From what reads and writes of an open file are answered, and what the kernel may keep. */
export interface OpenAnswer {
  readonly directIo: boolean;
  readonly keepCache: boolean;
  /** Closing waits for an answer, which can be an error. */
  readonly reportsAtClose: boolean;
}

const O_ACCMODE = 3;
const O_WRONLY = 1;
const O_DIRECT = constants.O_DIRECT;

/**
 * The one place that decides how an OPEN is answered (design 8). The direct path joins here: a backing file that is
 * the memory, instead of a window of the mapping.
 *
 * On a volume that several nodes have mounted, what is written must reach the memory at once and no page of it may
 * stay behind here, so files open for write bypass the page cache; where the kernel could then not map them (before
 * 6.6), they use it, and the hand-over invalidates. With `dataWriters: any` files are written without a hand-over, so
 * reading bypasses it as well, or at least every open begins anew. Pages of everything else are kept until they are
 * invalidated.
 *
 * Handles that only write bypass it on every volume: the data is in memory already, and a copy of it in the page cache
 * would cost more than the write itself. The kernel drops the pages that are written over (since 6.6 as well). So do
 * those that were opened with O_DIRECT: only then the kernel lets their writes go side by side.
 */
export function decideOpen(flags: number, settings: TreeSettings): OpenAnswer {
  const access = flags & O_ACCMODE;
  const writing = access !== 0;
  const unannounced = settings.dataWriters === "any";
  const changesElsewhere = settings.shared && (writing || unannounced);
  const unread = access === O_WRONLY || (flags & O_DIRECT) !== 0;
  const bypass = (changesElsewhere || unread) && settings.directIoAllowMmap;
  return {
    directIo: bypass,
    keepCache: !(changesElsewhere && bypass) && !(settings.shared && unannounced),
    reportsAtClose: writing && !settings.soleOwner,
  };
}
