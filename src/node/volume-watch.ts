import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "../base/index.ts";
import type { Store, StoredRecord } from "../state/index.ts";

/** Looks at each state of a volume's record that it is shown; must not wait. */
export interface VolumeWatcher {
  consider(volume: StoredRecord<"volumes">): void;
  /** There is no such record any more. */
  forget?(volumeId: string): void;
}

/** A change may be missed by nobody, but what it should have caused may have failed: everything is shown again. */
const REFRESH_MS = 30_000;
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
    while (!signal.aborted) {
      try {
        await this.#follow(AbortSignal.any([signal, AbortSignal.timeout(REFRESH_MS)]));
      } catch (error) {
        if (signal.aborted) return;
        this.#logger.warn({ err: error }, "volume records are not being followed; trying again");
        await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    for await (const change of this.#store.watch("volumes", signal)) {
      for (const watcher of this.#watchers) {
        if (change.type === "put") watcher.consider(change.record);
        else watcher.forget?.(change.name);
      }
    }
  }
}
