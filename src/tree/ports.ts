/**
 * What the file system of a volume needs from around it. The interfaces are ours and narrow, so that tests run over
 * a deterministic clock and log; `src/media` and the FUSE session supply the real ones.
 */
import type { Extent } from "../base/index.ts";
import type { LogEntry, Time } from "../format/index.ts";

export interface Clock {
  /** Milliseconds since the Unix epoch: what files are stamped with. */
  wallMs(): number;
  /** Milliseconds from any start, never set back: what delays are measured with. */
  monotonicMs(): number;
  /** Calls `callback` once after `delayMs`, unless disposed before. Does not keep the process alive. */
  schedule(delayMs: number, callback: () => void): Disposable;
}

/** A validated entry of the log, not applied yet. */
export interface IndexedEntry {
  readonly index: number;
  readonly entry: LogEntry;
}

/** A file that another node rewrote in place: the ring of changes (design 4). */
export interface ContentChange {
  readonly index: number;
  readonly mtime: Time;
}

export interface LogNews {
  readonly entries: readonly IndexedEntry[];
  /** "all" when the ring has overflowed. */
  readonly contentChanges: readonly ContentChange[] | "all";
  /** The log has a bad entry at this index that stays bad: only the prefix before it is served. */
  readonly corruptAt: number | undefined;
  /** What was delivered does not all hold: `entries` begin with entry 0 again. */
  readonly restarted: boolean;
  /** This was a piece of a long log; the next one is there already. */
  readonly more: boolean;
  /** Nothing was published that is not delivered now: no entry is bad or still on its way. */
  readonly complete: boolean;
}

export interface LogReader {
  /** Calls `onNews` within about `intervalMs` of something that `poll` would tell. Nothing comes after disposal. */
  watch(intervalMs: number, onNews: () => void): Disposable;
  /** What has appeared since the call before, or the next piece of that. Reads only memory, so it never waits. */
  poll(): LogNews;
  /** The next `poll` begins with entry 0. */
  rewind(): void;
  /** Entries that the log's counter counts now: one load. MEMORY_ERROR. */
  published(): number;
}

/** The right to append, from one take-over to its release. */
export interface LogWriter {
  /** For file maps: checked before every data write. */
  readonly guard: number;
  /** Index the next entry gets. */
  readonly nextIndex: number;
  /**
   * One transaction. OWNER_STALE when this node is no longer the owner: then nobody sees the entries, or, when the
   * owner changed during the append, its successor decides.
   */
  append(entries: readonly LogEntry[]): void;
  /** What a successor must leave alone. */
  publishReservations(ranges: readonly Extent[]): void;
  /** Names a sealed file whose bytes were rewritten, for the caches of other nodes. */
  recordChanged(index: number, mtime: Time): void;
  /** Extents that other owners reserved and have not given back. */
  readonly foreignReservations: readonly Extent[];
  /** Why that is not all: owner slots that cannot be read (their node crashed while it wrote them). */
  readonly unknownReservations: readonly string[];
  /** False once another node took over. */
  holds(): boolean;
}

/** The data of the volume's region, in offsets of the region. */
export interface DataMemory {
  /** Number of the window that maps the whole region. */
  readonly window: number;
  /** For file maps where writing needs no grant (`dataWriters: any`): the region is still this volume's. */
  readonly regionGuard: number;
  /** Whether the region is still this volume's. MEMORY_ERROR. */
  isCurrent(): boolean;
  /** Where the kernel reported bad memory that nobody has read yet; undefined: nowhere. */
  reportedBad(): number | undefined;
  /**
   * Undefined when it is done; a promise where zeroing takes time. Durable when done. `check` is called before each
   * part and throws when nothing more may be stored.
   */
  zero(offset: number, length: number, check: () => void): undefined | Promise<void>;
  /** The same for at most a unit, done when it returns. Up to 0.3 ms on a real device. */
  zeroNow(offset: number, length: number): void;
  /** Copies between ranges that do not overlap; durable when done. `check` as for `zero`. */
  copy(from: number, to: number, length: number, check: () => void): undefined | Promise<void>;
  /**
   * Drops cache lines, so that what other hosts wrote is read from the memory; the answer is as for `zero`. Undefined
   * where caches are coherent.
   */
  readonly invalidate: ((offset: number, length: number) => undefined | Promise<void>) | undefined;
}

/**
 * The volume's writer grant (design 6). `acquire` answers with the log once this node is its owner; the tree then
 * reads the log to its end before it uses it.
 */
export interface WriterGrant {
  /** OWNER_BUSY when another node kept the grant for `timeoutMs`. */
  acquire(options: { readonly timeoutMs: number; readonly signal: AbortSignal }): LogWriter | Promise<LogWriter>;
  /** The tree appends no more with the writer of the last `acquire`. */
  release(): void | Promise<void>;
  /** Nothing is acquired any more. */
  close?(): void;
}

export type MapLayout =
  | { readonly type: "simple"; readonly extents: readonly Extent[] }
  | { readonly type: "interleaved"; readonly chunkSize: number; readonly strips: readonly Extent[] };

export interface MapInit {
  readonly window: number;
  readonly guard: number;
  readonly layout: MapLayout;
  readonly size: number;
  readonly capacity: number;
  readonly filled: number;
  readonly sealed: boolean;
}

/** The session's table of file maps (`FileMapTable` of src/fuse), in numbers. */
export interface FileMaps {
  create(init: MapInit): number;
  setLayout(map: number, layout: MapLayout, capacity: number): void;
  setSize(map: number, size: number): void;
  setFilled(map: number, bytes: number): void;
  setGuard(map: number, guard: number): void;
  setSealed(map: number, sealed: boolean): void;
  setPaused(map: number, paused: boolean): void;
  size(map: number): number;
  filled(map: number): number;
  lastWriteMs(map: number): number;
  idle(map: number): Promise<void>;
  destroy(map: number): void;
}

/** Something that the kernel may have cached and shall forget (`Forgettable` of src/fuse). */
export type Forgettable =
  | { readonly type: "name"; readonly parent: number; readonly name: string }
  | { readonly type: "removed"; readonly parent: number; readonly name: string; readonly nodeid: number }
  | { readonly type: "attributes"; readonly nodeid: number }
  /** Attributes and all pages. */
  | { readonly type: "content"; readonly nodeid: number };

/** The session's notifications (`KernelCaches` of src/fuse). */
export interface KernelCaches {
  /** Sent by a thread that answers nothing; never rejects. */
  forget(what: readonly Forgettable[]): Promise<void>;
  /** Every cached name is asked for again before it is used; waits for nothing. False where the kernel cannot. */
  doubtNames(): boolean;
}

/** Why a volume is not as it should be: shown by CSI as its condition. */
export interface TreeCondition {
  readonly code: "LOG_CORRUPT" | "OWNER_LOST" | "MEMORY_ERROR" | "INTERNAL";
  readonly message: string;
}
