import type { NodeMemory } from "./node-memory.ts";

const PAGE = 4096;
/** What a former tenant left behind. */
const FORMER = 0xf0;

/** Memory that costs what was written to it, and that nobody has zeroed before. */
export class SparseBytes implements NodeMemory {
  readonly #pages = new Map<number, Uint8Array>();
  /** Pages that were zeroed as a whole and not written since. */
  readonly #zeroed = new Set<number>();

  read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#pieces(offset, length, (index, start, at, size) => {
      const page = this.#pages.get(index);
      if (page !== undefined) bytes.set(page.subarray(start, start + size), at);
      else if (!this.#zeroed.has(index)) bytes.fill(FORMER, at, at + size);
    });
    return bytes;
  }

  write(offset: number, data: Uint8Array): void {
    this.#pieces(offset, data.byteLength, (index, start, at, size) => {
      this.#page(index).set(data.subarray(at, at + size), start);
    });
  }

  invalidate(): void {}

  evict(): void {}

  zero(offset: number, length: number): void {
    this.#pieces(offset, length, (index, start, _at, size) => {
      if (size < PAGE) this.#page(index).fill(0, start, start + size);
      else {
        this.#pages.delete(index);
        this.#zeroed.add(index);
      }
    });
  }

  #page(index: number): Uint8Array {
    let page = this.#pages.get(index);
    if (page === undefined) {
      page = new Uint8Array(PAGE).fill(this.#zeroed.has(index) ? 0 : FORMER);
      this.#pages.set(index, page);
    }
    return page;
  }

  /** `at`: where the piece begins in [offset, offset + length). */
  #pieces(
    offset: number,
    length: number,
    each: (index: number, start: number, at: number, size: number) => void,
  ): void {
    for (let at = 0; at < length; ) {
      const start = (offset + at) % PAGE;
      const size = Math.min(PAGE - start, length - at);
      each(Math.floor((offset + at) / PAGE), start, at, size);
      at += size;
    }
  }
}
