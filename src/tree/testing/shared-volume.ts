import { FreeSpace } from "../../alloc/index.ts";
import { ALLOC_UNIT, type Extent, FamfsError, type Logger, MIB, silentLogger } from "../../base/index.ts";
import {
  ENTRY_SIZE,
  EntryDecoder,
  encodeEntries,
  type LogEntry,
  MAX_TRANSACTION,
  SealedTree,
  type Time,
} from "../../format/index.ts";
import type { TreeSettings } from "../options.ts";
import type { ContentChange, IndexedEntry, LogReader, LogWriter, TreeCondition, WriterGrant } from "../ports.ts";
import { VolumeTree } from "../volume-tree.ts";
import { ManualClock } from "./manual-clock.ts";
import { MemoryMaps } from "./memory-maps.ts";
import { coherentMemory, incoherentMemory, type SharedMemory } from "./node-memory.ts";
import { type ServedNode, servedNode } from "./served-node.ts";

const LOG_END = 10 * MIB;
/** Entries of one delivery, so that every test sees a log come in pieces. */
const PIECE = 2;

let coherentByDefault = true;

/** From now on volumes are not `coherent`. For files that run the tests of others once more (`incoherent.test.ts`). */
export function useIncoherentMemory(): void {
  coherentByDefault = false;
}

/** One volume in a buffer that several nodes serve: entries go through the codec, ownership is an epoch. */
export class SharedVolume {
  readonly clock = new ManualClock();
  #memory: SharedMemory | undefined;
  readonly regionLength: number;
  readonly #entries: Uint8Array[] = [];
  readonly #reservations = new Map<string, readonly Extent[]>();
  readonly #changes: ContentChange[] = [];
  readonly capacity: number;
  #epoch = 0;
  #retractions = 0;
  #holder: string | undefined;
  /** Nodes ask here before they take the grant from another. */
  onContention: (holder: string) => Promise<boolean> = () => Promise.resolve(false);
  exclusive = true;
  /**
   * Caches of all nodes agree; otherwise each node has its own, and what is invalidated by each is counted. Set it
   * before the first node serves the volume.
   */
  coherent = coherentByDefault;
  readonly invalidated: { readonly node: string; readonly offset: number; readonly length: number }[] = [];
  /** Lets invalidating take time. */
  beforeInvalidate: () => Promise<void> | undefined = () => undefined;
  /** The ring of changes has overflowed for whoever looks next. */
  overflow = false;
  /** Entries that are published and have not arrived: nobody sees new ones. */
  hidden = false;
  /** Index of an entry that stays bad. */
  corruptAt: number | undefined;
  /** Called before each look at the log; may throw. */
  beforePoll: () => void = () => undefined;
  /** Of nodes that serve it from now on. */
  logger: Logger = silentLogger;
  /** The region is this volume's. */
  isCurrent = true;
  /** The kernel of every node reported bad memory there. */
  reportedBad: number | undefined;
  /** Owner slots of other nodes that cannot be read. */
  unknownReservations: string[] = [];
  /** The ring of changes cannot be written. */
  refuseChanges = false;
  /** Lets zeroing take time. */
  beforeZero: () => Promise<void> | undefined = () => undefined;

  constructor(options: { dataBytes?: number; capacity?: number } = {}) {
    this.regionLength = LOG_END + (options.dataBytes ?? 64 * MIB);
    this.capacity = options.capacity ?? 1000;
  }

  get memory(): SharedMemory {
    this.#memory ??= this.coherent ? coherentMemory() : incoherentMemory(this.regionLength);
    return this.#memory;
  }

  get length(): number {
    return this.#entries.length;
  }

  get holder(): string | undefined {
    return this.#holder;
  }

  /** What a mount elsewhere would replay now. */
  replay(): { tree: SealedTree; entries: LogEntry[]; findings: string[] } {
    const tree = this.#createSealed();
    const entries = this.#decode(0);
    const findings: string[] = [];
    for (const { index, entry } of entries) {
      for (const finding of tree.apply(index, entry).findings) findings.push(finding.message);
    }
    return { tree, entries: entries.map(({ entry }) => entry), findings };
  }

  reservations(node: string): readonly Extent[] {
    return this.#reservations.get(node) ?? [];
  }

  /** The next append of whoever owns the log is refused: another took over. */
  steal(): void {
    this.#epoch++;
    this.#holder = undefined;
  }

  /** Appends whatever `entry` says. */
  publish(entry: LogEntry): void {
    this.#entries.push(encodeEntries(this.#entries.length, [entry]));
  }

  /** The last `count` entries were of an owner that had lost the log: readers begin again. */
  retract(count: number): void {
    this.#entries.splice(-count);
    this.#retractions++;
  }

