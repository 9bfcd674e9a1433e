import { FamfsError } from "../base/index.ts";
import { type NodeLiveness, TAKE_OVER_MARGIN_MS } from "./liveness.ts";
import { freeSlot, slotCountOf } from "./owner-slots.ts";
import type { FamfsVolume } from "./records.ts";
import { type Store, type StoredRecord, updateRecord } from "./store.ts";

export interface WriterGrantsOptions {
  readonly store: Store;
  readonly nodeId: string;
  readonly liveness: NodeLiveness;
  /** Added to a silent holder's lease before it is taken over; only tests give another one. */
  readonly marginMs?: number;
}

export interface Grant {
  /** To be written into `slot` in memory before the first append. */
  readonly epoch: number;
  readonly slot: number;
}

export interface AcquireOptions {
  /** Reads the highest epoch from the volume's memory; called before each attempt. */
  readonly highestInMemory: () => Promise<number> | number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Errors that end waiting: OWNER_BUSY, or why this node may not write at all. */
type Answer = { readonly grant: Grant } | { readonly busy: string; readonly retryMs: number };

/**
 * The writer grant of each volume, as one node sees it: a field of the volume's record that changes by
 * compare-and-swap only, with the nodes that wait for it in order beside it. It is good while the holder's heartbeat
 * is. Nothing here touches memory: the caller writes the epoch it gets into its owner slot.
 */
export class WriterGrants {
  readonly #options: Required<WriterGrantsOptions>;

  constructor(options: WriterGrantsOptions) {
    this.#options = { marginMs: TAKE_OVER_MARGIN_MS, ...options };
  }

  /**
   * Waits in the queue until the grant is given up, runs out or was never taken. Each success hands out a new epoch,
   * also to the present holder. OWNER_BUSY after `timeoutMs`, naming the holder; READ_ONLY when the node has the
   * volume for reading; VOLUME_NOT_FOUND; the signal's reason. Whatever the end, the node no longer waits.
   */
  async acquire(volume: string, { highestInMemory, timeoutMs, signal }: AcquireOptions): Promise<Grant> {
    const timeout = AbortSignal.timeout(timeoutMs);
    const either = AbortSignal.any([signal, timeout]);
    let holder = "another node";
    try {
      for (;;) {
        const answer = await this.tryTake(volume, await highestInMemory());
        if ("grant" in answer) return answer.grant;
        holder = answer.busy;
        if (either.aborted) break;
        await this.#enqueue(volume);
        await this.#untilChanged(volume, answer.retryMs, either);
      }
    } catch (error) {
      await this.withdraw(volume).catch(() => {}); // the first error is the one to tell
      throw error;
    }
    await this.withdraw(volume);
    signal.throwIfAborted();
    throw new FamfsError(
      "OWNER_BUSY",
      `volume ${volume}: node ${holder} has the writer grant and did not give it up within ${timeoutMs} ms`,
      { details: { nodeId: holder } },
    );
  }

  /** Takes the grant if it can be had now: otherwise who has it, and when its lease would run out. */
  async tryTake(volume: string, highestInMemory: number): Promise<Answer> {
    const { store, nodeId, liveness, marginMs } = this.#options;
    let answer: Answer | undefined;
    const found = await updateRecord(store, "volumes", volume, async (record) => {
      this.#mayWrite(record);
      const holder = record.writer?.nodeId;
      if (holder !== undefined && holder !== nodeId) await liveness.lookAgain(holder, marginMs);
      const ahead = this.#ahead(record);
      if (ahead !== undefined) {
        answer = ahead;
        return undefined;
      }
      const epoch = Math.max(record.epoch, highestInMemory) + 1;
      const slot = record.slots[nodeId] ?? slotFor(record);
      answer = { grant: { epoch, slot } };
      return {
        ...record,
        writer: { nodeId, epoch, since: new Date().toISOString() },
        waiters: record.waiters.filter((each) => each !== nodeId && liveness.isAlive(each, marginMs)),
        epoch,
        slots: { ...record.slots, [nodeId]: slot },
      };
    });
    if (found === undefined || answer === undefined) throw missing(volume);
    return answer;
  }

