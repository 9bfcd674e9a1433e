import { FamfsError, hasCode, type Logger } from "../base/index.ts";
import type { EventRecorder, Heartbeat, StoredRecord, WriterGrants } from "../state/index.ts";
import type { WriterTerms } from "./fuse-server/messages.ts";
import { monotonicMs } from "./fuse-server/sessions.ts";
import type { FuseServerSupervisor } from "./fuse-server/supervisor.ts";

export interface WriterBrokerOptions {
  readonly nodeId: string;
  readonly grants: Pick<WriterGrants, "acquire" | "release">;
  readonly heartbeat: Heartbeat;
  readonly server: () => Pick<FuseServerSupervisor, "ask" | "serves">;
  readonly events: EventRecorder;
  readonly logger: Logger;
}

/** Asked again while another node still waits. */
const HAND_OVER_TIMEOUT_MS = 10_000;
const LEASE_TIMEOUT_MS = 5_000;
/** A renewal moves the end of the lease by seconds; less than this is how exactly it is known. */
const TOLD_AGAIN_MS = 50;

/**
 * Between the FUSE server, which needs writer grants, and the store, which has them: takes them on demand, asks the
 * server to hand one over when another node waits, and pauses the writers while the node's lease cannot be renewed.
 */
export class WriterBroker implements AsyncDisposable {
  readonly #options: WriterBrokerOptions;
  readonly #stop = new AbortController();
  /** Epochs held, by volume. */
  readonly #held = new Map<string, number>();
  /** The request of each volume's server that waits. */
  readonly #waits = new Map<string, { readonly stop: AbortController; readonly work: Promise<WriterTerms> }>();
  readonly #handingOver = new Map<string, Promise<void>>();
  /** Records that came too early: before the store has answered who has the grant, or while it is handed over. */
  readonly #later = new Map<string, StoredRecord<"volumes">>();
  readonly #timer: NodeJS.Timeout;
  readonly #marginMs: number;
  #stalled = false;
  #stalledAt = 0;
  /** Volumes that had a grant: each is told how long it may go on, also between two grants, or it would wait for ever. */
  readonly #told = new Set<string>();
  /** As they were told last. */
  #toldUntilMs = 0;
  /** Volumes whose writers are known to wait. */
  readonly #paused = new Set<string>();

  constructor(options: WriterBrokerOptions) {
    this.#options = options;
    const leaseMs = options.heartbeat.node.leaseSeconds * 1000;
    this.#marginMs = leaseMs / 4;
    this.#timer = setInterval(() => this.#watchLease(this.#marginMs), leaseMs / 20);
    this.#timer.unref();
  }

