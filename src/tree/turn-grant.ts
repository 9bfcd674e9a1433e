import { FamfsError, hasCode, type Logger, unlessAborted } from "../base/index.ts";
import type { Ask } from "../format/index.ts";
import type { Holder, LogWriter as MediaWriter, Turns } from "../media/index.ts";
import type { Clock, LogWriter, WriterGrant } from "./ports.ts";

export interface TurnGrantOptions {
  readonly turns: Pick<
    Turns,
    "slot" | "holder" | "waiting" | "ask" | "askAgain" | "withdraw" | "heardBy" | "handOn" | "watch"
  >;
  /** Claims the log and takes it over. OWNER_STALE when another node was quicker. */
  readonly takeOver: () => Promise<MediaWriter>;
  readonly writerOf: (writer: MediaWriter) => LogWriter;
  /** Another node waits: give the log up when that is possible, at the latest when `signal` is aborted. */
  readonly giveWay: (signal: AbortSignal) => Promise<unknown>;
  /** Whether the node of `slot` may write no more, as far as can be known: it is not waited for. */
  readonly isStruck: (slot: number) => Promise<boolean>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long a holder may be silent; only tests give another one. */
  readonly silenceMs?: number;
}

const SILENCE_MS = 3000;
/** For each node that was there before. */
const PLACE_MS = 1000;
/** A ring that was missed is made up for then. */
const LOOK_MS = 1000;
/** The store is asked about a holder that keeps the log for so long, and again then: never in a turn. */
const STRUCK_MS = 1000;

/**
 * Turns at the log through the memory alone: a waiter asks there, the holder gives the log to the next one, and one that
 * says nothing for as long as takers wait is taken over. Nothing here asks the store, but whether a holder that keeps the
 * log has lost the right to.
 */
export class TurnGrant implements WriterGrant {
  readonly #options: Required<TurnGrantOptions>;
  readonly #watch: Disposable;
  #current: MediaWriter | undefined;
  /** Those that wait here for a ring. */
  #rung = Promise.withResolvers<void>();
  #givingWay: AbortController | undefined;
  #next: Disposable | undefined;
  /** Asks of nodes that were given the log and did not take it: number by slot. */
  readonly #passedOver = new Map<number, number>();
  #closed = false;

  constructor(options: TurnGrantOptions) {
    this.#options = { silenceMs: SILENCE_MS, ...options };
    this.#watch = options.turns.watch(() => this.#hear());
  }

  async acquire({
    timeoutMs,
    signal,
  }: {
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  }): Promise<LogWriter> {
    const { clock, turns, writerOf } = this.#options;
    const until = clock.monotonicMs() + timeoutMs;
    const wait = new Wait(this.#options, (ask) => this.#passedOver.get(ask.slot) === ask.number);
    try {
      for (;;) {
        signal.throwIfAborted();
        const rung = this.#rung.promise;
        const holder = turns.holder();
        const nowMs = clock.monotonicMs();
        if (wait.mayTake(holder, nowMs)) {
          const writer = await this.#tryTakeOver();
          if (writer !== undefined) {
            this.#tookFrom(holder);
            this.#current = writer;
            this.#hear();
            return writerOf(writer);
          }
        }
        if (nowMs >= until) throw busy(holder, timeoutMs);
        await this.#untilRung(rung, Math.min(until - nowMs, wait.lookAgainMs), signal);
      }
    } finally {
      wait.end();
    }
  }

  async release(): Promise<void> {
    const writer = this.#current;
    this.#current = undefined;
    this.#next?.[Symbol.dispose]();
    if (writer === undefined) return;
    try {
      const skips = (ask: Ask) => this.#passedOver.get(ask.slot) === ask.number;
      this.#options.turns.handOn((successor) => writer.release(successor), skips);
    } finally {
      await writer[Symbol.asyncDispose]();
    }
  }

  close(): void {
    this.#closed = true;
    this.#watch[Symbol.dispose]();
    this.#next?.[Symbol.dispose]();
    this.#givingWay?.abort();
  }

  /** Something was said, or it is time to look. Waiters here look by themselves. */
  #hear(): void {
    const { turns, clock, logger } = this.#options;
    this.#rung.resolve();
    this.#rung = Promise.withResolvers();
    this.#next?.[Symbol.dispose]();
    if (this.#current === undefined || this.#closed) return;
    this.#next = clock.schedule(LOOK_MS, () => this.#hear());
    try {
      const others = turns
        .waiting()
        .some(({ slot, number }) => slot !== turns.slot && this.#passedOver.get(slot) !== number);
      if (others) this.#giveWay();
      else this.#givingWay?.abort();
    } catch (error) {
      logger.debug({ err: error }, "nobody is seen to wait for the log");
    }
  }

  #giveWay(): void {
    if (this.#givingWay !== undefined) return;
    const stop = new AbortController();
    this.#givingWay = stop;
    const { giveWay, logger } = this.#options;
    void giveWay(stop.signal)
      .catch((error: unknown) => logger.warn({ err: error }, "handing the log over failed"))
      .finally(() => {
        this.#givingWay = undefined;
      });
  }

  async #tryTakeOver(): Promise<MediaWriter | undefined> {
    try {
      return await this.#options.takeOver();
    } catch (error) {
      if (hasCode(error, "OWNER_STALE")) return undefined;
      throw error;
    }
  }

  /** What was given to another node was not taken by it. */
  #tookFrom(holder: Holder | undefined): void {
    const successor = holder?.successor;
    if (successor !== undefined && successor.slot !== this.#options.turns.slot) {
      this.#passedOver.set(successor.slot, successor.ask);
    }
  }

