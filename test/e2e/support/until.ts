import { setTimeout as sleep } from "node:timers/promises";

export interface UntilOptions {
  readonly timeoutMs?: number;
  readonly periodMs?: number;
}

/**
 * The first answer of `ask` that is neither undefined nor false. Throws when there is none in time, with the error of
 * the last try, if it ended with one.
 */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
  { timeoutMs = 30_000, periodMs = 100 }: UntilOptions = {},
): Promise<T> {
  for (const deadline = performance.now() + timeoutMs; ; ) {
    let cause: unknown;
    try {
      const answer = await ask();
      if (answer !== undefined && answer !== false) return answer;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs / 1000} s: ${what}`, { cause });
    await sleep(periodMs);
  }
}
