import { type Logger, messageOf } from "../base/index.ts";
import { type FamfsVolume, type Store, type StoredRecord, updateRecord } from "../state/index.ts";
import { finishIntent } from "./allocate.ts";
import type { ControllerContext } from "./context.ts";
import { reclaimFailed } from "./create-volume.ts";
import { nodesThatMayWrite } from "./delete-volume.ts";
import { tellEraseWaits } from "./erase-waits.ts";
import { assignJob } from "./jobs.ts";

export interface MaintenanceOptions {
  readonly logger: Logger;
  /** Asked before each round. */
  readonly leads: () => boolean;
  readonly periodMs: number;
  /** How long a Pending or Failed volume is left to a repeated CreateVolume. */
  readonly abandonedMs: number;
}

/**
 * What has to go on although nobody calls: run by one controller at a time where there are several, and harmless when
 * two do, because each step is a compare-and-swap.
 */
export class Maintenance implements AsyncDisposable {
  readonly #context: ControllerContext;
  readonly #options: MaintenanceOptions;
  readonly #abort = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  private constructor(context: ControllerContext, options: MaintenanceOptions) {
    this.#context = context;
    this.#options = options;
  }

  static start(context: ControllerContext, options: MaintenanceOptions): Maintenance {
    const maintenance = new Maintenance(context, options);
    maintenance.#schedule(0);
    return maintenance;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  #schedule(delayMs: number): void {
    this.#timer = setTimeout(() => {
      this.#running = this.#round().then(() => {
        if (!this.#abort.signal.aborted) this.#schedule(this.#options.periodMs);
      });
    }, delayMs);
    this.#timer.unref();
  }

  async #round(): Promise<void> {
    if (this.#options.leads()) await maintain(this.#context, this.#options, this.#abort.signal);
  }
}

/** One round. A record that cannot be dealt with is logged and left for the next one. */
export async function maintain(
  context: ControllerContext,
  { logger, abandonedMs }: Pick<MaintenanceOptions, "logger" | "abandonedMs">,
  signal: AbortSignal,
): Promise<void> {
  const each = async <T extends { readonly name: string }>(
    records: () => Promise<readonly T[]>,
    work: (record: T) => Promise<void>,
  ) => {
    try {
      for (const record of await records()) {
        if (signal.aborted) return;
        await work(record).catch((error: unknown) => {
          logger.warn({ record: record.name, reason: messageOf(error) }, "left for the next round");
        });
      }
    } catch (error) {
      logger.warn({ reason: messageOf(error) }, "maintenance cannot read the store");
    }
  };
  const { store } = context;
  await each(
    () => store.list("devices"),
    (device) => finishIntent(context, device),
  );
  await each(
    async () => context.volumes.tended(),
    (volume) => tend(context, volume, abandonedMs),
  );
}

/** Whether `tend` may have something to do. The view may be behind: each step below is a compare-and-swap. */
export function needsTending({ phase, staged }: FamfsVolume): boolean {
  return phase !== "Ready" || Object.keys(staged).length > 0;
}

async function tend(context: ControllerContext, volume: StoredRecord<"volumes">, abandonedMs: number): Promise<void> {
  const { store } = context;
  const abandoned = Date.now() - Date.parse(volume.createdAt) > abandonedMs;
  tellEraseWaits(context, volume);
  switch (volume.phase) {
    case "Pending":
      // Every intent was finished above, so it has none. A call that is about to make one loses its compare-and-swap.
      if (abandoned) await store.delete("volumes", volume.name, volume.resourceVersion);
      return;
    case "Failed":
      if (abandoned) await reclaimFailed(context, volume);
      return;
    case "Formatting":
      if (!isWithKnownNodes(context, volume)) await assignJob(context, volume);
      return;
    case "Reclaiming":
      if (volume.regions.length === 0) await store.delete("volumes", volume.name, volume.resourceVersion);
      else if (!isWithKnownNodes(context, volume)) await assignJob(context, volume);
      return;
    case "Ready":
      if (!isWithKnownNodes(context, volume)) await dropGoneNodes(store, volume);
      return;
    default:
      volume.phase satisfies never;
  }
}

/** What every round asks of each volume, so without a request: nothing that it is given to is gone. */
function isWithKnownNodes({ liveness }: ControllerContext, { phase, jobNode, staged }: FamfsVolume): boolean {
  if (phase !== "Ready") return jobNode !== undefined && liveness.get(jobNode) !== undefined;
  return Object.entries(staged).every(([nodeId, { bootId }]) => liveness.get(nodeId)?.bootId === bootId);
}

/** Nodes that are gone for good, or booted since, have nothing staged any more. */
async function dropGoneNodes(store: Store, volume: StoredRecord<"volumes">): Promise<void> {
  const remaining = async (found: FamfsVolume) => {
    const holding = new Set(nodesThatMayWrite(found, await store.list("nodes")));
    return Object.fromEntries(Object.entries(found.staged).filter(([nodeId]) => holding.has(nodeId)));
  };
  const same = (a: object, b: object) => Object.keys(a).length === Object.keys(b).length;
  if (same(volume.staged, await remaining(volume))) return;
  await updateRecord(store, "volumes", volume.name, async (found) => {
    const staged = await remaining(found);
    return same(staged, found.staged) ? undefined : { ...found, staged };
  });
}
