import type { Extent } from "../../base/index.ts";
import type { TreeCondition } from "../../tree/index.ts";
import type { ServerFigures } from "./figures.ts";

/**
 * What the node plugin and its FUSE server process ask each other. Values are structured clones; descriptors travel
 * beside, over a socket pair, under the `tag` that the message names.
 */

/** Everything the process must know to serve one volume on one /dev/fuse connection. */
export interface VolumeAttachment {
  readonly volumeId: string;
  /** Of the descriptor that was sent. */
  readonly tag: number;
  readonly devicePath: string;
  /** Caches of all nodes agree by themselves; otherwise lines are flushed and dropped. */
  readonly coherent: boolean;
  /** See `PathSpec`; tests. */
  readonly cachesOf?: string;
  readonly region: Extent;
  /** What the volume record in memory must say; undefined for an adopted volume (stock format, no record). */
  readonly expect: { readonly volumeUuid: string; readonly regionGeneration: number } | undefined;
  readonly node: { readonly nodeId: string; readonly bootId: string; readonly slot: number };
  /** No request may change anything, whatever the mount says. */
  readonly readOnly: boolean;
  /** Several nodes may have it staged at a time. */
  readonly shared: boolean;
  /** No other node has it staged right now. */
  readonly exclusive: boolean;
  /** Checked StorageClass parameters, as given. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Group that the root and everything below it shows and may be used by (fsGroup). */
  readonly mountGroup: number | undefined;
}

/** What a server knows about a volume without asking its mount. */
export interface VolumeHealth {
  readonly bytes: Usage;
  /** Slots of the log: each file, directory or change of a name takes one. */
  readonly logSlots: Usage;
  /** Undefined when nothing is wrong. */
  readonly problem: string | undefined;
}

export interface Usage {
  readonly total: number;
  readonly used: number;
  readonly available: number;
}

/** To be written into the owner slot in memory before the first append. */
export interface WriterTerms {
  readonly epoch: number;
  readonly slot: number;
}

interface OfVolume {
  readonly volumeId: string;
}

/** Asked of the FUSE server process: each a request and its answer. */
export type ServerCalls = {
  /** Answered once the process can attach volumes. */
  ready(): void;
  /** Seals and detaches everything: the plugin is about to end. */
  stop(): void;
  attach(volume: VolumeAttachment): void;
  /** Stops serving and closes the connection. Seals first when `seal`; otherwise what is not in the log is lost. */
  detach(volume: OfVolume & { readonly seal: boolean }): void;
  /** Seals every file that no handle keeps open for write. */
  seal(volume: OfVolume): void;
  health(volume: OfVolume): VolumeHealth;
  /** Waits for nothing: a volume that is still being attached is not among them. */
  figures(): ServerFigures;
  /**
   * Another node waits for the grant: flush, seal, release it. `forced` also while files are open for write. False
   * when that did not happen within `timeoutMs`.
   */
  handOver(volume: OfVolume & { readonly forced: boolean; readonly timeoutMs: number }): boolean;
  /** Whether no other node has the volume staged, so that space comes back at once. */
  setExclusive(volume: OfVolume & { readonly exclusive: boolean }): void;
  /**
   * Writers may go on until `goodUntilMs` (`monotonicMs`), when the lease is about to run out, unless there is a later
   * word; undefined: not at all. So a server stalls by itself when its plugin hangs.
   */
  lease(volume: OfVolume & { readonly goodUntilMs: number | undefined }): void;
};

/** Asked of the node plugin. */
export type PluginCalls = {
  /** Waits for the grant at most `timeoutMs`: OWNER_BUSY after that. `highestEpoch` is the highest in memory. */
  acquireWriter(volume: OfVolume & { readonly timeoutMs: number; readonly highestEpoch: number }): WriterTerms;
  /** Nothing will be appended under `epoch` any more. Names it, so that what comes late touches nothing newer. */
  releaseWriter(volume: OfVolume & { readonly epoch: number }): void;
  /** Something a condition should say; undefined when it is over. */
  problem(volume: OfVolume & { readonly noticed: TreeCondition | undefined }): void;
  log(line: LogLine): void;
};

export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}
