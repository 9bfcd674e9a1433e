import { setTimeout as delay } from "node:timers/promises";
import { FamfsError, hasCode, type Logger, messageOf } from "../base/index.ts";
import type { CallContext } from "../csi/index.ts";
import { bounded } from "./bounded.ts";
import type { NodeVolumes } from "./node-volumes.ts";
import { podsOf, showPods } from "./pods.ts";
import type { StageRecords } from "./stage-records.ts";
import type { VolumeConditions } from "./volume-conditions.ts";

export interface RestagerOptions {
  readonly nodeId: string;
  readonly records: Pick<StageRecords, "get" | "all">;
  readonly volumes: Pick<NodeVolumes, "restage" | "broken">;
  readonly serves: (volumeId: string) => boolean;
  readonly conditions: Pick<VolumeConditions, "report" | "over">;
  /** Nothing writes under the volume's grant any more. */
  readonly release: (volumeId: string) => Promise<void>;
  readonly logger: Logger;
}

/** What was tried and failed is tried again after this, then after twice that, and so on. */
const RETRY_MS = { first: 1_000, most: 60_000 };
/** Servers that die within this time have something in common: volumes are given to the next one later each time. */
const CALM_MS = 10 * 60_000;
const DEATH_DELAY_MS = { first: 1_000, most: 60_000 };
/** The kubelet calls again. */
const CALL_TIMEOUT_MS = 15_000;

/** One volume on its way back. */
interface Recovery {
  /** Why it is not served: the beginning of a sentence. */
  cause: string;
  /** A server died: not before this is over, whoever asks. */
  notBefore: number;
  /** Servers that died with it. */
  deaths: number;
  /** Ends the wait for the next attempt. */
  wake: AbortController;
  /** What the attempt that is made now, or the next one, fails with; undefined: it is served. Never rejects. */
  outcome: PromiseWithResolvers<unknown>;
}

function early({ notBefore }: Recovery): number {
  return Math.max(0, notBefore - performance.now());
}

/**
 * Serves again what the stage records say is staged and nobody serves: at the start of the plugin, when the FUSE server
 * died, and when a pod is to get such a volume. The CO would not call NodeStageVolume while a pod on this node has it.
 * A volume that fails is tried again, less and less often, until it is served or unstaged, and harms no other.
 */
export class Restager implements AsyncDisposable {
  readonly #options: RestagerOptions;
  readonly #stop = new AbortController();
  readonly #recoveries = new Map<string, Recovery>();
  readonly #running = new Set<Promise<void>>();
  /** Volumes that were served again, and why, as long as there may be containers with dead mounts. */
  readonly #broken = new Map<string, string>();
  #deaths: number[] = [];

  constructor(options: RestagerOptions) {
    this.#options = options;
  }

  /** When the plugin starts: answers when each recorded volume was tried, once more if it was before. */
  async start(): Promise<void> {
    const { nodeId, records } = this.#options;
    const cause = `the node plugin of ${nodeId} was restarted`;
    await Promise.all(records.all().map(({ volumeId }) => this.#recover(volumeId, cause).outcome.promise));
  }

  /** The FUSE server died with these volumes. */
  serverDied(volumeIds: readonly string[], reason: string): void {
    const { nodeId, records, conditions, release, logger } = this.#options;
    const now = performance.now();
    this.#deaths = [...this.#deaths.filter((at) => at > now - CALM_MS), now];
    const count = this.#deaths.length;
    const delayMs = count < 2 ? 0 : Math.min(DEATH_DELAY_MS.first * 2 ** (count - 2), DEATH_DELAY_MS.most);
    const cause = `the FUSE server of node ${nodeId} died (${reason})`;
    const often = `${count} times within ${CALM_MS / 60_000} minutes`;
    const next =
      count < 2 ? "its volumes are served again" : `${often}: its volumes are served again in ${delayMs / 1000} s`;
    for (const volumeId of volumeIds) {
      if (records.get(volumeId) === undefined) continue; // it was just being staged: that call fails
      release(volumeId).catch((error: unknown) =>
        logger.warn({ volumeId, err: error }, "the writer grant of a lost volume was not given back"),
      );
      const pods = podsOf(records.get(volumeId));
      this.#say(
        volumeId,
        conditions.report(volumeId, { reason: "FuseServerDied", message: `${cause}: ${next}`, pods }),
      );
      const recovery = this.#recover(volumeId, cause);
      recovery.cause = cause;
      recovery.deaths++;
      recovery.notBefore = now + delayMs;
    }
  }

  /** Waits, not for long, until a volume is served again. NODE_UNAVAILABLE: not yet; it is tried on. */
  async served(volumeId: string, call: CallContext): Promise<void> {
    const cause = `it was not served on node ${this.#options.nodeId}`;
    const { outcome } = this.#recover(volumeId, cause);
    const timeoutMs = Math.min(CALL_TIMEOUT_MS, call.remainingMs() / 2);
    let error: unknown;
    try {
      error = await bounded(outcome.promise, { what: "serving it again", timeoutMs, signal: call.signal });
    } catch (tooLong) {
      error = tooLong;
    }
    if (error === undefined) return;
    if (hasCode(error, "VOLUME_BUSY")) throw error;
    throw new FamfsError(
      "NODE_UNAVAILABLE",
      `volume ${volumeId} is not served again yet (${messageOf(error)}); try again`,
      {
        cause: error,
      },
    );
  }

  /** Looks whether a volume that was served again has pods whose containers did not get that. */
  look(volumeId: string, { first = false } = {}): void {
    const cause = this.#broken.get(volumeId);
    if (cause !== undefined) this.#say(volumeId, this.#look(volumeId, cause, { first }));
  }

  /** All of them: what ends by itself, as a container does that starts again, nobody tells. */
  async lookAtAll(): Promise<void> {
    for (const volumeId of this.#broken.keys()) this.look(volumeId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running);
  }

  /** Begins it, or hurries the one that is going on. */
  #recover(volumeId: string, cause: string): Recovery {
    const present = this.#recoveries.get(volumeId);
    if (present !== undefined) {
      present.wake.abort();
      return present;
    }
    const recovery: Recovery = {
      cause,
      notBefore: 0,
      deaths: 0,
      wake: new AbortController(),
      outcome: Promise.withResolvers<unknown>(),
    };
    this.#recoveries.set(volumeId, recovery);
    const run = this.#run(volumeId, recovery).finally(() => this.#running.delete(run));
    this.#running.add(run);
    return recovery;
  }

  async #run(volumeId: string, recovery: Recovery): Promise<void> {
    const stop = this.#stop.signal;
    const wait = (ms: number, signal = stop) => delay(ms, undefined, { signal }).catch(() => undefined);
    await Promise.resolve(); // whoever began it says first what happened
    for (let retryMs = RETRY_MS.first; !stop.aborted; retryMs = Math.min(2 * retryMs, RETRY_MS.most)) {
      while (early(recovery) > 0 && !stop.aborted) await wait(early(recovery));
      const { deaths } = recovery;
      const error = await this.#attempt(volumeId, recovery);
      const again = recovery.deaths > deaths;
      if (error === undefined && again) continue;
      // In one go: whoever comes after this begins anew.
      if (error === undefined) this.#recoveries.delete(volumeId);
      const { outcome } = recovery;
      recovery.outcome = Promise.withResolvers<unknown>();
      outcome.resolve(error);
      if (error === undefined) return;
      recovery.wake = new AbortController();
      await wait(retryMs, AbortSignal.any([recovery.wake.signal, stop]));
    }
    recovery.outcome.resolve(new FamfsError("NODE_UNAVAILABLE", "the node plugin is stopping"));
  }

