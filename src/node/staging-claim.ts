/**
 * A volume record says which nodes have it staged, so that its region is not reused while one of them may still
 * write, and which owner slot each node has.
 */
import { FamfsError } from "../base/index.ts";
import {
  type FamfsVolume,
  freeSlot,
  type Store,
  type StoredRecord,
  slotCountOf,
  updateRecord,
} from "../state/index.ts";
import { readMountTable } from "./mount-table.ts";
import { rebuiltAt } from "./rebuild.ts";
import { mountsOf } from "./stage-mounts.ts";
import type { StageRecords } from "./stage-records.ts";

export interface NodeIdentity {
  readonly nodeId: string;
  /** Changes with every boot of the host. */
  readonly bootId: string;
}

/** Volumes that may be served: formatted, and not on the way out. Otherwise the error says why not. */
export function assertServable(volumeId: string, volume: FamfsVolume): void {
  switch (volume.phase) {
    case "Ready":
      return;
    case "Pending":
    case "Formatting":
      throw new FamfsError("VOLUME_NOT_READY", `volume ${volumeId} is still being formatted by ${volume.jobNode}`);
    case "Failed":
      throw new FamfsError("VOLUME_NOT_READY", `volume ${volumeId} could not be formatted: ${volume.failure?.message}`);
    case "Reclaiming":
      throw new FamfsError("VOLUME_NOT_FOUND", `volume ${volumeId} was deleted`);
    default:
      volume.phase satisfies never;
  }
}

/**
 * Records that this node stages the volume. One that may write gets an owner slot if it has none; readers need none,
 * so there may be more of them than slots. VOLUME_NOT_FOUND.
 */
export async function claimStaging(
  store: Store,
  volumeId: string,
  node: NodeIdentity,
  { readOnly }: { readonly readOnly: boolean },
): Promise<StoredRecord<"volumes">> {
  const volume = await updateRecord(store, "volumes", volumeId, (record) => {
    assertServable(volumeId, record);
    // A file system of the stock tools has no owner slots: its owner is a host, for good.
    const slot = readOnly || record.adopted ? undefined : (record.slots[node.nodeId] ?? requireSlot(volumeId, record));
    if (record.staged[node.nodeId]?.bootId === node.bootId && record.slots[node.nodeId] === slot) return undefined;
    return {
      ...record,
      staged: { ...record.staged, [node.nodeId]: { bootId: node.bootId } },
      slots: slot === undefined ? record.slots : { ...record.slots, [node.nodeId]: slot },
    };
  });
  if (volume === undefined) throw new FamfsError("VOLUME_NOT_FOUND", `there is no volume ${volumeId}`);
  return volume;
}

/** The opposite: this node cannot write to the region any more. The slot stays its own. */
export async function clearStaging(store: Store, volumeId: string, nodeId: string): Promise<void> {
  await updateRecord(store, "volumes", volumeId, (record) => {
    if (record.staged[nodeId] === undefined) return undefined;
    const { [nodeId]: _, ...staged } = record.staged;
    return { ...record, staged };
  });
}

/**
 * At start: forgets what is mounted nowhere, because the host rebooted, or because of a crash between record and mount.
 */
export async function forgetUnmounted(node: NodeIdentity, records: StageRecords): Promise<void> {
  const table = await readMountTable();
  for (const record of records.all()) {
    if (mountsOf(node.nodeId, record, table).length === 0) await records.delete(record.volumeId);
  }
}

/** After that, over a synced informer: tells the store that no process of ours has mapped what has no record. */
export async function clearStaleStaging(store: Store, node: NodeIdentity, records: StageRecords): Promise<void> {
  for (const volume of [...store.informer("volumes").list()]) {
    if (volume.staged[node.nodeId] !== undefined && records.get(volume.name) === undefined) {
      await clearStaging(store, volume.name, node.nodeId);
    }
  }
}

/**
 * Whether a record that was made again from memory errs about this node: only nodes that wrote are in the
 * memory, and one that did may have it staged no more. Other records are never put right like this: there a missing
 * entry means that the node was given up.
 */
export function needsRepair(
  volume: FamfsVolume & { name: string },
  node: NodeIdentity,
  records: StageRecords,
): boolean {
  if (volume.phase !== "Ready" || rebuiltAt(volume) === undefined) return false;
  return (volume.staged[node.nodeId] === undefined) !== (records.get(volume.name) === undefined);
}

export async function repairStaging(
  { store, node, records }: { store: Store; node: NodeIdentity; records: StageRecords },
  volumeId: string,
): Promise<void> {
  const record = records.get(volumeId);
  if (record === undefined) await clearStaging(store, volumeId, node.nodeId);
  else await claimStaging(store, volumeId, node, record);
}

function requireSlot(volumeId: string, volume: FamfsVolume): number {
  const slot = freeSlot(volume);
  if (slot !== undefined) return slot;
  throw new FamfsError(
    "NOT_SUPPORTED",
    `volume ${volumeId}: ${slotCountOf(volume)} nodes have it for writing, as many as may at a time: detach it from one of them, or use it read-only`,
  );
}
