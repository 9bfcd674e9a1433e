import { FamfsError, hasCode, type Logger, type RequestContext, unlessAborted } from "../base/index.ts";
import type { Clock, LogWriter, WriterGrant } from "./ports.ts";

export interface OwnershipEvents {
  /** Nobody else appends any more: read the log to where `writer` goes on; the kernel forgets what is no longer so. */
  readonly catchUp: (writer: LogWriter) => Promise<void>;
  /** This node is owner: make the space. Throws when that fails. */
  readonly gained: (writer: LogWriter) => void;
  /** Seal what can be sealed, before `writer` is released. */
  readonly yielding: (options: { readonly forced: boolean }) => Promise<void>;
  /** Gone in good order. */
  readonly yielded: () => void;
  /** Another node took over, or a lease ran out: nothing of this node is logged any more. */
  readonly lost: (error: FamfsError) => void;
  /** Handles that keep the grant. */
  readonly isBusy: () => boolean;
}

export interface OwnershipOptions {
  readonly grant: WriterGrant;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: OwnershipEvents;
  /** Least time to keep the grant while it is used, so that two busy nodes do not only hand it to and fro. */
  readonly minimumHoldMs: number;
}

/** A holder that nobody asked for the log for so long has no work: a program that goes from file to file asks sooner. */
const IDLE_MS = 10;

type Phase =
  | { readonly name: "none" }
  | { readonly name: "acquiring"; readonly promise: Promise<LogWriter> }
  | { readonly name: "held"; readonly writer: LogWriter; readonly sinceMs: number }
  | { readonly name: "yielding"; readonly writer: LogWriter; readonly done: Promise<void> }
  /** Lost; the grant is being given back. Asked for before that is done, the new one would be given back, too. */
  | { readonly name: "releasing"; readonly done: Promise<void> };

/**
 * Whether this node may change the volume (design 6): the grant is taken on demand, kept, and given up when another
 * node waits and no file is open for write here.
 */
export class Ownership {
  readonly #options: OwnershipOptions;
  readonly #closing = new AbortController();
  #phase: Phase = { name: "none" };
  #stalled: PromiseWithResolvers<void> | undefined;
  /** Operations that began with the grant and have not ended. */
  #working = 0;
  /** When one last did. */
  #usedMs = 0;
  #wanted: { readonly check: () => void } | undefined;

  constructor(options: OwnershipOptions) {
    this.#options = options;
  }

  /** Waits until the lease is renewed, at most as long as an operation may wait. */
  setStalled(stalled: boolean): void {
    if (stalled) this.#stalled ??= Promise.withResolvers<void>();
    else {
      this.#stalled?.resolve();
      this.#stalled = undefined;
    }
  }

  get isStalled(): boolean {
    return this.#stalled !== undefined;
  }

  /** The log, when it can be written right now. */
  get writer(): LogWriter | undefined {
    return this.#phase.name === "held" && this.#stalled === undefined ? this.#phase.writer : undefined;
  }

  /** Also while handing over: what `yielding` itself appends with. */
  get yieldingWriter(): LogWriter | undefined {
    return this.#phase.name === "held" || this.#phase.name === "yielding" ? this.#phase.writer : undefined;
  }

