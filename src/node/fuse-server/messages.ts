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
  readonly region: { readonly offset: number; readonly length: number };
  /** What the volume record in memory must say; undefined for an adopted volume (stock format, no record). */
  readonly expect: { readonly volumeUuid: string; readonly regionGeneration: number } | undefined;
  readonly node: { readonly nodeId: string; readonly bootId: string; readonly slot: number } | undefined;
  /** No request may change anything, whatever the mount says. */
  readonly readOnly: boolean;
  /** `any`: opening a sealed file for read-write needs no grant (design 6). */
  readonly dataWriters: "one" | "any";
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

/** How the grant protocol ended for this request. */
export interface WriterTerms {
  readonly epoch: number;
}

interface OfVolume {
  readonly volumeId: string;
}

/** Asked of the FUSE server process: each a request and its answer. */
export type ServerCalls = {
  /** Answered once the process can attach volumes. */
  ready(): void;
  attach(volume: VolumeAttachment): void;
  /** Stops serving and closes the connection. Seals first when `seal`. */
  detach(volume: OfVolume & { readonly seal: boolean }): void;
  /** Seals every file that no handle keeps open for write. */
  seal(volume: OfVolume): void;
  health(volume: OfVolume): VolumeHealth;
  /** Stop new writes, flush, seal, publish: when it answers, the grant may go to another node. */
  releaseWriter(volume: OfVolume): void;
  /** The lease is about to run out (true), or renewed (false): writers wait meanwhile. */
  stall(volume: OfVolume & { readonly stalled: boolean }): void;
};

/** Asked of the node plugin. */
export type PluginCalls = {
  /** Waits for the grant at most `timeoutMs`: OWNER_BUSY after that. */
  acquireWriter(volume: OfVolume & { readonly timeoutMs: number }): WriterTerms;
  /** No file is open for write, and the idle time is over. */
  writerIdle(volume: OfVolume): void;
  /** Something a condition should say; undefined when it is over. */
  problem(volume: OfVolume & { readonly message: string | undefined }): void;
  log(line: LogLine): void;
};

export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}
