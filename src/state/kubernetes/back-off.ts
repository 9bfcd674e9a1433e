const FIRST_MS = 100;
const LONGEST_MS = 5_000;

/** How long to wait before attempt `attempt` + 1: doubling, with jitter so that the nodes do not come all at once. */
export function jitteredDelayMs(attempt: number, random: () => number = Math.random): number {
  return Math.min(FIRST_MS * 2 ** Math.min(attempt, 16), LONGEST_MS) * (0.5 + random() / 2);
}
