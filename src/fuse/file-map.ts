/**
 * File maps: where the bytes of open files are, in memory that all workers share, so that they answer READ and WRITE
 * without asking the thread that owns the tree. A map is made by the file system at open and lives until it
 * destroys it; several handles of one inode share one map.
 */

import type { Extent } from "../base/index.ts";

declare const brand: unique symbol;
export type FileMapId = number & { readonly [brand]: "FileMapId" };

/** How file offsets become offsets of the volume's window (format 6.4, 6.5). */
export type FileLayout =
  | { readonly type: "simple"; readonly extents: readonly Extent[] }
  | { readonly type: "interleaved"; readonly chunkSize: number; readonly strips: readonly Extent[] };

export interface FileMapInit {
  /** Window of the volume's region (native/memory.ts). */
  readonly window: number;
  /** Guard checked before every data write (native/log.ts); 0 = none. */
  readonly guard: number;
  readonly layout: FileLayout;
  /** Bytes a reader may see. */
  readonly size: number;
  /**
   * Bytes the layout can hold. A write that ends beyond `size` but within `capacity` extends `size` (an unsealed
   * file); for a sealed file capacity = size, and such a write is EFBIG.
   */
  readonly capacity: number;
  /** Bytes from the start that were written or zeroed; a write that would leave a gap behind them is not a worker's. */
  readonly filled: number;
  readonly sealed: boolean;
}

export interface FileMapTable {
  create(init: FileMapInit): FileMapId;
  /** Replaces layout and capacity (growth); the bytes already written must be at the same file offsets. */
  setLayout(map: FileMapId, layout: FileLayout, capacity: number): void;
  setSize(map: FileMapId, size: number): void;
  setFilled(map: FileMapId, bytes: number): void;
  /** From now on writes check another guard: this node took the log over while the file was open. */
  setGuard(map: FileMapId, guard: number): void;
  /** From now on (or no longer) size and capacity are one: a file was sealed. */
  setSealed(map: FileMapId, sealed: boolean): void;
  /** While paused, workers pass every write on to `prepareWrite`. */
  setPaused(map: FileMapId, paused: boolean): void;
  size(map: FileMapId): number;
  filled(map: FileMapId): number;
  /** Milliseconds since the Unix epoch of the last data write, 0 when there was none since creation. */
  lastWriteMs(map: FileMapId): number;
  /** Resolves when no request that started before is still using the map. */
  idle(map: FileMapId): Promise<void>;
  destroy(map: FileMapId): void;
}
