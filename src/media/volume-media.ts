import { native } from "../../native/index.ts";
import { type Extent, FamfsError, roundDown, roundUp } from "../base/index.ts";
import {
  ASK_LINES_OFFSET,
  bellOffset,
  CHANGE_COUNTER_OFFSET,
  CHANGE_RING_OFFSET,
  CHANGE_RING_SIZE,
  type Claim,
  encodeIdentity,
  type Finding,
  GUARD_OFFSET,
  highest,
  IDENTITY_SIZE,
  type Identity,
  type Inspected,
  inspectIdentity,
  LOG_HEADER_SIZE,
  LOG_NEXT_INDEX_OFFSET,
  LOG_OFFSET,
  lastIndexFor,
  OWNER_SLOTS,
  type OwnerDetail,
  parseLogHeader,
  parseSuperblock,
  parseVolumeRecord,
  readChangeRing,
  type StoredSuperblock,
  VOLUME_RECORD_OFFSET,
  type VolumeRecord,
} from "../format/index.ts";
import type { Device, ZeroOptions } from "./device.ts";
import { LogReader, type Polled } from "./log-reader.ts";
import { LogWriter, type OwnableVolume, type Taker } from "./log-writer.ts";
import { type ChangesFound, type ChangesSeen, OwnerView } from "./owner-view.ts";
import { wordsOf } from "./ownership/words.ts";
import { pagesOf } from "./slot-pages.ts";
import { Turns } from "./turns.ts";
import type { Window } from "./window.ts";

/** For `native.watchOpen`. */
const NO_ECHO = -1;
/** How soon the holder of the log hears that another node waits. */
const BELL_INTERVAL_MS = 1;

export interface VolumeMediaOptions {
  readonly writable: boolean;
  /**
   * Whether the caches of all hosts of the pool agree by themselves (coherency classes "hardware" and
   * "single-host"); otherwise lines are dropped before they are read.
   */
  readonly coherent?: boolean;
  /** Whether only the owner of the log writes sealed files in place. */
  readonly dataWriters?: "one" | "any";
}

/** What the owners of slots hold for unsealed files. */
export interface Reservations {
  readonly ranges: readonly Extent[];
  /** A slot page that cannot be read: what its node holds is not known. */
  readonly findings: readonly Finding[];
}

/** What claims say; those of nodes that the caller has to trust no more than any memory. */
export interface OwnerClaims {
  readonly claims: readonly Claim[];
  /** The one that owns the log. */
  readonly owner: Claim | undefined;
  /** The highest round: what the store calls an epoch. */
  readonly highestEpoch: number;
  readonly findings: readonly Finding[];
}

/** One volume in memory: its superblock, log, owner claims and data, through one window over its region. */
export class VolumeMedia implements OwnableVolume, AsyncDisposable {
  readonly device: Device;
  readonly region: Extent;
  /** Over the whole region: offsets in it are what the format calls device offsets. */
  readonly window: Window;
  readonly coherent: boolean;
  readonly superblock: StoredSuperblock;
  /** undefined: a stock file system. */
  readonly record: VolumeRecord | undefined;
  readonly logOffset = LOG_OFFSET;
  readonly lastIndex: number;
  /** Where data begins. */
  readonly dataOffset: number;
  readonly #reader: LogReader;
  /** Of layout 2. */
  readonly #view: OwnerView | undefined;
  #regionGuard: number | undefined;

  private constructor(
    place: { device: Device; region: Extent; window: Window; coherent: boolean },
    superblock: StoredSuperblock,
    record: VolumeRecord | undefined,
  ) {
    this.device = place.device;
    this.region = place.region;
    this.window = place.window;
    this.coherent = place.coherent;
    this.superblock = superblock;
    this.record = record;
    this.lastIndex = lastIndexFor(superblock.logLength);
    this.dataOffset = LOG_OFFSET + superblock.logLength;
    this.#reader = this.createReader();
    this.#view = record?.layout === 2 ? new OwnerView(place.window, place.coherent) : undefined;
  }

