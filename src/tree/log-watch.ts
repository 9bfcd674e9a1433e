import { hasCode, messageOf } from "../base/index.ts";
import type { ChangeFeed } from "./change-feed.ts";
import type { TreeContext } from "./context.ts";
import type { TreeCondition } from "./ports.ts";

/** Looks at the log without a reason to: memory errors, space that is free now, counters that went back and forth. */
const LOOK_MS = 2000;
const LOOK_AS_WRITER_MS = 50;

/** Keeps a tree up to its log. */
export class LogWatch implements Disposable {
  readonly #ctx: TreeContext;
  readonly #feed: ChangeFeed;
  /** Told each time something is seen to be wrong. */
  readonly #wrong: (condition: TreeCondition) => void;
  #news: Disposable | undefined;
  #next: Disposable | undefined;
  #closed = false;

  constructor(ctx: TreeContext, feed: ChangeFeed, wrong: (condition: TreeCondition) => void) {
    this.#ctx = ctx;
    this.#feed = feed;
    this.#wrong = wrong;
  }

  /**
   * Looks at the log within `intervalMs` of what others append to it, at a long one slice by slice, and now and then in
   * any case, until it is disposed of.
   */
  start(intervalMs: number): void {
    const { log, clock, onCondition } = this.#ctx.options;
    let said: TreeCondition | undefined;
    const look = () => {
      if (this.#closed) return;
      this.#next?.[Symbol.dispose]();
      const { more, wrong } = this.#look();
      if (wrong !== undefined) this.#wrong(wrong);
      else if (said !== undefined && !more) onCondition?.(this.#feed.condition);
      if (!more) said = wrong;
      this.#next = clock.schedule(more ? 0 : this.#lookAgainMs(intervalMs), look);
    };
    this.#news = log.watch(intervalMs, look);
    this.#next = clock.schedule(this.#lookAgainMs(intervalMs), look);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#news?.[Symbol.dispose]();
    this.#next?.[Symbol.dispose]();
  }

  /** Brings the tree up to the log; entries applied. */
  poll(): number {
    const applied = this.#feed.poll();
    this.#looked();
    return applied;
  }

  /** `poll` with pauses, for a log of any length. */
  async catchUp(): Promise<void> {
    await this.#feed.catchUp();
    this.#looked();
  }

  /**
   * When to look though nothing was said: soon for entries on their way, or while this node has an ownership to lose.
   */
  #lookAgainMs(intervalMs: number): number {
    if (this.#feed.isBehind) return intervalMs;
    return Math.max(intervalMs, this.#ctx.ownership.writer === undefined ? LOOK_MS : LOOK_AS_WRITER_MS);
  }

  /** One slice of the log. `wrong`: what it shows to be wrong. */
  #look(): { readonly more: boolean; readonly wrong: TreeCondition | undefined } {
    try {
      const { more } = this.#feed.step();
      this.#looked();
      const bad = this.#ctx.options.memory.reportedBad();
      if (bad === undefined) return { more, wrong: undefined };
      const message = `the kernel reports bad memory at byte ${bad} of the volume: what lies there answers EIO`;
      return { more, wrong: { code: "MEMORY_ERROR", message } };
    } catch (error) {
      const wrong: TreeCondition = hasCode(error, "MEMORY_ERROR")
        ? { code: "MEMORY_ERROR", message: `the log cannot be read: ${messageOf(error)}` }
        : { code: "INTERNAL", message: `what is in the log cannot be served: ${messageOf(error)}` };
      return { more: false, wrong };
    }
  }

  #looked(): void {
    this.#ctx.ownership.verify();
    this.#ctx.space.reclaim();
  }
}
