import type { TreeSettings } from "./options.ts";

/** From what reads and writes of an open file are answered, and what the kernel may keep. */
export interface OpenAnswer {
  readonly directIo: boolean;
  readonly keepCache: boolean;
}

/**
 * The one place that decides how an OPEN is answered (design 8). The direct path joins here: a backing file that is
 * the memory, instead of a window of the mapping.
 *
 * On a volume that several nodes have mounted, what is written must reach the memory at once and no page of it may
 * stay behind here, so files open for write bypass the page cache; where the kernel could then not map them (before
 * 6.6), they use it, and the hand-over invalidates. With `dataWriters: any` files are written without a hand-over, so
 * reading bypasses it as well, or at least every open begins anew. Pages of everything else are kept until they are
 * invalidated.
 */
export function decideOpen(writing: boolean, settings: TreeSettings): OpenAnswer {
  const unannounced = settings.dataWriters === "any";
  const changesElsewhere = settings.shared && (writing || unannounced);
  const bypass = changesElsewhere && settings.directIoAllowMmap;
  return { directIo: bypass, keepCache: !bypass && !(settings.shared && unannounced) };
}
