import { showNames } from "../base/index.ts";
import { FABRIC_SEGMENT } from "../csi/index.ts";
import { type FamfsVolume, type NodeLiveness, problemsOf, type StoredRecord } from "../state/index.ts";

/** A volume in the words of CSI. Everything a node needs is in its record, so the volume context stays empty. */
export function describeVolume({ name, capacityBytes, fabric }: StoredRecord<"volumes">) {
  return {
    volumeId: name,
    capacityBytes: BigInt(capacityBytes),
    volumeContext: {},
    accessibleTopology: [{ segments: { [FABRIC_SEGMENT]: fabric } }],
  };
}

/** Where it is published, and whether something is wrong with it. */
export function describeStatus(volume: FamfsVolume, liveness: NodeLiveness) {
  return {
    publishedNodeIds: Object.keys(volume.published).toSorted(),
    volumeCondition: conditionOf(volume, liveness),
  };
}

function conditionOf(volume: FamfsVolume, liveness: NodeLiveness): { abnormal: boolean; message: string } {
  const reports = problemsOf(volume);
  if (reports.length > 0) return { abnormal: true, message: reports.map(({ message }) => message).join("; ") };
  const silent = Object.keys(volume.published).filter((nodeId) => !liveness.isAlive(nodeId));
  if (silent.length > 0) return { abnormal: true, message: `published to ${showNames(silent)}, which does not answer` };
  return { abnormal: false, message: "the volume is healthy" };
}
