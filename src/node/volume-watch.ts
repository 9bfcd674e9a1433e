import { setTimeout as delay } from "node:timers/promises";
import { type Logger, unlessAborted } from "../base/index.ts";
import type { Store, StoredRecord } from "../state/index.ts";

/** Looks at each state of a volume's record that it is shown; must not wait. */
export interface VolumeWatcher {
  consider(volume: StoredRecord<"volumes">): void;
  /** There is no such record any more. */
  forget?(volumeId: string): void;
}

/**
 * Everything is read, and shown again, so often: the watch may be blind, and work that a change began may have failed.
 * It is less often where there are many records, so that all nodes together do not keep the store busy with that.
 */
const RESYNC_MS = 30_000;
const RESYNC_PER_RECORD_MS = 10;
const RETRY_MS = 1_000;

/** Shows every volume record, and each change of one, to those who act on them. */
export class VolumeWatch implements AsyncDisposable {
  readonly #store: Store;
  readonly #logger: Logger;
  readonly #watchers: readonly VolumeWatcher[];
  readonly #stop = new AbortController();
  #done: Promise<unknown> = Promise.resolve();

  private constructor(store: Store, logger: Logger, watchers: readonly VolumeWatcher[]) {
    this.#store = store;
    this.#logger = logger;
    this.#watchers = watchers;
  }

  static start(store: Store, logger: Logger, watchers: readonly VolumeWatcher[]): VolumeWatch {
    const watch = new VolumeWatch(store, logger, watchers);
    watch.#done = watch.#run();
    return watch;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    for (let first = true; !signal.aborted; first = false) {
      try {
        if (!first) await unlessAborted(this.#store.resync("volumes"), signal);
        await this.#follow(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#logger.warn({ err: error }, "volume records are not being followed; trying again");
        await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** Until it is time to read all of them again. */
  async #follow(signal: AbortSignal): Promise<void> {
    const late = new AbortController();
    const present = new Set<string>();
    const started = performance.now();
    const timer = setInterval(() => {
      const periodMs = Math.max(RESYNC_MS, present.size * RESYNC_PER_RECORD_MS);
      if (performance.now() - started >= periodMs) late.abort();
    }, RETRY_MS);
    timer.unref();
    try {
      for await (const change of this.#store.watch("volumes", AbortSignal.any([signal, late.signal]))) {
        if (change.type === "put") present.add(change.record.name);
        else present.delete(change.name);
        for (const watcher of this.#watchers) {
          if (change.type === "put") watcher.consider(change.record);
          else watcher.forget?.(change.name);
        }
      }
    } finally {
      clearInterval(timer);
    }
  }
}