  /**
   * OWNER_BUSY when another node kept the grant for `timeoutMs`, whatever it is that does not answer; the reason of
   * `signal` when that is aborted first. The grant that was asked for may still come: it is kept for the next request.
   */
  async acquire(timeoutMs: number, signal: AbortSignal): Promise<LogWriter> {
    const until = this.#options.clock.monotonicMs() + timeoutMs;
    while (true) {
      signal.throwIfAborted();
      const phase = this.#phase;
      if (phase.name === "held" && this.#stalled === undefined) return phase.writer;
      const leftMs = until - this.#options.clock.monotonicMs();
      if (leftMs <= 0) throw busy(timeoutMs);
      const wait = { leftMs, timeoutMs, signal };
      if (this.#stalled !== undefined) await this.#within(this.#stalled.promise, wait);
      else if (phase.name === "held") return phase.writer;
      else if (phase.name === "yielding" || phase.name === "releasing") await this.#within(phase.done, wait);
      else {
        const joined = phase.name === "acquiring";
        const attempt = joined ? phase.promise : this.#begin(Math.ceil(leftMs));
        const result = await this.#within(settled(attempt), wait);
        // The request that began it may have had less time: that it gave up is not the end of this one.
        if ("error" in result && !(joined && isTimeout(result.error))) throw result.error;
      } // and see whether it may be used
    }
  }

  /**
   * The log, without a promise when it is there already: most operations answer at once. `body` is not called for a
   * request that was interrupted while it waited. The grant stays until `body` has ended, but for a forced hand-over.
   */
  with<T>(limitMs: number, by: RequestContext, body: (writer: LogWriter) => T | Promise<T>): T | Promise<T> {
    const { writer } = this;
    if (writer !== undefined) return this.#during(() => body(writer));
    return this.acquire(by.budget.leftMs(limitMs), by.signal).then((acquired) => {
      by.signal.throwIfAborted();
      return this.#during(() => body(acquired));
    });
  }

  #during<T>(body: () => T | Promise<T>): T | Promise<T> {
    this.#usedMs = this.#options.clock.monotonicMs();
    const work = body();
    if (!(work instanceof Promise)) return work;
    this.#working++;
    return work.finally(() => {
      this.#working--;
      this.#usedMs = this.#options.clock.monotonicMs();
      this.changed();
    });
  }

  /**
   * Gives the grant up when no file is open for write and no operation under way, after the least time that it is kept
   * while it is used; `forced`: in any case. Resolves with true when it is given up, false when `signal` was aborted
   * first. Nothing is sealed while files are open for write.
   */
  async handOver({ forced, signal }: { forced: boolean; signal: AbortSignal }): Promise<boolean> {
    while (!signal.aborted) {
      const phase = this.#phase;
      if (phase.name === "none" || phase.name === "releasing") return true;
      if (phase.name === "yielding") await phase.done;
      else if (phase.name === "acquiring") await settled(phase.promise);
      else {
        const { clock } = this.#options;
        const until = Math.min(phase.sinceMs + this.#options.minimumHoldMs, this.#usedMs + IDLE_MS);
        const restMs = forced ? 0 : until - clock.monotonicMs();
        if (restMs <= 0 && (forced || (this.#working === 0 && !this.#options.events.isBusy()))) {
          await this.#yield(phase.writer, forced);
          return true;
        }
        await this.#change(restMs > 0 ? restMs : undefined, signal);
      }
    }
    return this.#phase.name === "none" || this.#phase.name === "releasing";
  }

  /** A handle was closed, or an operation has ended: a hand-over that waits for it may go on. */
  changed(): void {
    this.#wanted?.check();
  }

  /** Compares with the memory; called at each look at the log. */
  verify(): void {
    if (this.#phase.name === "held" && !this.#phase.writer.holds()) this.lose(stale());
  }

  lose(error: FamfsError): void {
    if (this.#phase.name !== "held" && this.#phase.name !== "yielding") return;
    const { promise: done, resolve } = Promise.withResolvers<void>();
    this.#phase = { name: "releasing", done };
    this.#options.logger.error({ err: error }, "this node no longer owns the log of the volume");
    try {
      this.#options.events.lost(error);
    } finally {
      const finish = () => {
        this.#phase = { name: "none" };
        resolve();
      };
      const released = this.#giveBack();
      if (released === undefined) finish();
      else void released.then(finish);
    }
  }

  /** No new grant from now on, and nothing is sealed with the one there is. */
  abandon(): void {
    this.#closing.abort(stale());
    this.lose(stale());
    this.#options.grant.close?.();
  }

  /** No new grant from now on; gives up the one there is, sealing everything. */
  async close(): Promise<void> {
    const reason = new FamfsError("CANCELLED", "the volume is being unmounted");
    // The programs that asked for it are gone with the kernel: another node may keep it for long.
    if (this.#phase.name === "acquiring") this.#closing.abort(reason);
    await this.handOver({ forced: true, signal: AbortSignal.any([]) });
    this.#closing.abort(reason);
    this.#options.grant.close?.();
  }

  #begin(timeoutMs: number): Promise<LogWriter> {
    const { promise, resolve, reject } = Promise.withResolvers<LogWriter>();
    // Before the work, which may end the phase at once.
    this.#phase = { name: "acquiring", promise };
    this.#take(timeoutMs).then(resolve, reject);
    return promise;
  }

  async #take(timeoutMs: number): Promise<LogWriter> {
    let writer: LogWriter | undefined;
    try {
      this.#closing.signal.throwIfAborted();
      writer = await this.#options.grant.acquire({ timeoutMs, signal: this.#closing.signal });
      await this.#options.events.catchUp(writer);
      this.#closing.signal.throwIfAborted();
      const sinceMs = this.#options.clock.monotonicMs();
      this.#usedMs = sinceMs;
      this.#phase = { name: "held", writer, sinceMs };
      this.#options.events.gained(writer);
      return writer;
    } catch (error) {
      if (writer !== undefined) await this.#giveBack();
      this.#phase = { name: "none" };
      throw error;
    }
  }

  async #yield(writer: LogWriter, forced: boolean): Promise<void> {
    const { promise: done, resolve } = Promise.withResolvers<void>();
    this.#phase = { name: "yielding", writer, done };
    try {
      await this.#options.events.yielding({ forced });
    } catch (error) {
      this.#options.logger.error({ err: error }, "sealing before the hand-over failed");
    }
    // A loss in between has said everything already.
    if (this.#isYielding()) {
      try {
        this.#options.events.yielded();
      } catch (error) {
        this.#options.logger.error({ err: error }, "what this node had reserved was not given back with the grant");
      }
      await this.#giveBack();
      if (this.#isYielding()) this.#phase = { name: "none" };
    }
    resolve();
  }

  #isYielding(): boolean {
    return this.#phase.name === "yielding";
  }

  /** Never fails: a grant that is not given back runs out with the lease. */
  #giveBack(): undefined | Promise<void> {
    return this.#options.grant.release()?.catch((error: unknown) => {
      this.#options.logger.warn({ err: error }, "releasing the writer grant failed");
    });
  }

  /** Until a handle closes, `delayMs` pass or `signal` is aborted. */
  #change(delayMs: number | undefined, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = delayMs === undefined ? undefined : this.#options.clock.schedule(delayMs, resolve);
    const before = this.#wanted;
    this.#wanted = {
      check: () => {
        before?.check();
        resolve();
      },
    };
    signal.addEventListener("abort", () => resolve(), { once: true });
    return promise.finally(() => {
      timer?.[Symbol.dispose]();
      this.#wanted = undefined;
    });
  }

  async #within<T>(work: Promise<T>, { leftMs, timeoutMs, signal }: Wait): Promise<T> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    using _timer = this.#options.clock.schedule(leftMs, () => reject(busy(timeoutMs)));
    return await unlessAborted(Promise.race([work, late]), signal);
  }
}

interface Wait {
  readonly leftMs: number;
  /** What was to be waited from the beginning, to tell. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

type Settled<T> = { readonly value: T } | { readonly error: unknown };

async function settled<T>(promise: Promise<T>): Promise<Settled<T>> {
  try {
    return { value: await promise };
  } catch (error) {
    return { error };
  }
}

/** Of the other side, or of the way to it. */
function isTimeout(error: unknown): boolean {
  return hasCode(error, "OWNER_BUSY", "DEADLINE_EXCEEDED");
}

function busy(timeoutMs: number): FamfsError {
  const waited = Math.round(timeoutMs);
  return new FamfsError("OWNER_BUSY", `another node kept the writer grant for ${waited} ms; try again`, {
    details: { nodeId: "" },
  });
}

export function stale(): FamfsError {
  return new FamfsError("OWNER_STALE", "another node owns the log now; what was written here since is not in it");
}
