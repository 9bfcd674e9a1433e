import { setTimeout as sleep } from "node:timers/promises";
import { FamfsError, hasCode } from "../base/index.ts";
import { type StoredRecord, updateRecord } from "../state/index.ts";
import type { ControllerContext } from "./context.ts";
import { chooseJobNode } from "./jobs.ts";
import { candidateDevices, placeRegion, type Wanted } from "./placement.ts";

/** Each round lost means that another controller allocated on the same device. */
const ROUNDS = 50;

export interface AllocationRequest extends Wanted {
  readonly regionBytes: number;
  readonly signal: AbortSignal;
}

/**
 * Gives a Pending volume its region (docs/decisions/0008): an intent in the device by compare-and-swap, then the
 * region in the volume, then the intent goes. Two controllers never give one region twice, because what is in use is
 * known completely as of the device's version that was read (docs/decisions/0011) and the intent is written only at
 * that version; a volume that got its region in between has changed the device, too. Answers the volume, which may be
 * further on by now.
 * Errors: POOL_FULL, POOL_NOT_FOUND, TOPOLOGY_UNSATISFIABLE, NODE_UNAVAILABLE, CONFLICT.
 */
export async function allocateRegion(
  context: ControllerContext,
  volume: StoredRecord<"volumes">,
  { regionBytes, signal, ...wanted }: AllocationRequest,
): Promise<StoredRecord<"volumes">> {
  const { store, liveness, volumes } = context;
  for (let round = 1; round <= ROUNDS; round++) {
    signal.throwIfAborted();
    const groups = candidateDevices(await store.list("devices"), wanted);
    const unfinished = groups.flat().filter((device) => device.intent !== undefined);
    if (unfinished.length > 0) {
      for (const device of unfinished) await finishIntent(context, device);
      const found = await store.get("volumes", volume.name);
      if (found?.uuid !== volume.uuid || found.phase !== "Pending") return found ?? volume;
      continue;
    }
    const reached = groups.map((group) =>
      group.filter((device) => Object.keys(device.nodes).some((nodeId) => liveness.answers(nodeId))),
    );
    if (reached.flat().length === 0) {
      throw new FamfsError(
        "NODE_UNAVAILABLE",
        "no node that reaches the pool's devices answers: see whether the node plugins there run",
      );
    }
    const isCurrent = async ({ name, resourceVersion }: StoredRecord<"devices">) =>
      (await store.get("devices", name))?.resourceVersion === resourceVersion;
    if (!(await volumes.untilComplete(reached.flat(), { signal, isCurrent }))) {
      await untilNext(round, signal);
      continue;
    }
    const { device, region } = placeRegion(reached, volumes, { capacityBytes: volume.capacityBytes, regionBytes });
    const regionGeneration = volumes.nextGeneration(device);
    const intent = { volume: volume.name, volumeUuid: volume.uuid, regions: [region], regionGeneration };
    try {
      const written = await store.replace("devices", { ...device, generation: regionGeneration, intent });
      await finishIntent(context, written);
    } catch (error) {
      if (!hasCode(error, "CONFLICT")) throw error;
      await untilNext(round, signal);
      continue;
    }
    const found = await store.get("volumes", volume.name);
    if (found !== undefined) return found;
    throw new FamfsError("VOLUME_BUSY", `volume ${volume.name} was deleted while it was made`);
  }
  throw new FamfsError("CONFLICT", `volume ${volume.name}: ${ROUNDS} allocations came first; try again`);
}

async function untilNext(round: number, signal: AbortSignal): Promise<void> {
  await sleep(Math.random() * 5 * round, undefined, { signal });
}

/** Finishes the allocation that a device's record names, whoever began it, and clears it. */
export async function finishIntent(
  { store, liveness }: Pick<ControllerContext, "store" | "liveness">,
  device: StoredRecord<"devices">,
): Promise<void> {
  const { intent } = device;
  if (intent === undefined) return;
  const { volumeUuid, regions, regionGeneration } = intent;
  await updateRecord(store, "volumes", intent.volume, (volume) => {
    // Deleted, made anew under its name, or served by an intent on another device: the regions stay free.
    if (volume.uuid !== volumeUuid || volume.phase !== "Pending") return undefined;
    const jobNode = chooseJobNode(liveness, volume, [device]);
    const { pool, fabric } = device;
    return { ...volume, phase: "Formatting", pool, fabric, regions, regionGeneration, jobNode };
  });
  await updateRecord(store, "devices", device.name, (found) =>
    found.intent?.regionGeneration === regionGeneration ? { ...found, intent: undefined } : undefined,
  );
}
