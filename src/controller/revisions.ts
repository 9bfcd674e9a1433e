import { hasCode } from "../base/index.ts";
import { freeze, RAISE_MS, revisionOf, type StoredRecord } from "../state/index.ts";
import type { ControllerContext } from "./context.ts";

interface Written {
  /** Of the record: one that was deleted and made anew begins anew. */
  readonly createdAt: string;
  readonly revision: number;
  readonly at: number;
}

/**
 * Raises the revision of each device's record every few seconds: nodes remember it in the memory, so a store that was
 * restored from a backup is noticed (frozen.ts). A controller that lived through the restore notices by itself.
 */
export class Revisions {
  readonly #written = new Map<string, Written>();
  readonly #periodMs: number;

  constructor(periodMs = RAISE_MS) {
    this.#periodMs = periodMs;
  }

  /** Whether the device is frozen: nothing on it is to be given up. */
  async raise(
    { store, events }: Pick<ControllerContext, "store" | "events">,
    device: StoredRecord<"devices">,
  ): Promise<boolean> {
    const { name, createdAt, pool, frozen } = device;
    // It is thawed with a revision that may be lower than the last one before the restore.
    if (frozen !== undefined || this.#written.get(name)?.createdAt !== createdAt) this.#written.delete(name);
    if (pool === "" || frozen !== undefined) return frozen !== undefined;
    const revision = revisionOf(device);
    const written = this.#written.get(name);
    if (written !== undefined && revision < written.revision) {
      const why = `the store was restored from a backup: a controller wrote revision ${written.revision} of the device, and found ${revision}`;
      const message = await freeze(store, name, why);
      events.record({ reason: "StoreRestored", deviceUuid: name, message });
      return true;
    }
    if (written !== undefined && performance.now() - written.at < this.#periodMs) return false;
    try {
      await store.replace("devices", { ...device, revision: revision + 1 });
      this.#written.set(name, { createdAt, revision: revision + 1, at: performance.now() });
    } catch (error) {
      if (!hasCode(error, "CONFLICT")) throw error; // the next round is soon
    }
    return false;
  }
}
