import { setTimeout as sleep } from "node:timers/promises";
import { hasCode, type Logger, messageOf } from "../../base/index.ts";
import { KubernetesApi } from "./api.ts";
import { asRecord, parseObject } from "./api-object.ts";
import { jitteredDelayMs } from "./back-off.ts";
import type { ClusterConnection } from "./connection.ts";

export interface LeaderElectionOptions {
  readonly connection: ClusterConnection;
  /** Name of the Lease, in the namespace of this pod. */
  readonly name: string;
  /** Unique to this process: the pod's name. */
  readonly identity: string;
  readonly logger: Logger;
}

/** A leader that vanishes is replaced after this and one retry; it must fit under 20 s. */
const LEASE_SECONDS = 12;
const RENEW_MS = 3_000;
/** The leader stops counting itself as one this long before others may take over. */
const MARGIN_MS = 3_000;
/** Giving the lease up saves the others a few seconds, which is not worth more. */
const RESIGN_MS = 3_000;

/**
 * One of several controllers is the leader and runs the background loops. Others judge the leader's lease by their own
 * monotonic clock since they saw it change, so clocks of different hosts are never compared. Two may believe to lead
 * for a moment when one of them was stopped: every step of the loops is a compare-and-swap, so that does no harm.
 */
export class LeaderElection implements AsyncDisposable {
  readonly #options: LeaderElectionOptions;
  readonly #api: KubernetesApi;
  readonly #path: string;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;
  #leadsUntil = 0;
  #seen = { version: "", at: 0 };

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#api = new KubernetesApi(options.connection);
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${options.connection.namespace}/leases`;
    this.#running = this.#run();
  }

  get leading(): boolean {
    return performance.now() < this.#leadsUntil;
  }

  /** Gives the lease up, so that another takes over at once. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort();
    await this.#running;
    if (this.leading) {
      this.#leadsUntil = 0;
      await this.#write("", { seconds: 1, signal: AbortSignal.timeout(RESIGN_MS) }).catch((error: unknown) => {
        this.#options.logger.warn({ reason: messageOf(error) }, "the leader's lease runs out by itself");
      });
    }
    this.#api[Symbol.dispose]();
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    const { logger, identity } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      const led = this.leading;
      try {
        await this.#tryLead();
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        failures++;
        if (!hasCode(error, "CONFLICT")) logger.warn({ reason: messageOf(error) }, "leader election");
      }
      if (led !== this.leading) logger.info({ identity }, this.leading ? "leads now" : "leads no longer");
      await sleep(failures > 0 ? jitteredDelayMs(failures) : RENEW_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Renews, or takes a lease that is free or has run out. CONFLICT when another was first. */
  async #tryLead(): Promise<void> {
    const started = performance.now();
    const { signal } = this.#abort;
    const found = await this.#api.request({ method: "GET", path: `${this.#path}/${this.#options.name}`, signal });
    if (found !== undefined) {
      const { metadata, spec } = parseObject("Lease", found);
      const { holderIdentity, leaseDurationSeconds } = asRecord(spec);
      if (metadata.resourceVersion !== this.#seen.version)
        this.#seen = { version: metadata.resourceVersion, at: started };
      const expires = this.#seen.at + Number(leaseDurationSeconds) * 1000;
      const free = typeof holderIdentity !== "string" || holderIdentity === "" || started > expires;
      if (holderIdentity !== this.#options.identity && !free) return;
    }
    await this.#write(this.#options.identity, { seconds: LEASE_SECONDS, signal });
    this.#leadsUntil = started + LEASE_SECONDS * 1000 - MARGIN_MS;
  }

  async #write(
    holderIdentity: string,
    { seconds, signal }: { readonly seconds: number; readonly signal: AbortSignal },
  ): Promise<void> {
    const { name } = this.#options;
    const resourceVersion = this.#seen.version;
    const body = {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name, ...(resourceVersion === "" ? {} : { resourceVersion }) },
      spec: {
        holderIdentity,
        leaseDurationSeconds: seconds,
        renewTime: new Date().toISOString().replace("Z", "000Z"),
      },
    };
    const written = await this.#api.request(
      resourceVersion === ""
        ? { method: "POST", path: this.#path, body, signal }
        : { method: "PUT", path: `${this.#path}/${name}`, body, signal },
    );
    if (written === undefined) {
      this.#seen = { version: "", at: 0 }; // deleted in between: made anew in the next round
      return;
    }
    this.#seen = { version: parseObject("Lease", written).metadata.resourceVersion, at: performance.now() };
  }
}
