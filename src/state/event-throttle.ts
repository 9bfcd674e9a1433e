/** A key that is silent for this long is forgotten: the next one is news again. */
const FORGET_MS = 10 * 60_000;
/** How often a count that grows is told. */
const TELL_MS = 60_000;
/** Different texts under one key within this time, and how fast the right to more comes back. */
const BURST = 5;
const REFILL_MS = 60_000;
/** A process that meets more keys than this within FORGET_MS has other problems; the oldest are forgotten. */
const MOST_KEYS = 1_000;

export type Verdict =
  /** News. */
  | { readonly type: "first" }
  /** As before, `count` times by now: worth telling that it goes on. */
  | { readonly type: "again"; readonly count: number }
  /** Counted, that is all. */
  | { readonly type: "counted" }
  /** Too many different texts under this key. */
  | { readonly type: "dropped" };

interface Seen {
  text: string;
  count: number;
  lastAt: number;
  toldAt: number;
  tokens: number;
  refilledAt: number;
}

/** Keeps somebody who notices the same thing every second from telling it every second. */
export class EventThrottle {
  readonly #seen = new Map<string, Seen>();
  readonly #now: () => number;

  /** `now`: monotonic milliseconds; only tests give another one. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** What to do with one more event of `key`: a reason and an object. */
  admit(key: string, text: string): Verdict {
    const now = this.#now();
    let seen = this.#seen.get(key);
    // Kept in the order of their last occurrence.
    this.#seen.delete(key);
    if (seen === undefined || now - seen.lastAt > FORGET_MS) {
      seen = { text: "", count: 0, lastAt: now, toldAt: now, tokens: BURST, refilledAt: now };
    }
    this.#seen.set(key, seen);
    this.#forgetOldest();
    seen.lastAt = now;
    if (seen.count > 0 && seen.text === text) {
      seen.count++;
      if (now - seen.toldAt < TELL_MS) return { type: "counted" };
      seen.toldAt = now;
      return { type: "again", count: seen.count };
    }
    const refilled = Math.floor((now - seen.refilledAt) / REFILL_MS);
    seen.tokens = Math.min(BURST, seen.tokens + refilled);
    seen.refilledAt += refilled * REFILL_MS;
    if (seen.tokens === 0) return { type: "dropped" };
    seen.tokens--;
    seen.text = text;
    seen.count = 1;
    seen.toldAt = now;
    return { type: "first" };
  }

  #forgetOldest(): void {
    for (const key of this.#seen.keys()) {
      if (this.#seen.size <= MOST_KEYS) return;
      this.#seen.delete(key);
    }
  }
}
