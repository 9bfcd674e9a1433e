import { FILLER_RUN, type FillerEntry } from "./log-entry.ts";

/** A filler where it lies in the log. */
export interface PlacedFiller {
  readonly index: number;
  readonly filler: FillerEntry;
}

/** Whether `index` is in the run that `filler` names. */
export function isInRun(index: number, filler: FillerEntry): boolean {
  return index >= filler.first && index < filler.first + filler.run;
}

/**
 * Indexes whose entry is not applied, whatever lies there, each with a filler that says so. `fillers` are in order of
 * index. A filler counts for its run when it lies in it; it does not when it lies in a run that begins later, because
 * then it was stored late by a taker that had lost the log in turn: a later taker finds the end of the log where the
 * former one found it, or behind that.
 */
export function entriesInRuns(fillers: readonly PlacedFiller[]): Map<number, FillerEntry> {
  const runs = new Map<number, FillerEntry>();
  for (const [position, { index, filler }] of fillers.entries()) {
    if (!isInRun(index, filler)) continue;
    // A run is short, so those that can outbid this one are near.
    const near = fillers.slice(Math.max(0, position - FILLER_RUN), position + FILLER_RUN);
    const outbid = near.some((other) => other.filler.first > filler.first && isInRun(index, other.filler));
    if (outbid) continue;
    for (let at = filler.first; at < filler.first + filler.run; at++) runs.set(at, filler);
  }
  for (const { index, filler } of fillers) runs.set(index, filler);
  return runs;
}
