const PAGE = 4096;

/** Memory that costs what was written to it. */
export class SparseBytes {
  readonly #pages = new Map<number, Uint8Array>();

  get(offset: number): number {
    return this.#pages.get(Math.floor(offset / PAGE))?.[offset % PAGE] ?? 0;
  }

  set(offset: number, value: number): void {
    const index = Math.floor(offset / PAGE);
    let page = this.#pages.get(index);
    if (page === undefined) {
      page = new Uint8Array(PAGE);
      this.#pages.set(index, page);
    }
    page[offset % PAGE] = value;
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
