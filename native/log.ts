/** Calls of log.c: appending to a log, and the guard that every append and every data write checks. */
export interface LogCalls {
  /**
   * Remembers bytes [offset, offset + expected.length) of `window` as what must still be there: the volume's
   * identity line and its owner claims. Returns the guard's id, valid in every thread, never 0.
   */
  guardCreate(window: number, offset: number, expected: Uint8Array): number;
  /** Replaces what is expected (after this node read and judged the new claims itself). */
  guardUpdate(guard: number, expected: Uint8Array): void;
  guardDestroy(guard: number): void;
  /** True when the memory still holds what is expected. */
  guardHolds(guard: number): boolean;
  /**
   * One append (design: check, entries, flush, fence, counters, flush, fence, check again): writes `entries`
   * (whole 544-byte entries) at slot `index` of the log at `logOffset`, then both counters to
   * `index + count`. Returns "appended"; "stale" when the guard failed before anything was written; "unknown"
   * when it failed only afterwards (whether readers will see the entries is for the successor to decide).
   */
  logAppend(
    window: number,
    logOffset: number,
    guard: number,
    index: number,
    entries: Uint8Array,
  ): "appended" | "stale" | "unknown";
}
