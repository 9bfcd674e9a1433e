/**
 * Locks by key that never wait: CSI wants ABORTED for an operation that is already pending on a volume
 * (CSI "Operation pending for volume"), never a queue behind a slow mount.
 */
export class KeyedTryLock {
  readonly #held = new Set<string>();

  /** The lock, to be released by `using`; undefined when `key` is taken. */
  tryAcquire(key: string): Disposable | undefined {
    if (this.#held.has(key)) return undefined;
    this.#held.add(key);
    let released = false;
    return {
      [Symbol.dispose]: () => {
        if (!released) this.#held.delete(key);
        released = true;
      },
    };
  }
}
