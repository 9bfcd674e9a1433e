import type { Logger } from "../base/index.ts";
import type { NodeRecord } from "./records.ts";
import type { Store } from "./store.ts";

/** How long beyond its lease a silent node keeps what it has: what it needs to notice, and to stop (design 4). */
export const TAKE_OVER_MARGIN_MS = 2_000;

export interface LivenessOptions {
  readonly logger: Logger;
  /** Monotonic milliseconds; only tests give another one. */
  readonly now?: () => number;
}

/**
 * Which nodes are alive, judged by this process's own monotonic clock since each heartbeat record last changed: clocks
 * of different hosts are never compared. A node counts as alive for one lease after it is first seen.
 */
export class NodeLiveness implements AsyncDisposable {
  readonly #abort = new AbortController();
  readonly #seen = new Map<string, { record: NodeRecord; renewals: string; changedAt: number }>();
  readonly #store: Store;
  readonly #now: () => number;
  #watching: Promise<void> = Promise.resolve();

  private constructor(store: Store, now: () => number) {
    this.#store = store;
    this.#now = now;
  }

  static async open(store: Store, { logger, now = () => performance.now() }: LivenessOptions): Promise<NodeLiveness> {
    const liveness = new NodeLiveness(store, now);
    for (const record of await store.list("nodes")) liveness.#see(record);
    liveness.#watching = liveness.#watch().catch((error: unknown) => {
      logger.error({ err: error }, "heartbeats are no longer followed");
    });
    return liveness;
  }

  get(nodeId: string): NodeRecord | undefined {
    return this.#seen.get(nodeId)?.record;
  }

  /** True while its lease, lengthened by `marginMs`, runs. */
  isAlive(nodeId: string, marginMs = 0): boolean {
    return this.remainingMs(nodeId, marginMs) > 0;
  }

  /** How long a node that stays silent still counts as alive. */
  remainingMs(nodeId: string, marginMs = 0): number {
    const seen = this.#seen.get(nodeId);
    if (seen === undefined) return 0;
    return Math.max(0, seen.changedAt + seen.record.leaseSeconds * 1000 + marginMs - this.#now());
  }

  /** Nodes that have a record and have not renewed it for a lease and `marginMs`. */
  silent(marginMs = 0): NodeRecord[] {
    return [...this.#seen.values()].map(({ record }) => record).filter(({ nodeId }) => !this.isAlive(nodeId, marginMs));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#watching;
  }

  async #watch(): Promise<void> {
    for await (const change of this.#store.watch("nodes", this.#abort.signal)) {
      if (change.type === "put") this.#see(change.record);
      else this.#seen.delete(change.name);
    }
  }

  /**
   * Asks the store about a node that is silent here. The watch may be blind (a connection that is dead but open, say),
   * and who takes something from a silent node must not take it from a living one.
   */
  async lookAgain(nodeId: string, marginMs: number): Promise<void> {
    if (this.isAlive(nodeId, marginMs)) return;
    const record = await this.#store.get("nodes", nodeId);
    if (record !== undefined) this.#see(record);
  }

  #see(record: NodeRecord): void {
    const renewals = `${record.instance} ${record.renewedAt}`;
    if (this.#seen.get(record.nodeId)?.renewals === renewals) return;
    this.#seen.set(record.nodeId, { record, renewals, changedAt: this.#now() });
  }
}
