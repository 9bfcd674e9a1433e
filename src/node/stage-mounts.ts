import type { MountEntry } from "./mount-table.ts";
import { isMountOf, mountSource } from "./mounts.ts";
import type { StageRecord } from "./stage-records.ts";

/** Where to look for the mounts of a staged volume; without a record (it was lost, or not yet made) by its path alone. */
type Staged = Pick<StageRecord, "volumeId" | "stagingPath" | "device" | "former">;

/**
 * The staging mount and its binds, those of former servers included. The mount table is that of the whole host, where
 * another cluster's node may have the same name and a volume of the same id: what tells them apart is the staging path
 * and the devices that were seen there.
 */
export function mountsOf(nodeId: string, staged: Staged, table: readonly MountEntry[]): MountEntry[] {
  const source = mountSource(nodeId, staged.volumeId);
  const ours = table.filter((entry) => isMountOf(entry, source));
  const atPath = ours.filter(({ target }) => target === staged.stagingPath).map(({ device }) => device);
  const devices = new Set([...atPath, staged.device, ...(staged.former ?? [])]);
  return ours.filter(({ device }) => devices.has(device));
}

/** Devices of its mounts that show somewhere else than at the staging path, for the record's `former`. */
export function formerDevices(nodeId: string, staged: Staged, table: readonly MountEntry[]): string[] {
  const elsewhere = mountsOf(nodeId, staged, table).filter(({ target }) => target !== staged.stagingPath);
  return [...new Set(elsewhere.map(({ device }) => device))];
}
