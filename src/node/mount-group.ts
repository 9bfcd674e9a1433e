import type { EventRecorder, PodName } from "../state/index.ts";
import type { StageRecord } from "./stage-records.ts";

/** The first fsGroup on a node is what the volume is served with until it is unstaged: a later, different one is told. */
export function warnOfOtherGroup({
  events,
  nodeId,
  record: { volumeId, mountGroup },
  asked,
  pod,
}: {
  readonly events: EventRecorder;
  readonly nodeId: string;
  readonly record: StageRecord;
  readonly asked: number | undefined;
  /** Undefined: it is staged again. */
  readonly pod: PodName | undefined;
}): void {
  if (asked === undefined || asked === mountGroup) return;
  const who = pod === undefined ? "it is staged again" : `pod ${pod.namespace}/${pod.name} wants it`;
  const first = mountGroup === undefined ? "no fsGroup" : `fsGroup ${mountGroup}`;
  events.record({
    reason: "FsGroupIgnored",
    volumeId,
    message: `${who} with fsGroup ${asked}, but node ${nodeId} serves it with ${first}`,
    pods: pod === undefined ? [] : [pod],
  });
}
