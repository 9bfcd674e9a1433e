import { type Logger, messageOf } from "../base/index.ts";
import type { Store, StoredRecord } from "../state/index.ts";

/** Looks at each state of a volume's record that it is shown; must not wait. */
export interface VolumeWatcher {
  consider(volume: StoredRecord<"volumes">): void;
  /** There is no such record any more: it was deleted, or lost; what is mounted goes on. */
  deleted?(volumeId: string): void;
}

/** Every record is shown again so often, as it is known here: work that a change began may have failed. */
const AGAIN_MS = 30_000;
/**
 * Everything is read anew so often, give or take a fifth: a watch that is blind is noticed by its silence, or by the
 * revision of a device (restored-store.ts), long before. Where there are many records it is less often, so that each
 * node asks for at most ten in a second.
 */
const RESYNC_MS = 600_000;
const RESYNC_PER_RECORD_MS = 100;

/** Shows every volume record, and each change of one, to those who act on them. */
export class VolumeWatch implements Disposable {
  readonly #following: Disposable;
  readonly #timer: NodeJS.Timeout;

  private constructor(following: Disposable, timer: NodeJS.Timeout) {
    this.#following = following;
    this.#timer = timer;
  }

  static start(store: Store, logger: Logger, watchers: readonly VolumeWatcher[]): VolumeWatch {
    const volumes = store.informer("volumes");
    const following = volumes.onChange((changes) => {
      for (const change of changes) {
        for (const watcher of watchers) {
          if (change.type === "put") watcher.consider(change.record);
          else if (change.type === "deleted") watcher.deleted?.(change.name);
        }
      }
    });
    const spread = 0.8 + 0.4 * Math.random();
    let sinceMs = 0;
    const timer = setInterval(() => {
      for (const record of volumes.list()) for (const watcher of watchers) watcher.consider(record);
      sinceMs += AGAIN_MS;
      if (sinceMs < spread * Math.max(RESYNC_MS, volumes.size * RESYNC_PER_RECORD_MS)) return;
      sinceMs = 0;
      volumes.resync().catch((error: unknown) => {
        logger.warn({ reason: messageOf(error) }, "volume records were not read anew");
      });
    }, AGAIN_MS);
    timer.unref();
    return new VolumeWatch(following, timer);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#following[Symbol.dispose]();
  }
}
