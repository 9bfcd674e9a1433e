/** The credentials that an operation is carried out with. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

/** What an operation knows of the request that it answers. */
export interface RequestContext {
  readonly caller: Caller;
  /**
   * Aborted when the program was interrupted, or nobody waits for the answer any more: what has not been done by then
   * must not be done later. Its reason is the error to answer with.
   */
  readonly signal: AbortSignal;
  readonly budget: RequestBudget;
}

/** What a request may cost while it waits. */
export interface RequestBudget {
  /** The rest, in milliseconds, of `limitMs` since the request came, whatever it waited for; never negative. */
  leftMs(limitMs: number): number;
  /** Asked before a wait that may be long, for what the request brought is kept in memory. OVERLOADED. */
  hold(): Disposable;
}

/** The outcome of `work`, unless `signal` is aborted first: then its reason, while the work goes on by itself. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason as Error);
  signal.addEventListener("abort", abort);
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** For work that no request asked for, or that nothing can interrupt. */
export function uninterrupted(caller: Caller = { uid: 0, gid: 0, pid: 0 }): RequestContext {
  const hold = () => ({ [Symbol.dispose]: () => {} });
  return { caller, signal: AbortSignal.any([]), budget: { leftMs: (limitMs) => limitMs, hold } };
}
