import type { NodeMemory } from "./node-memory.ts";

const PAGE = 4096;

/** Memory that costs what was written to it. */
export class SparseBytes implements NodeMemory {
  readonly #pages = new Map<number, Uint8Array>();

  read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#pieces(offset, length, (index, start, at, size) => {
      const page = this.#pages.get(index);
      if (page !== undefined) bytes.set(page.subarray(start, start + size), at);
    });
    return bytes;
  }

  write(offset: number, data: Uint8Array): void {
    this.#pieces(offset, data.byteLength, (index, start, at, size) => {
      const page = this.#pages.get(index) ?? new Uint8Array(PAGE);
      page.set(data.subarray(at, at + size), start);
      this.#pages.set(index, page);
    });
  }

  invalidate(): void {}

  evict(): void {}

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

  zero(offset: number, length: number): void {
    const end = offset + length;
    for (const [index, page] of this.#pages) {
      const start = index * PAGE;
      if (start + PAGE <= offset || start >= end) continue;
      page.fill(0, Math.max(0, offset - start), Math.min(PAGE, end - start));
    }
  }
}
