/** Calls of watch.c. */
export interface WatchCalls {
  /**
   * Calls `onNews` on this thread soon after one of the words (up to four, at multiples of eight) of `window` changed,
   * once for all that changed until it runs, and when they can no longer be read. They are looked at every
   * `intervalMs`, somewhat less often when nothing changes (the first one the most); without `coherent` past the
   * caches, and less often when that takes long. Does not keep the event loop alive. Returns the watch.
   *
   * `echoAt`, unless it is -1: where the first word is stored when something changed, whatever this thread does.
   */
  watchOpen(
    window: number,
    offsets: Float64Array,
    intervalMs: number,
    coherent: boolean,
    onNews: () => void,
    echoAt: number,
  ): number;
  watchClose(watch: number): void;
}