  /**
   * Maps the region and validates superblock, log header, volume record and identity line. The device must stay open.
   * SUPERBLOCK_CORRUPT, SUPERBLOCK_VERSION, LOG_CORRUPT, VOLUME_RECORD_CORRUPT, MEMORY_ERROR, OUT_OF_RANGE.
   */
  static async open(device: Device, region: Extent, options: VolumeMediaOptions): Promise<VolumeMedia> {
    await using stack = new AsyncDisposableStack();
    const { writable, coherent = true, dataWriters = "one" } = options;
    const through = coherent ? "nothing" : dataWriters === "one" ? "stores" : "all";
    const window = stack.use(device.mapRegion(region, { writable, through }));
    const headLength = VOLUME_RECORD_OFFSET + 4096;
    window.invalidate(0, headLength);
    const head = window.read(0, headLength);
    const superblock = parseSuperblock(head);
    if (superblock.daxdevSize > region.length) {
      throw new FamfsError(
        "SUPERBLOCK_CORRUPT",
        `${window.what} has ${region.length} bytes, its superblock says ${superblock.daxdevSize}`,
      );
    }
    window.invalidate(LOG_OFFSET, LOG_HEADER_SIZE);
    parseLogHeader(window.read(LOG_OFFSET, LOG_HEADER_SIZE), 0, superblock.logLength);
    const record = parseVolumeRecord(head, VOLUME_RECORD_OFFSET, superblock.uuid);
    const media = new VolumeMedia({ device, region, window, coherent }, superblock, record);
    if (record !== undefined) media.#checkIdentity(record);
    stack.move();
    return media;
  }

  /** Log entries there are room for. */
  get logSlots(): number {
    return this.lastIndex + 1;
  }

  /** Whether the volume has a record, and so extension entries, owner slots and a ring of changes. */
  get extended(): boolean {
    return this.record !== undefined;
  }

  /** New entries of the log. See `LogReader.poll`. */
  poll(limit?: number): Polled {
    return this.#reader.poll(limit);
  }

  rewind(): void {
    this.#reader.rewind();
  }

  /** What was delivered is all that was published. */
  get caughtUp(): boolean {
    return this.#reader.caughtUp;
  }

  /** Entries that the log's counter counts now. MEMORY_ERROR. */
  published(): number {
    return this.#reader.published();
  }

  /**
   * Calls `onNews` when others have appended to the log or changed files in place: within `intervalMs` where caches
   * agree. What changes neither counter (an entry that was on its way, an owner that vanished) is for a look now and
   * then.
   */
  watch(intervalMs: number, onNews: () => void): Disposable {
    let words = this.#watched();
    let id = 0;
    const open = () => {
      id = native.watchOpen(this.window.id, Float64Array.from(words), intervalMs, this.coherent, news, NO_ECHO);
    };
    const news = () => {
      const now = this.#watched(words);
      if (now.join() !== words.join()) {
        words = now;
        native.watchClose(id);
        open();
      }
      onNews();
    };
    open();
    return { [Symbol.dispose]: () => native.watchClose(id) };
  }

  /**
   * Calls `onRing` soon after the word at `bellAt` became another one, and before that stores it at `heardAt`, also while
   * this thread is busy.
   */
  watchBell(bellAt: number, heardAt: number, onRing: () => void): Disposable {
    const { window, coherent } = this;
    const id = native.watchOpen(window.id, Float64Array.of(bellAt), BELL_INTERVAL_MS, coherent, onRing, heardAt);
    return { [Symbol.dispose]: () => native.watchClose(id) };
  }

  /** Turns at the log, as the node of `slot`; undefined where the store gives them: layout 1 has no lines for asks. */
  turns(slot: number): Turns | undefined {
    if (this.record?.layout !== 2 || !this.window.writable) return undefined;
    return new Turns(this, { asksAt: ASK_LINES_OFFSET, bellAt: bellOffset, slots: OWNER_SLOTS }, slot);
  }

