import { FamfsError, type KeyedTryLock, type Logger } from "../base/index.ts";
import type { EventRecorder, NodeLiveness, NodeObjects, Store, StoredRecord } from "../state/index.ts";
import type { VolumeView } from "./volume-view.ts";

/** What every use case of the controller works with. */
export interface ControllerContext {
  readonly store: Store;
  readonly liveness: NodeLiveness;
  readonly nodeObjects: NodeObjects;
  readonly volumes: VolumeView;
  readonly locks: KeyedTryLock;
  readonly logger: Logger;
  readonly events: EventRecorder;
  /** How long CreateVolume waits for a node to format before it answers "still running". */
  readonly formatWaitMs: number;
  /** How long beyond its lease a node is silent before people are told what waits for it. */
  readonly silenceMs: number;
}

/**
 * The lock of a volume, or of a volume on one node, never waited for: CSI "Operation pending for volume". Pods of many
 * nodes want one volume at the same time (the weights of a model), and the CO waits ever longer after an ABORTED; what
 * two nodes may not both have is decided by compare-and-swap of the record, as between two controllers.
 */
export function lockVolume({ locks }: ControllerContext, volumeId: string, nodeId = ""): Disposable {
  const what = nodeId === "" ? `volume ${volumeId}` : `volume ${volumeId} on node ${nodeId}`;
  const lock = locks.tryAcquire(what);
  if (lock === undefined) {
    throw new FamfsError("VOLUME_BUSY", `${what}: another call on it is in progress; try again`);
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
