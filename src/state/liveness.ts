import type { Informer } from "./informer.ts";
import type { NodeRecord } from "./records.ts";
import type { Store } from "./store.ts";

/** How long beyond its lease a silent node keeps what it has: what it needs to notice, and to stop (design 4). */
export const TAKE_OVER_MARGIN_MS = 2_000;

/** How long a node counts as alive that has no record and never had one here: as long as leases usually are. */
const UNSEEN_LEASE_MS = 15_000;
/** A node without a record is forgotten after this time: what was known of it says nothing by then. */
const FORGET_MS = 600_000;

export interface LivenessOptions {
  /** Monotonic milliseconds; only tests give another one. */
  readonly now?: () => number;
}

interface Seen {
  readonly record: NodeRecord;
  readonly renewals: string;
  readonly changedAt: number;
  /** Its record is gone since. */
  readonly missing: boolean;
}

/**
 * Which nodes are alive, judged by this process's own monotonic clock since each heartbeat record last changed: clocks
 * of different hosts are never compared. A node counts as alive for one lease after it is first seen, and after it was
 * last heard of when its record is deleted: that may be a mistake, and the node writes it anew.
 */
export class NodeLiveness implements Disposable {
  readonly #seen = new Map<string, Seen>();
  readonly #store: Store;
  readonly #now: () => number;
  readonly #openedAt: number;
  readonly #following: Disposable;

  private constructor(store: Store, nodes: Informer<"nodes">, now: () => number) {
    this.#store = store;
    this.#now = now;
    this.#openedAt = now();
    this.#following = nodes.onChange((changes) => {
      for (const change of changes) {
        if (change.type === "put") this.#see(change.record);
        else if (change.type === "deleted") this.#miss(change.name);
      }
    });
  }

  /** STORE_UNAVAILABLE when the store closes before it answers. */
  static async open(store: Store, { now = () => performance.now() }: LivenessOptions = {}): Promise<NodeLiveness> {
    const nodes = store.informer("nodes");
    await nodes.synced();
    return new NodeLiveness(store, nodes, now);
  }

  get(nodeId: string): NodeRecord | undefined {
    const seen = this.#seen.get(nodeId);
    return seen?.missing === true ? undefined : seen?.record;
  }

  /** Whether it has a record and renews it: who wants something done asks such a node. */
  answers(nodeId: string): boolean {
    return this.get(nodeId) !== undefined && this.isAlive(nodeId);
  }

  /** True while its lease, lengthened by `marginMs`, runs: until then it may do what it was allowed to do. */
  isAlive(nodeId: string, marginMs = 0): boolean {
    return this.remainingMs(nodeId, marginMs) > 0;
  }

  /** How long a node that stays silent still counts as alive. */
  remainingMs(nodeId: string, marginMs = 0): number {
    const seen = this.#seen.get(nodeId);
    const end =
      seen === undefined ? this.#openedAt + UNSEEN_LEASE_MS : seen.changedAt + seen.record.leaseSeconds * 1000;
    return Math.max(0, end + marginMs - this.#now());
  }

  /** Nodes that have a record and have not renewed it for a lease and `marginMs`. */
  silent(marginMs = 0): NodeRecord[] {
    return [...this.#seen.values()]
      .filter(({ record, missing }) => !missing && !this.isAlive(record.nodeId, marginMs))
      .map(({ record }) => record);
  }

  /** After a time in which nobody could be heard: all that had a record count as alive for another lease. */
  restart(): void {
    const changedAt = this.#now();
    for (const [nodeId, seen] of this.#seen) this.#seen.set(nodeId, { ...seen, changedAt });
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]();
  }

  #miss(nodeId: string): void {
    const seen = this.#seen.get(nodeId);
    if (seen !== undefined) this.#seen.set(nodeId, { ...seen, missing: true });
    for (const [name, { missing, changedAt }] of this.#seen) {
      if (missing && this.#now() - changedAt > FORGET_MS) this.#seen.delete(name);
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
    const before = this.#seen.get(record.nodeId);
    const changedAt = before?.renewals === renewals ? before.changedAt : this.#now();
    this.#seen.set(record.nodeId, { record, renewals, changedAt, missing: false });
  }
}
