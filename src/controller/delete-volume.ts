import { FamfsError } from "../base/index.ts";
import { abnormalOn, type FamfsVolume, type StoredRecord, updateRecord } from "../state/index.ts";
import { type ControllerContext, lockVolume } from "./context.ts";
import { assignJob, isGone } from "./jobs.ts";

/**
 * Returns when it is durable that the volume is to be erased; a node does that, and only then are the regions free.
 * Nodes that have it staged still, although it is published nowhere, were detached by force and may be silent for long:
 * the erasing waits for them (quarantine.ts), the caller does not. VOLUME_PUBLISHED, VOLUME_BUSY while it is formatted
 * (not while that waits for lost records to be made again: such a volume has nothing, and goes).
 */
export async function deleteVolume(context: ControllerContext, volumeId: string): Promise<void> {
  const { store } = context;
  using _lock = lockVolume(context, volumeId);
  const volume = await updateRecord(store, "volumes", volumeId, async (found) => {
    if (found.phase === "Reclaiming") return undefined;
    await assertDeletable(context, found);
    const gone = { ...found, phase: "Reclaiming", jobNode: undefined, writer: undefined, waiters: [] } as const;
    if (found.phase !== "Formatting") return gone;
    // A failure says that it was never formatted: what its region holds is not its own. The node that was to format it
    // does this, too, so that the two never meet.
    const failure = { code: "CANCELLED", message: "it was deleted before it was formatted" };
    return { ...gone, failure, jobNode: (await isFormattedBy(context, found)) ? found.jobNode : undefined };
  });
  if (volume === undefined) return;
  // Without regions there is nothing to erase. An intent that names it is dropped by whoever finds it.
  if (volume.regions.length === 0) await store.delete("volumes", volume.name, volume.resourceVersion);
  else await assignJob(context, volume);
  await context.volumes.untilShown(volumeId, (shown) => shown?.phase !== "Ready");
}

async function assertDeletable(context: ControllerContext, volume: StoredRecord<"volumes">): Promise<void> {
  const { name, jobNode } = volume;
  if (volume.adopted) {
    throw new FamfsError(
      "NOT_SUPPORTED",
      `volume ${name} was formatted by the stock tools and is not ours to erase; use the reclaim policy Retain`,
    );
  }
  const published = Object.keys(volume.published);
  if (published.length > 0) {
    throw new FamfsError("VOLUME_PUBLISHED", `volume ${name} is still published to ${published.join(", ")}`);
  }
  if (volume.phase === "Formatting" && !waitsForRecords(volume) && (await isFormattedBy(context, volume))) {
    throw new FamfsError("VOLUME_BUSY", `volume ${name} is being formatted by node ${jobNode}; try again`);
  }
}

async function isFormattedBy(context: ControllerContext, { jobNode }: FamfsVolume): Promise<boolean> {
  return jobNode !== undefined && !(await isGone(context, jobNode));
}

/** Whether its node said that its region holds another volume (volume-jobs.ts): nothing is formatted meanwhile. */
function waitsForRecords({ jobNode, conditions }: FamfsVolume): boolean {
  return conditions.some(({ type, reason }) => type === abnormalOn(jobNode ?? "") && reason === "RecordsLost");
}