  /** The words that change with news; `otherwise` when the memory does not say. */
  #watched(otherwise?: readonly number[]): readonly number[] {
    const counter = this.logOffset + LOG_NEXT_INDEX_OFFSET;
    if (this.#view === undefined) return this.extended ? [counter, CHANGE_COUNTER_OFFSET] : [counter];
    try {
      return [counter, ...this.#view.words()];
    } catch (error) {
      if (otherwise === undefined) throw error;
      return otherwise; // whoever is told of the news meets the same error
    }
  }

  /** Index of the next entry that `poll` will deliver. */
  get position(): number {
    return this.#reader.position;
  }

  /** Why the log is served up to `position` only; undefined when all of it is. */
  get condition(): Finding | undefined {
    return this.#reader.condition;
  }

  /** A reader of its own position. */
  createReader(): LogReader {
    const { window, logOffset, lastIndex, coherent, extended } = this;
    return new LogReader({ window, logOffset, lastIndex, extended, coherent });
  }

  /** The owner claims as they are now; of a stock volume none. */
  claims(): OwnerClaims {
    if (this.record === undefined) return { claims: [], owner: undefined, highestEpoch: 0, findings: [] };
    const { claims: place, lines } = wordsOf(this, this.record, "");
    const { claims, findings } = place.inspect(this.#load(place.at, place.length));
    const owner = highest(claims, ({ ballot }) => ballot);
    // Of a claim that cannot be read the place line may still say how high it was.
    const ready = lines?.inspect(this.#load(lines.placesAt, lines.placesLength), 0).place;
    const rounds = claims.map(({ ballot }) => ballot.round);
    return { claims, owner, highestEpoch: Math.max(0, ready?.ballot.round ?? 0, ...rounds), findings };
  }

  /** Which volume the memory says it is. */
  #identity(): Inspected<Identity> {
    return inspectIdentity(this.#load(GUARD_OFFSET, IDENTITY_SIZE), 0);
  }

  #load(offset: number, length: number): Uint8Array {
    if (!this.coherent) this.window.invalidate(offset, length);
    return this.window.read(offset, length);
  }

  /**
   * A guard of the identity line alone, for data writes that need no ownership of the log: they fail once the region
   * is given to another volume. Lives as long as this object; 0 for a stock volume.
   */
  regionGuard(): number {
    if (this.record === undefined) return 0;
    // What was there when the volume was opened, not what is there now.
    const { volumeUuid, generation, layout, slots } = this.record;
    const identity = encodeIdentity({ volumeUuid, generation, layout, slots });
    this.#regionGuard ??= native.guardCreate(this.window.id, GUARD_OFFSET, identity, !this.coherent);
    return this.#regionGuard;
  }

  /** The highest epoch that any node recorded here; the next one handed out must be above it. */
  highestEpoch(): number {
    return this.claims().highestEpoch;
  }

  /** Whether the region is still this volume's: false after it was formatted again or erased. */
  isCurrent(): boolean {
    const { record } = this;
    if (record === undefined) return true;
    const { value } = this.#identity();
    return (
      value?.volumeUuid === record.volumeUuid &&
      value.generation === record.generation &&
      value.layout === record.layout
    );
  }

  /** Detail pages of all slots that were ever used. */
  ownerSlots(): { readonly slots: readonly OwnerDetail[]; readonly findings: readonly Finding[] } {
    const slots: OwnerDetail[] = [];
    const findings: Finding[] = [];
    for (let slot = 0; slot < this.writerSlots; slot++) {
      const { value, findings: found } = this.readSlot(slot);
      if (value !== undefined) slots.push(value);
      findings.push(...found);
    }
    return { slots, findings };
  }

  /** Owner slots of nodes that may write. */
  get writerSlots(): number {
    return this.record === undefined ? 0 : pagesOf(this.record).count;
  }

  readSlot(slot: number): Inspected<OwnerDetail> {
    if (this.record === undefined) return { value: undefined, findings: [] };
    const pages = pagesOf(this.record);
    return pages.inspect(this.#load(pages.offset(slot), pages.size), slot);
  }

  /** Ranges that nodes other than that of `ownSlot` hold for unsealed files: the allocator leaves them alone. */
  reservationsOfOthers(ownSlot: number | undefined): Reservations {
    const { slots, findings } = this.ownerSlots();
    const others = slots.filter((page) => page.slot !== ownSlot);
    return { ranges: others.flatMap((page) => page.reserved), findings };
  }

  /**
   * Changes in place since `seen`; undefined begins now. A load or two when nothing changed. `overflow` means that any
   * file may have changed.
   */
  changesSince(seen: ChangesSeen | undefined): ChangesFound {
    if (!this.extended) return { type: "changes", seen: { next: 0 }, changes: [] };
    if (this.#view !== undefined) return this.#view.changesSince(seen);
    if (!this.coherent) this.window.invalidate(CHANGE_COUNTER_OFFSET, 8);
    const counter = this.window.load64(CHANGE_COUNTER_OFFSET);
    const from = seen?.next ?? Number(counter > BigInt(Number.MAX_SAFE_INTEGER) ? 0 : counter);
    if (counter === BigInt(from)) return { type: "changes", seen: { next: from }, changes: [] };
    const reading = readChangeRing(this.#load(CHANGE_RING_OFFSET, CHANGE_RING_SIZE), from);
    const now = { next: reading.next };
    return reading.type === "overflow"
      ? { type: "overflow", seen: now }
      : { type: "changes", seen: now, changes: reading.changes };
  }

  /**
   * Takes the log over for epoch `taker.epoch`, which the store gave to this node. The caller has waited for the old
   * owner's release or the end of its lease. The new owner must `poll` everything before it decides what to append.
   * OWNER_STALE, NOT_SUPPORTED (stock volume), READ_ONLY, LOG_CORRUPT.
   */
  async takeOver(taker: Taker): Promise<LogWriter> {
    return LogWriter.takeOver(this, taker);
  }

  /** Zeroes at most a unit of the volume's data before it returns; holes where `Device.zero` makes them. */
  zeroNow(offset: number, length: number): void {
    const from = roundUp(offset, this.device.zeroAlignBytes);
    const to = roundDown(offset + length, this.device.zeroAlignBytes);
    if (from >= to || !this.device.punchNow(this.region.offset + from, to - from)) {
      this.window.zero(offset, length);
      return;
    }
    this.window.forgetPopulated(from, to - from);
    if (offset < from) this.window.zero(offset, from - offset);
    if (to < offset + length) this.window.zero(to, offset + length - to);
  }

  /** Zeroes a part of the volume's data. See `Device.zero`. */
  async zero(range: Extent, options: Omit<ZeroOptions, "window"> = {}): Promise<void> {
    if (!(range.offset >= this.dataOffset && range.offset + range.length <= this.region.length)) {
      throw new FamfsError(
        "OUT_OF_RANGE",
        `${range.length} bytes at ${range.offset} are not in the data of ${this.window.what}`,
      );
    }
    const window = { window: this.window, offset: range.offset };
    await this.device.zero(this.region.offset + range.offset, range.length, { ...options, window });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#regionGuard !== undefined) native.guardDestroy(this.#regionGuard);
    this.#regionGuard = undefined;
    await this.window[Symbol.asyncDispose]();
  }

  #checkIdentity(record: VolumeRecord): void {
    const { value: identity, findings } = this.#identity();
    if (identity === undefined) {
      throw new FamfsError("VOLUME_RECORD_CORRUPT", findings[0]?.message ?? "identity line: unreadable");
    }
    const same =
      identity.volumeUuid === record.volumeUuid &&
      identity.generation === record.generation &&
      identity.layout === record.layout &&
      identity.slots === record.slots;
    if (same) return;
    throw new FamfsError(
      "VOLUME_RECORD_CORRUPT",
      `identity line of ${identity.volumeUuid} generation ${identity.generation}, ` +
        `volume record of ${record.volumeUuid} generation ${record.generation}`,
    );
  }
}
