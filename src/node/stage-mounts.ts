import type { MountEntry } from "./mount-table.ts";
import type { MountNamespace } from "./mount-users.ts";
import { isMountOf, mountSource } from "./mounts.ts";
import type { StageRecord } from "./stage-records.ts";

/** What tells the mounts of a staged volume from others; without a record its path alone. */
type Staged = Pick<StageRecord, "volumeId" | "stagingPath"> & Partial<Pick<StageRecord, "device" | "targets">>;

/**
 * The staging mount and its binds, dead ones of former servers included. The mount table is that of the whole host,
 * where another cluster's node may have the same name and a volume of the same id: what tells them apart is where it is
 * staged and published, and for binds that others made the device.
 */
export function mountsOf(nodeId: string, staged: Staged, table: readonly MountEntry[]): MountEntry[] {
  const source = mountSource(nodeId, staged.volumeId);
  const ours = table.filter((entry) => isMountOf(entry, source));
  const device = ours.findLast(({ target }) => target === staged.stagingPath)?.device ?? staged.device;
  const places = new Set([staged.stagingPath, ...(staged.targets ?? [])]);
  return ours.filter((entry) => entry.device === device || places.has(entry.target));
}

/** Where it is published: of the binds those that are not of a part of it, which the kubelet made (subPath). */
export function targetsOf(nodeId: string, staged: Staged, table: readonly MountEntry[]): string[] {
  const binds = mountsOf(nodeId, staged, table).filter(
    ({ root, target }) => root === "/" && target !== staged.stagingPath,
  );
  return [...new Set(binds.map(({ target }) => target))];
}

/** Those of `devices` that are mounts of the volume somewhere in `namespaces`, other than where it is staged. */
export function devicesIn(
  namespaces: readonly MountNamespace[],
  devices: readonly string[],
  { source, stagingPath }: { readonly source: string; readonly stagingPath: string },
): string[] {
  const shown = namespaces
    .flatMap(({ table }) => table)
    .filter((entry) => isMountOf(entry, source) && entry.target !== stagingPath)
    .map(({ device }) => device);
  return devices.filter((device) => shown.includes(device));
}
