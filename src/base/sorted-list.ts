/** Items a chunk holds before it is split: a splice in it stays within a few cache lines' worth of moves. */
const CHUNK = 256;

/**
 * Items in the order of `compare`, in chunks, so that a million of them cost a binary search and one short splice per
 * change. No two items may compare equal. `Probe`: what of an item decides its place.
 */
export class SortedList<T extends Probe, Probe = T> {
  readonly #compare: (a: Probe, b: Probe) => number;
  #chunks: T[][] = [];
  #size = 0;

  constructor(compare: (a: Probe, b: Probe) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#size;
  }

  add(item: T): void {
    this.#size++;
    const end = this.#chunks.at(-1);
    const last = end?.at(-1);
    if (end === undefined || last === undefined || this.#compare(last, item) < 0) {
      // Most lists are filled in their order.
      if (end !== undefined && end.length < CHUNK) end.push(item);
      else this.#chunks.push([item]);
      return;
    }
    // The last chunk that begins at or before the item, or the first one.
    const position = Math.max(0, this.#chunkAt(item));
    const chunk = this.#chunks[position] ?? end;
    chunk.splice(this.#lowerBound(chunk, item), 0, item);
    if (chunk.length > CHUNK) this.#chunks.splice(position + 1, 0, chunk.splice(CHUNK >> 1));
  }

  /** False when no item compares equal. */
  delete(item: T): boolean {
    const position = this.#chunkAt(item);
    const chunk = this.#chunks[position];
    if (chunk === undefined) return false;
    const at = this.#lowerBound(chunk, item);
    const found = chunk[at];
    if (found === undefined || this.#compare(found, item) !== 0) return false;
    chunk.splice(at, 1);
    if (chunk.length === 0) this.#chunks.splice(position, 1);
    this.#size--;
    return true;
  }

  /** The first item that is not before `probe`. */
  ceiling(probe: Probe): T | undefined {
    const position = Math.max(0, this.#chunkAt(probe));
    const chunk = this.#chunks[position];
    if (chunk === undefined) return undefined;
    return chunk[this.#lowerBound(chunk, probe)] ?? this.#chunks[position + 1]?.[0];
  }

  /** The last item that is not after `probe`. */
  floor(probe: Probe): T | undefined {
    const chunk = this.#chunks[this.#chunkAt(probe)];
    if (chunk === undefined) return undefined;
    const at = this.#lowerBound(chunk, probe);
    const item = chunk[at];
    return item !== undefined && this.#compare(item, probe) === 0 ? item : chunk[at - 1];
  }

  first(): T | undefined {
    return this.#chunks[0]?.[0];
  }

  last(): T | undefined {
    return this.#chunks.at(-1)?.at(-1);
  }

  /** Descending; the list must not change meanwhile. */
  *reversed(): Generator<T> {
    for (let position = this.#chunks.length - 1; position >= 0; position--) {
      const chunk = this.#chunks[position] ?? [];
      for (let at = chunk.length - 1; at >= 0; at--) yield chunk[at] as T;
    }
  }

  /** Ascending, from the first item that is not before `probe`; the list must not change meanwhile. */
  *from(probe: Probe): Generator<T> {
    let position = Math.max(0, this.#chunkAt(probe));
    let at = this.#lowerBound(this.#chunks[position] ?? [], probe);
    for (; position < this.#chunks.length; position++, at = 0) {
      const chunk = this.#chunks[position] ?? [];
      for (; at < chunk.length; at++) yield chunk[at] as T;
    }
  }

  *[Symbol.iterator](): Generator<T> {
    for (const chunk of this.#chunks) yield* chunk;
  }

  /** Position of the last chunk whose first item is not after `probe`; -1 when there is none. */
  #chunkAt(probe: Probe): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const first = this.#chunks[middle]?.[0];
      if (first !== undefined && this.#compare(first, probe) <= 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #lowerBound(chunk: readonly T[], probe: Probe): number {
    let low = 0;
    let high = chunk.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(chunk[middle] as T, probe) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
