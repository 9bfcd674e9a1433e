/**
 * Every reason for which an event is recorded: what a person has to know that no answer to a call tells. Answers are
 * shown by others: the provisioner puts what CreateVolume says on the claim, the kubelet what NodeStageVolume and
 * NodePublishVolume say on the pod. docs/events.md is this table.
 */
export interface EventRow {
  readonly type: "Normal" | "Warning";
  /** A volume's events are also its claim's, and those of the pods that are named with it. */
  readonly about: "volume" | "device" | "node";
  readonly means: string;
  /** Ends the text of each such event; what is Normal needs none. */
  readonly wayOut?: string;
}

export const EVENT_REASONS = {
  FuseServerDied: {
    type: "Warning",
    about: "volume",
    means: "the process that serves a node's volumes died: their mounts on that node do not answer",
    wayOut: "delete the pods that use the volume on this node, so that they are made anew",
  },
  MountsBroken: {
    type: "Warning",
    about: "volume",
    means: "the node plugin was restarted under running pods: the mounts they have do not answer",
    wayOut: "delete these pods, so that they are made anew",
  },
  NotServed: {
    type: "Warning",
    about: "volume",
    means: "a restarted node plugin could not serve a volume again that was mounted there",
    wayOut:
      "mend what is named here, then delete the pods that use the volume on this node, so that they are made anew",
  },
  LogCorrupt: {
    type: "Warning",
    about: "volume",
    means: "a log entry stays invalid: the files that were logged before it are served, those after it are not",
    wayOut: "copy what is there to a new volume, and run famfs-csi fsck on the device to see the extent of the damage",
  },
  VolumeHealthy: {
    type: "Normal",
    about: "volume",
    means: "what an earlier event said is wrong on a node is over",
  },
} as const satisfies Readonly<Record<string, EventRow>>;

export type EventReason = keyof typeof EVENT_REASONS;

export type EventReasonAbout<About extends EventRow["about"]> = {
  [Reason in EventReason]: (typeof EVENT_REASONS)[Reason]["about"] extends About ? Reason : never;
}[EventReason];

/** What people read: what happened, then the way out. */
export function eventText(reason: EventReason, message: string): string {
  const row: EventRow = EVENT_REASONS[reason];
  return row.wayOut === undefined ? message : `${message}; ${row.wayOut}`;
}
