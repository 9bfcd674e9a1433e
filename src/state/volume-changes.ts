import type { Logger } from "../base/index.ts";
import type { Store } from "./store.ts";

/** One watch of all volumes for however many calls wait for a change of one. */
export class VolumeChanges implements AsyncDisposable {
  readonly #abort = new AbortController();
  readonly #waiting = new Map<string, Set<() => void>>();
  #watching: Promise<void> = Promise.resolve();

  private constructor() {}

  static open(store: Store, logger: Logger): VolumeChanges {
    const changes = new VolumeChanges();
    changes.#watching = changes.#watch(store).catch((error: unknown) => {
      logger.error({ err: error }, "volumes are no longer followed");
    });
    return changes;
  }

  /**
   * Asks `look` now and after each change of the volume until it answers something, or `signal` aborts (undefined).
   * `look` reads the record itself: what it sees is at least as new as the change.
   */
  async until<T>(volume: string, look: () => Promise<T | undefined>, signal: AbortSignal): Promise<T | undefined> {
    const waiters = this.#waiting.get(volume) ?? new Set();
    this.#waiting.set(volume, waiters);
    let changed = Promise.withResolvers<void>();
    const wake = () => changed.resolve();
    waiters.add(wake);
    signal.addEventListener("abort", wake);
    try {
      while (!signal.aborted) {
        changed = Promise.withResolvers();
        const found = await look();
        if (found !== undefined) return found;
        if (!signal.aborted) await changed.promise;
      }
      return undefined;
    } finally {
      signal.removeEventListener("abort", wake);
      waiters.delete(wake);
      if (waiters.size === 0) this.#waiting.delete(volume);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#watching;
  }

  async #watch(store: Store): Promise<void> {
    for await (const change of store.watch("volumes", this.#abort.signal)) {
      const name = change.type === "put" ? change.record.name : change.name;
      for (const wake of this.#waiting.get(name) ?? []) wake();
    }
  }
}
