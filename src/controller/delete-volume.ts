import { FamfsError } from "../base/index.ts";
import { type Store, type StoredRecord, updateRecord } from "../state/index.ts";
import { type ControllerContext, lockVolume } from "./context.ts";
import { assignJob } from "./jobs.ts";

/**
 * Returns when it is durable that the volume is to be erased; a node does that, and only then are the regions free.
 * Nodes that have it staged still, although it is published nowhere, were detached by force and may be silent for long:
 * the erasing waits for them (quarantine.ts), the caller does not. VOLUME_PUBLISHED, VOLUME_BUSY while it is formatted.
 */
export async function deleteVolume(context: ControllerContext, volumeId: string): Promise<void> {
  const { store } = context;
  using _lock = lockVolume(context, volumeId);
  const volume = await updateRecord(store, "volumes", volumeId, async (found) => {
    if (found.phase === "Reclaiming") return undefined;
    await assertDeletable(store, found);
    return { ...found, phase: "Reclaiming", jobNode: undefined, writer: undefined, waiters: [] };
  });
  if (volume === undefined) return;
  // Without regions there is nothing to erase. An intent that names it is dropped by whoever finds it.
  if (volume.regions.length === 0) await store.delete("volumes", volume.name, volume.resourceVersion);
  else await assignJob(context, volume);
  await context.volumes.untilShown(volumeId, (shown) => shown?.phase !== "Ready");
}

async function assertDeletable(store: Store, volume: StoredRecord<"volumes">): Promise<void> {
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
  if (volume.phase === "Formatting" && jobNode !== undefined && (await store.get("nodes", jobNode)) !== undefined) {
    throw new FamfsError("VOLUME_BUSY", `volume ${name} is being formatted by node ${jobNode}; try again`);
  }
}
