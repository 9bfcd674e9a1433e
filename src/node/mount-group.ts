import { FamfsError } from "../base/index.ts";
import type { StageRecord } from "./stage-records.ts";

/**
 * The group is the volume's on this node until it is unstaged; who asks for none takes it as it is. NOT_SUPPORTED: a
 * pod that runs with another group than it asked for would only find out by EACCES.
 */
export function assertSameGroup({ volumeId, mountGroup }: StageRecord, asked: number | undefined): void {
  if (asked === undefined || asked === mountGroup) return;
  const first = mountGroup === undefined ? "without an fsGroup" : `with fsGroup ${mountGroup}`;
  throw new FamfsError(
    "NOT_SUPPORTED",
    `volume ${volumeId} is staged here ${first}, not with fsGroup ${asked}: give pods that share a volume on a node the ` +
      "same fsGroup, or keep them on different nodes",
  );
}