  serve(name: string, settings: Partial<TreeSettings> = {}, readOnlyBecause?: string): ServedNode {
    const memory = this.memory.of(name, settings.dataWriters ?? "one");
    const maps = new MemoryMaps(memory, () => this.clock.wallMs());
    const conditions: TreeCondition[] = [];
    const tree = new VolumeTree({
      log: this.#reader(),
      memory: {
        window: 1,
        regionGuard: 0,
        isCurrent: () => this.isCurrent,
        reportedBad: () => this.reportedBad,
        zero: (offset, length, check) => {
          const zero = () => {
            check();
            memory.zero(offset, length);
          };
          const wait = this.beforeZero();
          if (wait !== undefined) return wait.then(zero);
          zero();
          return undefined;
        },
        zeroNow: (offset, length) => memory.zero(offset, length),
        copy: (from, to, length, check) => {
          check();
          memory.write(to, memory.read(from, length));
          return undefined;
        },
        invalidate: this.coherent
          ? undefined
          : (offset, length) => {
              this.invalidated.push({ node: name, offset, length });
              const wait = this.beforeInvalidate();
              if (wait !== undefined) return wait.then(() => memory.invalidate(offset, length));
              memory.invalidate(offset, length);
              return undefined;
            },
      },
      createSealed: () => this.#createSealed(),
      extended: true,
      readOnlyBecause,
      data: { offset: LOG_END, length: this.regionLength - LOG_END },
      createFree: () => new FreeSpace({ offset: LOG_END, length: this.regionLength - LOG_END }),
      logCapacity: this.capacity,
      generation: 7n,
      grant: this.#grant(name),
      maps,
      clock: this.clock,
      logger: this.logger,
      settings,
      exclusive: () => this.exclusive,
      onCondition: (condition) => void (condition && conditions.push(condition)),
    });
    tree.poll();
    return { ...servedNode(tree, maps), conditions, memory };
  }

  #createSealed(): SealedTree {
    return new SealedTree({
      regionLength: this.regionLength,
      dataOffset: LOG_END,
      allocUnit: ALLOC_UNIT,
      extended: true,
      rootUid: 0,
      rootGid: 0,
      rootMode: 0o755,
    });
  }

  #reader(): LogReader {
    let position = 0;
    let changes = 0;
    let retractions = this.#retractions;
    return {
      poll: () => {
        this.beforePoll();
        const restarted = retractions < this.#retractions;
        if (restarted) position = 0;
        retractions = this.#retractions;
        const entries = this.hidden ? [] : this.#decode(position).slice(0, PIECE);
        position += entries.length;
        const more = !this.hidden && position < this.#entries.length;
        const news = { entries, corruptAt: this.corruptAt, restarted, more, complete: !more && !this.hidden };
        if (more) return { ...news, contentChanges: [] };
        const contentChanges = this.overflow ? "all" : this.#changes.slice(changes);
        this.overflow = false;
        changes = this.#changes.length;
        return { ...news, contentChanges };
      },
      rewind: () => {
        position = 0;
      },
      published: () => this.length,
      watch: (intervalMs, onNews) => {
        let timer: Disposable;
        const look = () => {
          timer = this.clock.schedule(intervalMs, look);
          onNews();
        };
        timer = this.clock.schedule(intervalMs, look);
        return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
      },
    };
  }

  #decode(from: number): IndexedEntry[] {
    return this.#entries.slice(from).map((bytes, at) => {
      const { entry } = new EntryDecoder(bytes, true).decode(0, from + at);
      if (entry === undefined) throw new Error(`entry ${from + at} does not decode`);
      return { index: from + at, entry };
    });
  }

  #grant(node: string): WriterGrant {
    return {
      acquire: async ({ timeoutMs }) => {
        if (this.#holder !== undefined && this.#holder !== node && !(await this.onContention(this.#holder))) {
          throw new FamfsError("OWNER_BUSY", `${this.#holder} kept the grant for ${timeoutMs} ms`, {
            details: { nodeId: this.#holder },
          });
        }
        this.#holder = node;
        return this.#writer(node, ++this.#epoch);
      },
      release: () => {
        if (this.#holder === node) this.#holder = undefined;
      },
    };
  }

  #writer(node: string, epoch: number): LogWriter {
    const [log, reservations, changes] = [this.#entries, this.#reservations, this.#changes];
    const refused = () => this.refuseChanges;
    const { unknownReservations } = this;
    const check = () => {
      if (this.#epoch !== epoch) throw new FamfsError("OWNER_STALE", "another node took the log over");
    };
    return {
      guard: epoch,
      get nextIndex() {
        return log.length;
      },
      get foreignReservations() {
        return [...reservations].filter(([name]) => name !== node).flatMap(([, ranges]) => ranges);
      },
      unknownReservations,
      append(entries) {
        check();
        if (entries.length > MAX_TRANSACTION) throw new Error(`${entries.length} entries in one transaction`);
        const bytes = encodeEntries(log.length, [...entries]);
        for (let at = 0; at < entries.length; at++) {
          log.push(bytes.slice(at * ENTRY_SIZE, (at + 1) * ENTRY_SIZE));
        }
      },
      publishReservations(ranges) {
        check();
        reservations.set(node, ranges);
      },
      recordChanged(index: number, mtime: Time) {
        check();
        if (refused()) throw new FamfsError("VOLUME_RECORD_CORRUPT", "ring of changes");
        changes.push({ index, mtime });
      },
      holds: () => this.#epoch === epoch,
    };
  }
}