  /** What it failed with. */
  async #attempt(volumeId: string, recovery: Recovery): Promise<unknown> {
    const { volumes, logger } = this.#options;
    try {
      const failures = await volumes.restage(volumeId);
      if (failures === undefined) return undefined;
      if (failures.length > 0) {
        throw new FamfsError("NODE_UNAVAILABLE", `it is not mounted again at ${failures.join("; ")}`);
      }
    } catch (error) {
      if (this.#isQuiet(volumeId, error)) logger.info({ volumeId, reason: messageOf(error) }, "to be looked at again");
      else this.#tellFailure(volumeId, recovery, error);
      return error;
    }
    logger.info({ volumeId, cause: recovery.cause }, "served again");
    this.#broken.set(volumeId, recovery.cause);
    this.look(volumeId, { first: true });
    return undefined;
  }

  /**
   * Another call is about it; it was taken from this node, which is told as that; or the store is away, or knows
   * nothing.
   */
  #isQuiet(volumeId: string, error: unknown): boolean {
    if (hasCode(error, "VOLUME_NOT_FOUND")) return this.#options.serves(volumeId);
    return hasCode(error, "VOLUME_BUSY", "VOLUME_NOT_READY", "STORE_UNAVAILABLE", "STORE_RESTORED");
  }

  #tellFailure(volumeId: string, { cause }: Recovery, error: unknown): void {
    const { conditions, records, logger } = this.#options;
    logger.error({ volumeId, err: error }, `not served again: ${cause}`);
    const message = `${cause}, and the volume is not served again yet: ${messageOf(error)}`;
    this.#say(
      volumeId,
      conditions.report(volumeId, { reason: "NotServed", message, pods: podsOf(records.get(volumeId)) }),
    );
  }

  async #look(volumeId: string, cause: string, { first }: { readonly first: boolean }): Promise<void> {
    const { conditions, volumes } = this.#options;
    const broken = await volumes.broken(volumeId);
    if (this.#recoveries.has(volumeId) || this.#broken.get(volumeId) !== cause) return; // it was lost again meanwhile
    if (broken.length > 0) {
      const message = `${cause}: containers of ${showPods(broken)} that ran then still have a dead mount`;
      const pods = broken.filter((each) => typeof each !== "string");
      return await conditions.report(volumeId, { reason: "MountsBroken", message, pods });
    }
    // Whatever was wrong with the server that is gone is over, too.
    await conditions.over(volumeId, first ? undefined : ["MountsBroken"]);
    if (this.#broken.get(volumeId) === cause) this.#broken.delete(volumeId);
  }

  #say(volumeId: string, saying: Promise<void>): void {
    saying.catch((error: unknown) => {
      this.#options.logger.warn({ volumeId, err: error }, "the volume's record does not say how it is");
    });
  }
}
