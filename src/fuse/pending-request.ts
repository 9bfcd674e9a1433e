import { type Caller, FamfsError, type RequestBudget, type RequestContext } from "../base/index.ts";
import type { HeldBytes } from "./held-bytes.ts";

/**
 * A request from its arrival to its answer, as the operations see it. Most are answered at once: the signal is made
 * only when somebody waits.
 */
export class PendingRequest implements RequestContext, RequestBudget {
  readonly caller: Caller;
  readonly #held: HeldBytes;
  readonly #connection: number;
  readonly #bytes: number;
  readonly #cameAtMs = performance.now();
  #controller: AbortController | undefined;
  #grace: NodeJS.Timeout | undefined;

  /** `bytes`: data that is kept while it waits. */
  constructor(caller: Caller, { held, connection, bytes }: { held: HeldBytes; connection: number; bytes: number }) {
    this.caller = caller;
    this.#held = held;
    this.#connection = connection;
    this.#bytes = bytes;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    return this.#controller.signal;
  }

  get budget(): RequestBudget {
    return this;
  }

  hold(): Disposable {
    return this.#held.wait(this.#connection, this.#bytes);
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
