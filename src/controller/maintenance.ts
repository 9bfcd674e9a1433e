import { type Logger, messageOf, unlessAborted } from "../base/index.ts";
import { type FamfsVolume, type NodeRecord, removeGoneNodes, type StoredRecord } from "../state/index.ts";
import { finishIntent } from "./allocate.ts";
import type { ControllerContext } from "./context.ts";
import { reclaimFailed } from "./create-volume.ts";
import { tellEraseWaits } from "./erase-waits.ts";
import { forgetGoneNodes } from "./gone-from-devices.ts";
import { assignJob, isGone } from "./jobs.ts";
import { endQuarantine, type KnownNodes } from "./quarantine.ts";
import { Revisions } from "./revisions.ts";
import { tellUnreadable } from "./unreadable.ts";

export interface MaintenanceOptions {
  readonly logger: Logger;
  /** Asked before each round. */
  readonly leads: () => boolean;
  readonly periodMs: number;
  /** How long a Pending or Failed volume is left to a repeated CreateVolume. */
  readonly abandonedMs: number;
  /** How often revisions of devices are raised; only tests give another time. */
  readonly raiseMs?: number | undefined;
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
  #resyncedAt = performance.now();
  readonly #revisions: Revisions;

  private constructor(context: ControllerContext, options: MaintenanceOptions) {
    this.#context = context;
    this.#options = options;
    this.#revisions = new Revisions(options.raiseMs);
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

  /** Also where another controller leads: calls are answered from what is followed. */
  async #resync(): Promise<void> {
    const { store, volumes } = this.#context;
    const { signal } = this.#abort;
    const now = performance.now();
    if (now - this.#resyncedAt < Math.max(RESYNC_MS, volumes.size * RESYNC_PER_VOLUME_MS)) return;
    this.#resyncedAt = now;
    for (const kind of ["volumes", "nodes"] as const) {
      await unlessAborted(store.informer(kind).resync(), signal).catch((error: unknown) => {
        if (!signal.aborted) this.#options.logger.warn({ kind, reason: messageOf(error) }, "not read anew");
      });
    }
  }

  async #round(): Promise<void> {
    await this.#resync();
    if (!this.#options.leads()) return;
    tellUnreadable(this.#context);
    const started = performance.now();
    const answered = await maintain(this.#context, this.#options, this.#revisions, this.#abort.signal);
    // Nodes were cut off from the store as well, and have not been heard for that.
    if (!answered || performance.now() - started > OUTAGE_MS) this.#context.liveness.restart();
  }
}

/** How often everything is read, because a watch may be blind; less often where there are many volumes. */
const RESYNC_MS = 30_000;
const RESYNC_PER_VOLUME_MS = 10;

/** A store that took as long to answer was away. */
const OUTAGE_MS = 5_000;

/**
 * One round; answers whether the store could be read. A record that cannot be dealt with is logged and left for the
 * next one.
 */
async function maintain(
  context: ControllerContext,
  { logger, abandonedMs }: Pick<MaintenanceOptions, "logger" | "abandonedMs">,
  revisions: Revisions,
  signal: AbortSignal,
): Promise<boolean> {
  let answered = true;
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
      answered = false;
      logger.warn({ reason: messageOf(error) }, "maintenance cannot read the store");
    }
  };
  const { store } = context;
  const nodes = knownNodes(context);
  const frozen = new Set<string>();
  await each(
    () => store.list("devices"),
    async (device) => {
      if (await revisions.raise(context, device)) frozen.add(device.name);
      else await forgetGoneNodes(context, device, nodes);
      await finishIntent(context, device);
    },
  );
  if (!answered) return false;
  // A store that was restored from a backup says nothing about who is gone.
  if (frozen.size === 0) {
    await removeGoneNodes({ ...context, logger }).catch((error: unknown) => {
      answered = false;
      logger.warn({ reason: messageOf(error) }, "whether silent nodes are gone is not known");
    });
  }
  const isFrozen = ({ regions }: FamfsVolume) => regions.some(({ deviceUuid }) => frozen.has(deviceUuid));
  await each(
    async () => context.volumes.tended(),
    (volume) => tend(context, volume, { abandonedMs, nodes, isFrozen }),
  );
  return answered;
}

/** Whether `tend` may have something to do. The view may be behind: each step below is a compare-and-swap. */
export function needsTending({ phase, staged }: FamfsVolume): boolean {
  return phase !== "Ready" || Object.keys(staged).length > 0;
}

interface Round {
  readonly abandonedMs: number;
  readonly nodes: KnownNodes;
  /** Nothing of it is given up or erased now. */
  readonly isFrozen: (volume: FamfsVolume) => boolean;
}

/** Asked for once in a round, and only when somebody needs it. */
function knownNodes(context: ControllerContext): KnownNodes {
  let read: Promise<readonly NodeRecord[]> | undefined;
  const gone = new Map<string, Promise<boolean>>();
  return {
    records: () => (read ??= context.store.list("nodes")),
    isGone(nodeId) {
      const asked = gone.get(nodeId) ?? isGone(context, nodeId);
      gone.set(nodeId, asked);
      return asked;
    },
  };
}

async function tend(
  context: ControllerContext,
  volume: StoredRecord<"volumes">,
  { abandonedMs, nodes, isFrozen }: Round,
): Promise<void> {
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
      if (!hasKnownNode(context, volume)) await assignJob(context, volume);
      return;
    case "Reclaiming":
      if (volume.regions.length === 0) await store.delete("volumes", volume.name, volume.resourceVersion);
      else if (!isFrozen(volume)) {
        const waiting = await endQuarantine(context, volume, nodes);
        if (!hasKnownNode(context, waiting)) await assignJob(context, waiting);
      }
      return;
    case "Ready":
      if (!isFrozen(volume)) await endQuarantine(context, volume, nodes);
      return;
    default:
      volume.phase satisfies never;
  }
}

/** What every round asks of each volume, so without a request. */
function hasKnownNode({ liveness }: ControllerContext, { jobNode }: FamfsVolume): boolean {
  return jobNode !== undefined && liveness.get(jobNode) !== undefined;
}