  /**
   * Waits for the grant. A server asks anew only when it has given its former request up: that one ends first, and
   * what it was granted in its last moment is superseded by a higher epoch. OWNER_BUSY, CANCELLED.
   */
  async acquire(request: { volumeId: string; timeoutMs: number; highestEpoch: number }): Promise<WriterTerms> {
    const { volumeId } = request;
    const former = this.#waits.get(volumeId);
    const stop = new AbortController();
    const work = (async () => {
      former?.stop.abort(cancelled(volumeId, "its server asked anew"));
      await former?.work.catch(() => undefined);
      stop.signal.throwIfAborted();
      return await this.#acquire(request, stop.signal);
    })();
    const wait = { stop, work };
    this.#waits.set(volumeId, wait);
    try {
      return await work;
    } finally {
      if (this.#waits.get(volumeId) === wait) this.#waits.delete(volumeId);
    }
  }

  /** Gives back what was granted as `epoch`; touches neither a newer grant nor a request that waits. */
  async release({ volumeId, epoch }: { volumeId: string; epoch: number }): Promise<void> {
    await this.#options.grants.release(volumeId, epoch);
    if (this.#held.get(volumeId) === epoch) this.#held.delete(volumeId);
  }

  /** The volume is served here no more: nobody waits for its grant, and a held one is given back. */
  async forget(volumeId: string): Promise<void> {
    const wait = this.#waits.get(volumeId);
    wait?.stop.abort(cancelled(volumeId, "the volume is served here no more"));
    await wait?.work.catch(() => undefined);
    const epoch = this.#held.get(volumeId);
    if (epoch !== undefined) await this.release({ volumeId, epoch });
    this.#told.delete(volumeId);
    this.#later.delete(volumeId);
  }

  /** With every change of a volume's record: gives way to a node that waits. */
  consider(volume: StoredRecord<"volumes">): void {
    const { nodeId } = this.#options;
    if (volume.writer?.nodeId !== nodeId || this.#stop.signal.aborted) return;
    if (!volume.waiters.some((waiter) => waiter !== nodeId)) return;
    const isEarly = this.#waits.has(volume.name) && this.#held.get(volume.name) !== volume.writer.epoch;
    if (isEarly || this.#handingOver.has(volume.name)) {
      this.#later.set(volume.name, volume);
      return;
    }
    const work = this.#handOver(volume.name, volume.writer.epoch).finally(() => {
      this.#handingOver.delete(volume.name);
      this.#considerAgain(volume.name);
    });
    this.#handingOver.set(volume.name, work);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort(new FamfsError("NODE_UNAVAILABLE", "the node plugin is stopping"));
    await Promise.all(this.#handingOver.values());
    const volumes = new Set([...this.#waits.keys(), ...this.#held.keys()]);
    await Promise.allSettled([...volumes].map((volumeId) => this.forget(volumeId)));
  }

  async #acquire(
    { volumeId, timeoutMs, highestEpoch }: { volumeId: string; timeoutMs: number; highestEpoch: number },
    signal: AbortSignal,
  ): Promise<WriterTerms> {
    const grant = await this.#options.grants.acquire(volumeId, {
      highestInMemory: () => highestEpoch,
      timeoutMs: Math.ceil(timeoutMs), // AbortSignal.timeout takes whole milliseconds only
      signal: AbortSignal.any([this.#stop.signal, signal]),
    });
    this.#held.set(volumeId, grant.epoch);
    this.#considerAgain(volumeId);
    this.#told.add(volumeId);
    this.#tell(volumeId);
    return grant;
  }

  /** Once the server has its answer: it gives nothing up before. */
  #considerAgain(volumeId: string): void {
    const volume = this.#later.get(volumeId);
    this.#later.delete(volumeId);
    if (volume !== undefined) setImmediate(() => this.consider(volume));
  }

  async #handOver(volumeId: string, epoch: number): Promise<void> {
    const { server, grants, logger } = this.#options;
    try {
      // What no process of ours serves, a former one left behind: it is gone, so nothing can write under this epoch.
      if (!server().serves(volumeId)) return await grants.release(volumeId, epoch);
      const request = { volumeId, forced: false, timeoutMs: HAND_OVER_TIMEOUT_MS };
      while (!this.#stop.signal.aborted && this.#held.get(volumeId) === epoch) {
        const done = await server().ask("handOver", request, { timeoutMs: HAND_OVER_TIMEOUT_MS + 5_000 });
        // Done without a release: the server held nothing, so what the store says is left from before.
        if (done) return await this.release({ volumeId, epoch });
      }
    } catch (error) {
      // The next change of the record, or the lease's end, brings the other node forward.
      if (!hasCode(error, "VOLUME_NOT_STAGED"))
        logger.warn({ volumeId, err: error }, "handing the writer grant over failed");
    }
  }

  #watchLease(marginMs: number): void {
    const leftMs = this.#options.heartbeat.remainingMs() - marginMs;
    const stalled = leftMs < 0;
    if (stalled) this.#tellPaused();
    // A word with each renewal, so that a server whose plugin hangs knows when to stop.
    if (!stalled && monotonicMs() + leftMs > this.#toldUntilMs + TOLD_AGAIN_MS) this.#tellAll();
    if (stalled === this.#stalled) return;
    this.#stalled = stalled;
    this.#stalledAt = performance.now();
    const { logger } = this.#options;
    if (stalled) logger.warn({}, "the node's lease is about to run out: writers pause until it is renewed");
    else {
      logger.info({}, "the node's lease was renewed: writers go on");
      this.#tellResumed();
    }
    this.#tellAll();
  }

  #tellAll(): void {
    this.#toldUntilMs = this.#goodUntilMs() ?? 0;
    for (const volumeId of this.#told) this.#tell(volumeId);
  }

  /** Until when writers may go on. */
  #goodUntilMs(): number | undefined {
    const leftMs = this.#options.heartbeat.remainingMs() - this.#marginMs;
    return leftMs < 0 ? undefined : monotonicMs() + leftMs;
  }

  #tell(volumeId: string): void {
    const { server, logger } = this.#options;
    server()
      .ask("lease", { volumeId, goodUntilMs: this.#goodUntilMs() }, { timeoutMs: LEASE_TIMEOUT_MS })
      .catch((error: unknown) => {
        // Unstaged, or lost with its server, meanwhile: there is nobody to tell.
        if (!hasCode(error, "VOLUME_NOT_STAGED")) {
          logger.warn({ volumeId, err: error }, "the FUSE server does not know how long its writers may go on");
        }
      });
  }

  /** A short pause is nothing to tell anybody. */
  #tellPaused(): void {
    const { nodeId, heartbeat, events } = this.#options;
    const { leaseSeconds } = heartbeat.node;
    if (!this.#stalled || performance.now() - this.#stalledAt < leaseSeconds * 1000) return;
    for (const volumeId of this.#held.keys()) {
      if (this.#paused.has(volumeId)) continue;
      this.#paused.add(volumeId);
      const message = `node ${nodeId} could not renew its lease for more than ${leaseSeconds} s: its writers wait`;
      events.record({ reason: "WritersPaused", volumeId, message });
    }
  }

  #tellResumed(): void {
    const { nodeId, events } = this.#options;
    for (const volumeId of this.#paused) {
      events.record({
        reason: "WritersResumed",
        volumeId,
        message: `node ${nodeId} renewed its lease: its writers go on`,
      });
    }
    this.#paused.clear();
  }
}

function cancelled(volumeId: string, why: string): FamfsError {
  return new FamfsError("CANCELLED", `volume ${volumeId}: a request for the writer grant ended: ${why}`);
}
