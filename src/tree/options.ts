import type { FreeSpace, Striping } from "../alloc/index.ts";
import type { Extent, Logger } from "../base/index.ts";
import type { SealedTree } from "../format/index.ts";
import type { Clock, DataMemory, FileMaps, LogReader, TreeCondition, WriterGrant } from "./ports.ts";

export interface VolumeTreeOptions {
  readonly log: LogReader;
  readonly memory: DataMemory;
  /** An empty model of the volume; made anew when what was read turns out not to hold. */
  readonly createSealed: () => SealedTree;
  /**
   * Carries a volume record. Otherwise it is in the terms of the stock tools, whose log says only that files and
   * directories were made: whatever takes another entry is refused (NOT_PERMITTED).
   */
  readonly extended: boolean;
  /** Why nothing can be changed here: this host is not the owner of a stock file system. */
  readonly readOnlyBecause?: string | undefined;
  /** What the log leaves of the region, in whole units. */
  readonly data: Extent;
  /** Free ranges over `data`, all free. */
  readonly createFree: () => FreeSpace;
  /** Entries the log can hold. */
  readonly logCapacity: number;
  /** Of all nodeids: from the volume's UUID. */
  readonly generation: bigint;
  readonly grant: WriterGrant;
  readonly maps: FileMaps;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly settings?: Partial<TreeSettings>;
  /** Whether no other node can hold files of this volume open (only this node has it staged). */
  readonly exclusive: () => boolean;
  /** undefined: what was wrong is over. */
  readonly onCondition?: (condition: TreeCondition | undefined) => void;
}

export interface TreeSettings {
  readonly readOnly: boolean;
  /** How long after its last close a file seals. */
  readonly sealDelayMs: number;
  /** How long an open for write waits for the grant. */
  readonly writerTimeoutMs: number;
  /** How long a change of names waits for it: uncached lookups in that directory wait as well (design 6). */
  readonly nameTimeoutMs: number;
  /** With "any", opening a sealed file for read and write needs no grant. */
  readonly dataWriters: "one" | "any";
  /** Interleaves files whose size is declared before they have data; undefined: all files are simple. */
  readonly striping: Striping | undefined;
  /** Several nodes may have it mounted at a time: decides about page caches. */
  readonly shared: boolean;
  /** What the session negotiated: FOPEN_DIRECT_IO files can be mapped. */
  readonly directIoAllowMmap: boolean;
  /** Nobody else can become owner of the log while it is served: a close has nothing to report. */
  readonly soleOwner: boolean;
  readonly minimumHoldMs: number;
  /** Group that everything shows (CSI VOLUME_MOUNT_GROUP, mount-group.ts); undefined: as stored. */
  readonly mountGroup: number | undefined;
}

export const DEFAULT_SETTINGS: TreeSettings = {
  readOnly: false,
  sealDelayMs: 1000,
  writerTimeoutMs: 30_000,
  nameTimeoutMs: 5000,
  dataWriters: "one",
  striping: undefined,
  shared: false,
  directIoAllowMmap: false,
  soleOwner: false,
  minimumHoldMs: 100,
  mountGroup: undefined,
};
