import { FamfsError, hasCode, type Logger, messageOf } from "../base/index.ts";
import type { NodeRecord } from "./records.ts";
import type { Store } from "./store.ts";

export interface HeartbeatOptions {
  readonly node: Omit<NodeRecord, "renewedAt">;
  readonly logger: Logger;
  /**
   * Others may have counted this node out: its lease had run out before it could be renewed. Called when the record is
   * fresh again and before `remainingMs` says so, to give up what is no longer this node's; the lease counts as renewed
   * when it returns. A record that is merely missing is no such case: the others count this node as alive for its lease
   * all the same (liveness.ts).
   */
  readonly onLapse?: () => Promise<void>;
}

/** Attempts to renew within one lease: two may fail before others may take over. */
const RENEWALS_PER_LEASE = 4;

/**
 * Keeps this node's record fresh. Everything the node holds by grant is good while `remainingMs` is above zero; the
 * holder stalls its writers before that and goes on when it can renew again (design 5).
 */
export class Heartbeat implements AsyncDisposable {
  readonly node: Omit<NodeRecord, "renewedAt">;
  readonly #store: Store;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #renewing: Promise<void> = Promise.resolve();
  #failures = 0;
  readonly #onLapse: () => Promise<void>;
  #goodUntil: number | undefined;
  /** When the last renewal was known to have succeeded. */
  #renewedAt = 0;

  private constructor(store: Store, { node, logger, onLapse }: HeartbeatOptions) {
    this.#store = store;
    this.node = node;
    this.#logger = logger;
    this.#onLapse = onLapse ?? (async () => {});
  }

  /** Returns when the record is there. Throws what the store throws. */
  static async open(store: Store, options: HeartbeatOptions): Promise<Heartbeat> {
    if (options.node.leaseSeconds < 1) throw new FamfsError("INVALID_ARGUMENT", "a lease has at least one second");
    const heartbeat = new Heartbeat(store, options);
    await heartbeat.#renew();
    heartbeat.#timer = setInterval(() => {
      heartbeat.#renewing = heartbeat.#renew().catch((error: unknown) => {
        heartbeat.#failures++;
        options.logger.warn({ reason: messageOf(error), remainingMs: heartbeat.remainingMs() }, "heartbeat failed");
      });
    }, heartbeat.#periodMs());
    heartbeat.#timer.unref();
    return heartbeat;
  }

  /** How long the others are sure to count this node as alive. */
  remainingMs(): number {
    return Math.max(0, (this.#goodUntil ?? 0) - performance.now());
  }

  /** Renewals that failed since it was opened. */
  get failures(): number {
    return this.#failures;
  }

  /** Stops renewing; the record stays and runs out. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#renewing;
  }

  #periodMs(): number {
    return (this.node.leaseSeconds * 1000) / RENEWALS_PER_LEASE;
  }

  async #renew(): Promise<void> {
    // The others count from when they see the record change, which is after this moment: the safe side.
    const started = performance.now();
    const record: NodeRecord = { ...this.node, renewedAt: new Date().toISOString() };
    const found = await this.#store.get("nodes", record.nodeId);
    try {
      if (found === undefined) await this.#store.create("nodes", record.nodeId, record);
      else await this.#store.replace("nodes", { ...found, ...record });
    } catch (error) {
      if (!hasCode(error, "CONFLICT")) throw error;
      // Renewals overlap while the store is slow: another one of ours was first.
      if (this.#renewedAt > started) return;
      this.#logger.warn({ node: record.nodeId }, "another process writes this node's heartbeat");
      throw error;
    }
    this.#renewedAt = performance.now();
    // Judged by when the record was fresh again, not by when that was asked for: the store may have answered late.
    if (this.#goodUntil !== undefined && this.#goodUntil < this.#renewedAt) {
      this.#goodUntil = 0; // until `onLapse` has returned, also where it fails
      this.#logger.warn({ node: record.nodeId, declaredGone: found === undefined }, "the heartbeat had lapsed");
      await this.#onLapse();
    }
    this.#goodUntil = started + this.node.leaseSeconds * 1000;
  }
}
