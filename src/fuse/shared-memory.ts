/**
 * The memory that main thread and workers share: file handles, file maps, layouts and what each worker is doing.
 * Only the main thread makes and ends things; workers read, extend sizes and note times of writes.
 *
 * The arrays are reserved at their largest size; pages of a SharedArrayBuffer cost memory only once they are touched
 * (measured: 256 MiB reserved add 0.3 MiB), so the tables grow without moving under the workers.
 */
import { ERRNO } from "./errno.ts";
import type { SharedBuffers } from "./worker-data.ts";

/** Words of a handle record, in 32-bit units. Fields are written before `generation`, which publishes them. */
export const HANDLE = { generation: 0, connection: 1, map: 2, mapGeneration: 3, flags: 4, words: 8 } as const;
export const HANDLE_FLAG = {
  /** WRITE is allowed. */
  writable: 1,
  /** The file has set-id bits: a WRITE that must remove them goes to the main thread. */
  setId: 2,
} as const;

/** Words of a map record. `size`, `lastWriteMs` and `filled` are 64-bit cells, at even words. */
export const MAP = {
  generation: 0,
  state: 1,
  window: 2,
  guard: 3,
  layout: 4,
  size: 6,
  lastWriteMs: 8,
  filled: 10,
  words: 12,
} as const;
export const MAP_STATE = { sealed: 1, paused: 2 } as const;

/**
 * A layout is a block of doubles that never changes once a map names it: a new one takes its place, and the old one
 * is freed when no worker uses the map any more.
 */
export const LAYOUT = { capacity: 0, chunkSize: 1, count: 2, extents: 3 } as const;

/** Per worker: the map it is reading or writing now (index + 1, 0 = none), and how many requests it has ended. */
export const ACTIVITY = { map: 0, ended: 1, words: 16 } as const; // one cache line each
/** Errors of READ and WRITE that have a cell of their own; the cell behind them counts all others. */
export const WORKER_ERRNOS: readonly number[] = [ERRNO.EIO, ERRNO.EBADF, ERRNO.EINVAL, ERRNO.ENOENT, ERRNO.ENODEV];
/** Per worker and connection slot: requests, bytes and errors of READ and WRITE, then the errors of both by errno. */
export const COUNTER = {
  reads: 0,
  readBytes: 1,
  readErrors: 2,
  writes: 3,
  writeBytes: 4,
  writeErrors: 5,
  errnos: 6,
  words: 16, // two cache lines
} as const;

export const MAX_HANDLES = 1 << 20;
export const MAX_MAPS = 1 << 20;
const MAX_LAYOUT_DOUBLES = 1 << 25;
/** As in native/fuse.c: a connection's slot is its number modulo this. */
export const MAX_CONNECTIONS = 4096;

/** Views of the shared buffers; each thread makes its own. */
export class SharedMemory {
  readonly buffers: SharedBuffers;
  readonly handles: Int32Array;
  readonly maps: Int32Array;
  /** The same memory as `maps`, for the 64-bit cells. */
  readonly mapCells: BigInt64Array;
  readonly mapDoubles: Float64Array;
  readonly layouts: Float64Array;
  readonly activity: Int32Array;
  readonly counters: Float64Array;
  /** [0] = 1: workers stop. */
  readonly control: Int32Array;

  constructor(buffers: SharedBuffers) {
    this.buffers = buffers;
    this.handles = new Int32Array(buffers.handles);
    this.maps = new Int32Array(buffers.maps);
    this.mapCells = new BigInt64Array(buffers.maps);
    this.mapDoubles = new Float64Array(buffers.maps);
    this.layouts = new Float64Array(buffers.layouts);
    this.activity = new Int32Array(buffers.activity);
    this.counters = new Float64Array(buffers.counters);
    this.control = new Int32Array(buffers.control);
  }

  static allocate(workers: number): SharedMemory {
    return new SharedMemory({
      handles: new SharedArrayBuffer(MAX_HANDLES * HANDLE.words * 4),
      maps: new SharedArrayBuffer(MAX_MAPS * MAP.words * 4),
      layouts: new SharedArrayBuffer(MAX_LAYOUT_DOUBLES * 8),
      activity: new SharedArrayBuffer(workers * ACTIVITY.words * 4),
      counters: new SharedArrayBuffer(workers * MAX_CONNECTIONS * COUNTER.words * 8),
      control: new SharedArrayBuffer(64),
    });
  }

  get workers(): number {
    return this.activity.length / ACTIVITY.words;
  }

  /**
   * Bytes of the map a reader may see. Read as two words, without a bigint: while a worker extends the file over a
   * multiple of 4 GiB, the high word tells that the low one is of another size.
   */
  size(map: number): number {
    return this.#u64(map * MAP.words + MAP.size);
  }

