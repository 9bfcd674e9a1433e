/** Calls of log.c: appending to a log, and the guard that every append and every data write checks. */
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
   * One append: check the guard; write `entries` (whole entries of 544 bytes, with their CRCs) at slot `index` of the
   * log at `logOffset`, the first one last; flush, fence; both counters to `index + count`, flush, fence; check
   * again (design 4). Returns "appended"; "stale" when the guard failed before anything was written; "unknown" when
   * it or the memory failed after the counters were stored: whether readers see the entries is for the successor to
   * decide. Throws before that: EIO (nothing is published), ERANGE, EROFS, EBADF.
   */
  logAppend(
    window: number,
    logOffset: number,
    guard: number,
    index: number,
    entries: Uint8Array,
  ): "appended" | "stale" | "unknown";
}
