import { hasCode, type Logger } from "../base/index.ts";
import { type Device, rememberedRevision, rememberRevision } from "../media/index.ts";
import { type EventRecorder, freeze, revisionOf, type Store } from "../state/index.ts";

export interface RestoredStoreOptions {
  readonly store: Store;
  readonly nodeId: string;
  /** The managed devices of this node, by UUID. */
  readonly devices: () => readonly (readonly [string, Device])[];
  readonly events: EventRecorder;
  readonly logger: Logger;
}

/**
 * Notices that the store was restored from a backup: the revision of a device's record is lower than the one that the
 * memory remembers. Asked before anything is erased or given up, so that nobody is quicker than the look.
 */
export class RestoredStore {
  readonly #options: RestoredStoreOptions;
  readonly #told = new Set<string>();

  constructor(options: RestoredStoreOptions) {
    this.#options = options;
  }

  /** Looks at all devices, and remembers what it sees. */
  async look(): Promise<void> {
    await this.whyFrozen();
  }

  /**
   * Why nothing may be erased or given up that a device of this node holds (of one device: `only`); undefined when the
   * store is to be believed. STORE_UNAVAILABLE.
   */
  async whyFrozen(only?: string): Promise<string | undefined> {
    let reason: string | undefined;
    for (const [uuid, device] of this.#options.devices()) {
      if (only !== undefined && uuid !== only) continue;
      try {
        reason ??= await this.#why(uuid, device);
      } catch (error) {
        // A device that nobody can read is not erased, and says nothing about the store.
        if (!hasCode(error, "MEMORY_ERROR")) throw error;
      }
    }
    return reason;
  }

  async #why(uuid: string, device: Device): Promise<string | undefined> {
    const { store, nodeId, events, logger } = this.#options;
    // In this order: what the memory remembers was in the store before, so a store that is asked later has it still.
    const remembered = await rememberedRevision(device);
    const record = await store.get("devices", uuid);
    if (record === undefined) return remembered > 0 ? `the record of device ${uuid} is lost` : undefined;
    if (record.pool === "") return undefined; // of the stock tools: it has no label
    const revision = revisionOf(record);
    if (revision > remembered) await rememberRevision(device, revision);
    if (record.frozen === undefined && revision >= remembered) {
      this.#told.delete(uuid);
      return undefined;
    }
    const why =
      record.frozen?.reason ??
      (await freeze(
        store,
        uuid,
        `the store was restored from a backup: node ${nodeId} found revision ${revision} in it, and the memory remembers ${remembered}`,
      ));
    if (!this.#told.has(uuid)) {
      this.#told.add(uuid);
      // A watch that goes on from a version that is none any more is blind.
      store
        .informer("volumes")
        .resync()
        .catch(() => undefined); // then its silence tells
      logger.error({ device: uuid, reason: why }, "nothing is erased or given up before device rebuild was run");
      events.record({ reason: "StoreRestored", deviceUuid: uuid, message: why });
    }
    return why;
  }
}