  /** Bytes from the start that were written or zeroed. Behind it lies what the memory held before. */
  filled(map: number): number {
    return this.#u64(map * MAP.words + MAP.filled);
  }

  #u64(cell: number): number {
    for (;;) {
      const high = Atomics.load(this.maps, cell + 1);
      const low = Atomics.load(this.maps, cell) >>> 0;
      if (Atomics.load(this.maps, cell + 1) === high) return high * 2 ** 32 + low;
    }
  }

  setSize(map: number, size: number): void {
    Atomics.store(this.mapCells, (map * MAP.words + MAP.size) / 2, BigInt(size));
  }

  setFilled(map: number, bytes: number): void {
    Atomics.store(this.mapCells, (map * MAP.words + MAP.filled) / 2, BigInt(bytes));
  }

  /**
   * After the bytes up to `end` were written, which began no later than where the map was filled: raises the two
   * marks unless they are higher already, the size last, since it is what readers go by.
   */
  extend(map: number, end: number): void {
    if (end > this.filled(map)) this.#raise((map * MAP.words + MAP.filled) / 2, end);
    if (end > this.size(map)) this.#raise((map * MAP.words + MAP.size) / 2, end);
  }

  #raise(cell: number, end: number): void {
    for (;;) {
      const seen = Atomics.load(this.mapCells, cell);
      if (Number(seen) >= end || Atomics.compareExchange(this.mapCells, cell, seen, BigInt(end)) === seen) return;
    }
  }

  isSealed(map: number): boolean {
    return (Atomics.load(this.maps, map * MAP.words + MAP.state) & MAP_STATE.sealed) !== 0;
  }

  /**
   * Whether [offset, end) may be written without asking: within the size of a sealed file; otherwise within the
   * capacity, and without leaving a gap of bytes that nobody has written or zeroed.
   */
  mayWrite(map: number, offset: number, end: number): boolean {
    if (this.isSealed(map)) return end <= this.size(map);
    const layout = Atomics.load(this.maps, map * MAP.words + MAP.layout);
    return end <= (this.layouts[layout + LAYOUT.capacity] ?? 0) && offset <= this.filled(map);
  }

  /**
   * Where file bytes [offset, offset + length) are in the window: fills `segments` with pairs (offset, length).
   * Returns how many, -1 when the layout does not hold these bytes or there are too many pieces.
   */
  locate(map: number, offset: number, length: number, segments: Float64Array): number {
    const block = Atomics.load(this.maps, map * MAP.words + MAP.layout);
    return (this.layouts[block + LAYOUT.chunkSize] ?? 0) > 0
      ? this.#locateInterleaved(block, offset, length, segments)
      : this.#locateSimple(block, offset, length, segments);
  }

  #locateSimple(block: number, offset: number, length: number, segments: Float64Array): number {
    const layouts = this.layouts;
    const count = layouts[block + LAYOUT.count] as number;
    let used = 0;
    let skip = offset;
    let left = length;
    for (let index = 0; index < count && left > 0; index++) {
      const extent = block + LAYOUT.extents + 2 * index;
      const extentLength = layouts[extent + 1] as number;
      if (skip >= extentLength) {
        skip -= extentLength;
        continue;
      }
      const piece = Math.min(left, extentLength - skip);
      if (2 * used + 2 > segments.length) return -1;
      segments[2 * used] = (layouts[extent] as number) + skip;
      segments[2 * used + 1] = piece;
      used++;
      left -= piece;
      skip = 0;
    }
    return left === 0 ? used : -1;
  }

  // Chunk c lies on strip c mod n, as the (c div n)-th chunk there (format 6.5).
  #locateInterleaved(block: number, offset: number, length: number, segments: Float64Array): number {
    const layouts = this.layouts;
    const chunkSize = layouts[block + LAYOUT.chunkSize] as number;
    const count = layouts[block + LAYOUT.count] as number;
    let used = 0;
    let position = offset;
    const end = offset + length;
    while (position < end) {
      const chunk = Math.floor(position / chunkSize);
      const within = position - chunk * chunkSize;
      const strip = block + LAYOUT.extents + 2 * (chunk % count);
      const stripOffset = Math.floor(chunk / count) * chunkSize + within;
      const piece = Math.min(end - position, chunkSize - within);
      if (2 * used + 2 > segments.length || stripOffset + piece > (layouts[strip + 1] as number)) return -1;
      segments[2 * used] = (layouts[strip] as number) + stripOffset;
      segments[2 * used + 1] = piece;
      used++;
      position += piece;
    }
    return used;
  }
}
