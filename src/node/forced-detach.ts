import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "../base/index.ts";
import type { Store, StoredRecord } from "../state/index.ts";
import { rebuiltAt } from "./rebuild.ts";
import type { StageRecords } from "./stage-records.ts";
import type { NodeIdentity } from "./staging-claim.ts";
import type { VolumeWatcher } from "./volume-watch.ts";

export interface ForcedDetachOptions {
  readonly node: NodeIdentity;
  readonly store: Store;
  readonly records: StageRecords;
  /** Whether anything of this node can still reach the volume's memory. */
  readonly serves: (volumeId: string) => boolean;
  /** Whether the memory still has the volume, as a record said before it was lost. */
  readonly isInMemory: (volume: StoredRecord<"volumes">) => Promise<boolean>;
  /** Why the store is not to be believed about what was taken from this node. */
  readonly whyFrozen: () => Promise<string | undefined>;
  /** Ends that, without sealing; false when another call on the volume is in progress. */
  readonly giveUp: (volumeId: string, reason: string) => Promise<boolean>;
  readonly logger: Logger;
}

const RETRY_MS = 500;

/**
 * Gives up what was taken from this node while it had it mounted: published to it no more (forced detach), or staged
 * by it no more (it was declared gone), or deleted. The CO does neither before NodeUnstageVolume in good order, so the
 * volume may be another node's by now, or its region another volume's.
 *
 * A record that is not there says that only to a node whose heartbeat had lapsed, and whose volume the memory does not
 * have any more: a record goes when its volume is erased, and none is erased while a node has it staged. Otherwise
 * records were lost, and pods need not lose their volumes for that. Nor does a store say anything that was restored
 * from a backup and has forgotten who has what (restored-store.ts).
 */
export class ForcedDetach implements VolumeWatcher, AsyncDisposable {
  readonly #options: ForcedDetachOptions;
  readonly #stop = new AbortController();
  readonly #running = new Map<string, Promise<void>>();
  /** Records made again from the memory (`rebuiltAt`) in which this node was seen since. */
  readonly #known = new Set<string>();
  /** The records of volumes that are staged here, as they were seen last. */
  readonly #lastSeen = new Map<string, StoredRecord<"volumes">>();

  constructor(options: ForcedDetachOptions) {
    this.#options = options;
  }

  consider(volume: StoredRecord<"volumes">): void {
    if (this.#options.records.get(volume.name) === undefined) this.#lastSeen.delete(volume.name);
    else this.#lastSeen.set(volume.name, volume);
    if (volume.published[this.#options.node.nodeId] !== undefined) this.#known.add(incarnationOf(volume));
    if (this.#whyTaken(volume) !== undefined) void this.#look(volume.name);
  }

  /**
   * When the heartbeat had lapsed: looks at everything that is served here; when it returns, what was taken is given
   * up. STORE_UNAVAILABLE.
   */
  async lookAtAll(): Promise<void> {
    const lapsed = true;
    await Promise.all(this.#options.records.all().map(({ volumeId }) => this.#untilDone(volumeId, { lapsed })));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running.values());
  }

  /** Once per volume at a time; what fails comes again with the next change, or the next round of the watch. */
  #look(volumeId: string): Promise<void> {
    const { records, logger } = this.#options;
    const present = this.#running.get(volumeId);
    if (present !== undefined) return present;
    if (records.get(volumeId) === undefined || this.#stop.signal.aborted) return Promise.resolve();
    const look = this.#untilDone(volumeId, { lapsed: false })
      .catch((error: unknown) => {
        logger.error({ volumeId, err: error }, "a volume that was taken from this node is not given up yet");
      })
      .finally(() => this.#running.delete(volumeId));
    this.#running.set(volumeId, look);
    return look;
  }

  async #untilDone(volumeId: string, after: { readonly lapsed: boolean }): Promise<void> {
    const { store, node, serves, whyFrozen, giveUp, logger } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      // Read anew: what a watch shows may be older than what this node has done since.
      const volume = await store.get("volumes", volumeId);
      const reason = volume === undefined ? await this.#whyDeleted(volumeId, after) : this.#whyTaken(volume);
      // Not served, but not acknowledged either: the plugin was restarted meanwhile, or the store did not answer.
      const holds = serves(volumeId) || volume?.staged[node.nodeId] !== undefined;
      if (reason === undefined || !holds) return;
      const frozen = await whyFrozen();
      if (frozen !== undefined) {
        logger.warn({ volumeId, reason, frozen }, "a volume is not given up");
        return;
      }
      if (await giveUp(volumeId, reason)) return;
      await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async #whyDeleted(volumeId: string, { lapsed }: { readonly lapsed: boolean }): Promise<string | undefined> {
    const seen = this.#lastSeen.get(volumeId);
    if (!lapsed || (seen !== undefined && (await this.#options.isInMemory(seen)))) return undefined;
    return "this node had been declared gone, and the volume was deleted";
  }

  #whyTaken(volume: StoredRecord<"volumes">): string | undefined {
    const { nodeId, bootId } = this.#options.node;
    if (volume.phase === "Reclaiming") return "the volume was deleted";
    if (rebuiltAt(volume) !== undefined && !this.#known.has(incarnationOf(volume))) return undefined;
    if (volume.published[nodeId] === undefined) return "it was detached from this node by force";
    if (volume.staged[nodeId]?.bootId !== bootId) return "this node had been declared gone";
    return undefined;
  }
}

/** One life of the volume's record. */
function incarnationOf(volume: StoredRecord<"volumes">): string {
  return `${volume.uuid} ${rebuiltAt(volume) ?? ""}`;
}