  /** Gives the grant up. Nothing happens when it is no longer this node's at `epoch`. */
  async release(volume: string, epoch: number): Promise<void> {
    const { store, nodeId } = this.#options;
    await updateRecord(store, "volumes", volume, (record) =>
      record.writer?.nodeId === nodeId && record.writer.epoch === epoch ? { ...record, writer: undefined } : undefined,
    );
  }

  /** Leaves the queue. */
  async withdraw(volume: string): Promise<void> {
    const { store, nodeId } = this.#options;
    await updateRecord(store, "volumes", volume, (record) =>
      record.waiters.includes(nodeId)
        ? { ...record, waiters: record.waiters.filter((each) => each !== nodeId) }
        : undefined,
    );
  }

  /**
   * Leaves every queue: at start, because a former process of this node may have been killed while it waited. The
   * informer of volumes was synced since.
   */
  async withdrawAll(): Promise<void> {
    const { store, nodeId } = this.#options;
    for (const record of [...store.informer("volumes").list()]) {
      if (record.waiters.includes(nodeId)) await this.withdraw(record.name);
    }
  }

  async #enqueue(volume: string): Promise<void> {
    const { store, nodeId } = this.#options;
    await updateRecord(store, "volumes", volume, (record) => {
      this.#mayWrite(record);
      return record.waiters.includes(nodeId) ? undefined : { ...record, waiters: [...record.waiters, nodeId] };
    });
  }

  #mayWrite(record: StoredRecord<"volumes">): void {
    const { nodeId } = this.#options;
    if (record.phase !== "Ready") {
      throw new FamfsError("VOLUME_NOT_READY", `volume ${record.name} is ${record.phase}; nothing can be written`);
    }
    const use = record.published[nodeId];
    if (use === undefined || use.readonly || record.adopted) {
      throw new FamfsError("READ_ONLY", `volume ${record.name} is attached to node ${nodeId} for reading only`);
    }
  }

  /** The live node that comes before this one: the holder, or an earlier waiter for a free grant. */
  #ahead(record: FamfsVolume): Extract<Answer, { busy: string }> | undefined {
    const { nodeId, liveness, marginMs } = this.#options;
    if (record.writer?.nodeId === nodeId) return undefined;
    const position = record.waiters.indexOf(nodeId);
    const earlier = position < 0 ? record.waiters : record.waiters.slice(0, position);
    const rivals = record.writer === undefined ? earlier : [record.writer.nodeId, ...earlier];
    const busy = rivals.find((each) => liveness.isAlive(each, marginMs));
    return busy === undefined ? undefined : { busy, retryMs: liveness.remainingMs(busy, marginMs) };
  }

  /** Returns when the volume's record has changed, `retryMs` have passed or `signal` aborts. */
  async #untilChanged(volume: string, retryMs: number, signal: AbortSignal): Promise<void> {
    const { store } = this.#options;
    const stop = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(retryMs) + 1)]);
    let version: string | undefined;
    const changed = async () => {
      const record = await store.get("volumes", volume);
      if (record === undefined || !this.#blocked(record)) return true;
      if (version !== undefined && version !== record.resourceVersion) return true;
      version = record.resourceVersion;
      return undefined;
    };
    await store.informer("volumes").until(changed, { signal: stop, name: volume });
  }

  #blocked(record: StoredRecord<"volumes">): boolean {
    return this.#ahead(record) !== undefined;
  }
}

function slotFor(record: StoredRecord<"volumes">): number {
  const slot = freeSlot(record);
  if (slot !== undefined) return slot;
  throw new FamfsError(
    "NOT_SUPPORTED",
    `volume ${record.name}: all ${slotCountOf(record)} owner slots belong to nodes that have it; detach it from one`,
  );
}

function missing(volume: string): FamfsError {
  return new FamfsError("VOLUME_NOT_FOUND", `volume ${volume} does not exist`);
}
