/** Calls of log.c: the guard that every append and every data write compares, and the steps of an append. */
export interface LogCalls {
  /**
   * Remembers bytes [offset, offset + expected.length) of `window` as what must still be there: the volume's
   * identity line and its owner claims. With `invalidate` each check first drops the range from the caches, for
   * pools whose hosts are not coherent. Returns the guard's id, valid in every thread, never 0.
   */
  guardCreate(window: number, offset: number, expected: Uint8Array, invalidate: boolean): number;
  /** Replaces what is expected (after this node read and judged the new claims itself). */
  guardUpdate(guard: number, expected: Uint8Array): void;
  guardDestroy(guard: number): void;
  /** True when the memory still holds what is expected. */
  guardHolds(guard: number): boolean;
  /**
   * Carries out `steps`, four numbers each: 0 look (compares the guard), 1 store (offset in the window, offset in
   * `bytes`, length), 2 store of eight aligned bytes (offset, value), 3 flush (offset, length), 4 fence, 5 store of
   * one value into two eights, sixteen aligned bytes at once (offset, value). Answers how many
   * were done: fewer than there are when the next one is a look that failed. Throws EIO, ERANGE, EROFS, EBADF, EINVAL;
   * the error's `done` says how many were.
   */
  planRun(window: number, guard: number, steps: Float64Array, bytes: Uint8Array): number;
}
