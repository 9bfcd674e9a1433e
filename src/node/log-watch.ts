import { hasCode } from "../base/index.ts";
import type { EventRecorder, Store } from "../state/index.ts";
import type { FuseServerSupervisor } from "./fuse-server/supervisor.ts";
import type { StageRecords } from "./stage-records.ts";

export interface LogWatchOptions {
  readonly nodeId: string;
  readonly store: Store;
  readonly records: Pick<StageRecords, "all">;
  readonly server: Pick<FuseServerSupervisor, "ask" | "serves">;
  readonly events: EventRecorder;
}

/** Of the entries that creating may use; the rest is kept for removing and renaming. */
const NEARLY_FULL = 0.9;
const HEALTH_TIMEOUT_MS = 3_000;

/**
 * Tells once when the log of a staged volume is nearly full: early enough to copy the volume to a larger one. Of
 * several nodes that have it staged the first by name tells.
 */
export class LogWatch {
  readonly #options: LogWatchOptions;
  readonly #told = new Set<string>();

  constructor(options: LogWatchOptions) {
    this.#options = options;
  }

  /** Looks at every volume that is served here. */
  async look(): Promise<void> {
    const { records, server } = this.#options;
    const served = records.all().filter(({ volumeId }) => server.serves(volumeId));
    for (const volumeId of this.#told) {
      if (!served.some((record) => record.volumeId === volumeId)) this.#told.delete(volumeId);
    }
    for (const { volumeId } of served) await this.#lookAt(volumeId);
  }

  async #lookAt(volumeId: string): Promise<void> {
    const { nodeId, store, server, events } = this.#options;
    try {
      const { logSlots } = await server.ask("health", { volumeId }, { timeoutMs: HEALTH_TIMEOUT_MS });
      if (logSlots.used < logSlots.total * NEARLY_FULL) this.#told.delete(volumeId);
      else if (!this.#told.has(volumeId)) {
        const volume = await store.get("volumes", volumeId);
        if (Object.keys(volume?.staged ?? {}).toSorted()[0] !== nodeId) return;
        this.#told.add(volumeId);
        const message = `${logSlots.used} of ${logSlots.total} log entries are used, ${logSlots.available} files can still be created`;
        events.record({ reason: "LogNearlyFull", volumeId, message });
      }
    } catch (error) {
      // Its server says so otherwise, or is on the way out.
      if (!hasCode(error, "DEADLINE_EXCEEDED", "NODE_UNAVAILABLE", "VOLUME_NOT_STAGED")) throw error;
    }
  }
}