  async #untilRung(rung: Promise<void>, delayMs: number, signal: AbortSignal): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<void>();
    using _timer = this.#options.clock.schedule(Math.max(1, delayMs), resolve);
    await unlessAborted(Promise.race([rung, late]), signal);
  }
}

/** One wait for the log: what was asked, and since when what is seen is so. */
class Wait {
  readonly #options: Required<TurnGrantOptions>;
  readonly #skips: (ask: Ask) => boolean;
  #ask: Ask | undefined;
  /** The claim that was seen last. */
  #claim = "";
  #claimMs = 0;
  /** When its node was asked. */
  #sinceMs = 0;
  /** What its node had heard then. */
  #heard = 0n;
  #struckAskedMs = 0;
  /** The claim of a node that may write no more. */
  #struck: string | undefined;
  /** When to look though nobody rings. */
  lookAgainMs = PLACE_MS;

  constructor(options: Required<TurnGrantOptions>, skips: (ask: Ask) => boolean) {
    this.#options = options;
    this.#skips = skips;
  }

  /** Whether the log is this node's to take now; asks for it where it is not. */
  mayTake(holder: Holder | undefined, nowMs: number): boolean {
    const { turns, silenceMs } = this.#options;
    if (holder === undefined || holder.slot === turns.slot) return true;
    const { released, successor } = holder;
    if (released && successor?.slot === turns.slot) return true;
    const before = this.#before();
    if (released && successor === undefined && before === 0) return true;
    if (holder.claim !== this.#claim || this.#ask === undefined) {
      this.#claim = holder.claim;
      this.#claimMs = nowMs;
      this.#since(holder, nowMs);
    }
    if (released) {
      // It was given to another node, or to none: those that came first take it first.
      const dueMs = PLACE_MS * (before + (successor === undefined ? 0 : 1)) - (nowMs - this.#sinceMs);
      this.lookAgainMs = Math.min(PLACE_MS, dueMs);
      return dueMs <= 0;
    }
    if (this.#struck === holder.claim) return true;
    this.#askStore(holder, nowMs);
    const dueMs = silenceMs + PLACE_MS * before - (nowMs - this.#sinceMs);
    const isSilent = turns.heardBy(holder.slot) === this.#heard;
    if (dueMs <= 0 && !isSilent) this.#since(holder, nowMs); // it was there: is it still?
    this.lookAgainMs = dueMs <= 0 ? PLACE_MS : Math.min(PLACE_MS, dueMs);
    return dueMs <= 0 && isSilent;
  }

  /** Leaves the queue. */
  end(): void {
    if (this.#ask === undefined) return;
    try {
      this.#options.turns.withdraw(this.#ask);
    } catch (error) {
      this.#options.logger.debug({ err: error }, "this node still counts as one that waits for the log");
    }
  }

  /** From now on the holder has to hear this node. */
  #since(holder: Holder, nowMs: number): void {
    const { turns } = this.#options;
    this.#sinceMs = nowMs;
    this.#heard = turns.heardBy(holder.slot);
    this.#ask = this.#ask === undefined ? turns.ask() : turns.askAgain(this.#ask);
  }

  /** Nodes that were there before this one. */
  #before(): number {
    const { turns } = this.#options;
    const waiting = turns.waiting().filter((ask) => ask.slot === turns.slot || !this.#skips(ask));
    const place = waiting.findIndex(({ slot }) => slot === turns.slot);
    return place < 0 || this.#ask === undefined ? waiting.filter(({ slot }) => slot !== turns.slot).length : place;
  }

  #askStore({ slot, claim }: Holder, nowMs: number): void {
    if (nowMs - Math.max(this.#struckAskedMs, this.#claimMs) < STRUCK_MS) return;
    this.#struckAskedMs = nowMs;
    this.#options.isStruck(slot).then(
      (isStruck) => {
        if (isStruck) this.#struck = claim;
      },
      (error: unknown) => this.#options.logger.debug({ err: error }, "the store does not say whether a node may write"),
    );
  }
}

function busy(holder: Holder | undefined, timeoutMs: number): FamfsError {
  const waited = Math.round(timeoutMs);
  const message = `the node of owner slot ${holder?.slot} kept the log for ${waited} ms; try again`;
  return new FamfsError("OWNER_BUSY", message, { details: { nodeId: "" } });
}
