import { type Caller, FamfsError, type RequestContext, type TimeBudget } from "../base/index.ts";

/**
 * A request from its arrival to its answer, as the operations see it. Most are answered at once: the signal is made
 * only when somebody waits.
 */
export class PendingRequest implements RequestContext, TimeBudget {
  readonly caller: Caller;
  readonly #cameAtMs = performance.now();
  #controller: AbortController | undefined;
  #grace: NodeJS.Timeout | undefined;

  constructor(caller: Caller) {
    this.caller = caller;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    return this.#controller.signal;
  }

  get budget(): TimeBudget {
    return this;
  }

  leftMs(limitMs: number): number {
    return Math.max(0, limitMs - (performance.now() - this.#cameAtMs));
  }

  /** The program that asked has a signal to deal with: what still waits after `graceMs` ends with CANCELLED. */
  interrupt(graceMs: number): void {
    this.#grace ??= setTimeout(() => {
      this.abort(new FamfsError("CANCELLED", "the program that asked was interrupted"));
    }, graceMs);
  }

  abort(reason: FamfsError): void {
    this.#controller ??= new AbortController();
    this.#controller.abort(reason);
  }

  /** It was answered, or never will be. */
  over(): void {
    clearTimeout(this.#grace);
  }
}
