import { FamfsError, type KeyedTryLock, type Logger } from "../base/index.ts";
import type { EventRecorder, NodeLiveness, NodeObjects, Store, StoredRecord, VolumeChanges } from "../state/index.ts";
import type { VolumeView } from "./volume-view.ts";

/** What every use case of the controller works with. */
export interface ControllerContext {
  readonly store: Store;
  readonly liveness: NodeLiveness;
  readonly nodeObjects: NodeObjects;
  readonly changes: VolumeChanges;
  readonly volumes: VolumeView;
  readonly locks: KeyedTryLock;
  readonly logger: Logger;
  readonly events: EventRecorder;
  /** How long CreateVolume waits for a node to format before it answers "still running". */
  readonly formatWaitMs: number;
  /** How long beyond its lease a node is silent before people are told what waits for it. */
  readonly silenceMs: number;
}

/** The lock of a volume, never waited for: CSI "Operation pending for volume". */
export function lockVolume({ locks }: ControllerContext, volumeId: string): Disposable {
  const lock = locks.tryAcquire(volumeId);
  if (lock === undefined) {
    throw new FamfsError("VOLUME_BUSY", `volume ${volumeId}: another call on it is in progress; try again`);
  }
  return lock;
}

/**
 * The lock of a volume on a node. Pods of many nodes want one volume at the same time (the weights of a model), and
 * the CO waits ever longer after an ABORTED; what two nodes may not both have is decided by compare-and-swap of the
 * record, as between two controllers.
 */
export function lockPublication({ locks }: ControllerContext, volumeId: string, nodeId: string): Disposable {
  const lock = locks.tryAcquire(`${volumeId} ${nodeId}`);
  if (lock === undefined) {
    throw new FamfsError(
      "VOLUME_BUSY",
      `volume ${volumeId} on node ${nodeId}: another call on both is in progress; try again`,
    );
  }
  return lock;
}

/**
 * The volume as a CO may know it. VOLUME_NOT_FOUND for one that is being made or was deleted as well: CreateVolume has
 * not answered, DeleteVolume has.
 */
export async function requireVolume({ store }: ControllerContext, volumeId: string): Promise<StoredRecord<"volumes">> {
  const volume = await store.get("volumes", volumeId);
  if (volume === undefined || volume.phase !== "Ready") throw notFound(volumeId);
  return volume;
}

export function notFound(volumeId: string): FamfsError {
  return new FamfsError("VOLUME_NOT_FOUND", `volume ${volumeId} does not exist`);
}
