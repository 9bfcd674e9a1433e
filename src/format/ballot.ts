/** Which of two claims is later. No two takers ever have the same: each has a slot of its own. */
export interface Ballot {
  /** Raised by the store alone, when a right to write is withdrawn by force. */
  readonly order: number;
  /** One above every round that the taker has seen. */
  readonly round: number;
  readonly slot: number;
}

/** Below 0: `a` is the earlier one; 0: they are the same. */
export function compareBallots(a: Ballot, b: Ballot): number {
  return a.order - b.order || a.round - b.round || a.slot - b.slot;
}

/** The latest of what `lines` say; undefined of none. */
export function highest<T>(lines: readonly T[], ballotOf: (line: T) => Ballot): T | undefined {
  let found: T | undefined;
  for (const line of lines)
    if (found === undefined || compareBallots(ballotOf(line), ballotOf(found)) > 0) found = line;
  return found;
}
