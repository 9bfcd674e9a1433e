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
    means:
      "the process that serves a node's volumes died: their mounts there do not answer until they are served again, by themselves and within seconds",
    wayOut:
      "wait; if it comes again and again, the kernel's log of the node (memory) and the log of its node plugin say why",
  },
  MountsBroken: {
    type: "Warning",
    about: "volume",
    means:
      "the node plugin, or its FUSE server, was replaced under running pods: containers whose volumeMounts lack mountPropagation HostToContainer still have a mount that does not answer",
    wayOut:
      "delete these pods, so that they are made anew; with mountPropagation HostToContainer they go on by themselves",
  },
  NotServed: {
    type: "Warning",
    about: "volume",
    means: "a node cannot serve again what pods there have mounted; it is tried on until it can",
    wayOut: "mend what is named here; nothing else has to be done",
  },
  LogCorrupt: {
    type: "Warning",
    about: "volume",
    means: "a log entry stays invalid: the files that were logged before it are served, those after it are not",
    wayOut: "copy what is there to a new volume; famfs-csi fsck on the device shows the extent of the damage",
  },
  OwnerLost: {
    type: "Warning",
    about: "volume",
    means: "another node took the log over before this one had given it up: what was not sealed here is lost",
    wayOut: "write anew the files that were written on this node last; if it comes again, see why the node was silent",
  },
  VolumeGivenUp: {
    type: "Warning",
    about: "volume",
    means:
      "a node that was detached by force, or declared gone, is back: it serves the volume no more, and what was not " +
      "sealed there is lost",
    wayOut: "delete the pods that still use the volume on this node",
  },
  MemoryError: {
    type: "Warning",
    about: "volume",
    means: "the memory of a volume cannot be read on a node",
    wayOut:
      "look for memory errors in the kernel's log of the node and move the pods to another one; " +
      "where a file stands for the memory, make room in its file system",
  },
  LogNearlyFull: {
    type: "Warning",
    about: "volume",
    means: "nine tenths of the volume's log are used, which holds one entry for each file and each change of names",
    wayOut:
      "copy the volume to a new one, of a StorageClass with a larger logLength: space in a log does not come back",
  },
  WritersPaused: {
    type: "Warning",
    about: "volume",
    means: "a node that writes cannot renew its lease: its writers wait until it can, and readers go on",
    wayOut: "see whether the node reaches the Kubernetes API; after the lease another node may become the writer",
  },
  WritersResumed: {
    type: "Normal",
    about: "volume",
    means: "the node renewed its lease: its writers go on",
  },
  DeviceLost: {
    type: "Warning",
    about: "volume",
    means: "the device of a volume that is mounted on a node vanished there, or another label is on it",
    wayOut: "stop the pods that use the volume before they write more, and see the events of its FamfsDevice",
  },
  EraseWaits: {
    type: "Warning",
    about: "volume",
    means:
      "a deleted volume is not erased, and its memory not free, because a node that may still write to it, or that has to erase it, does not answer",
    wayOut:
      "it goes on when the node answers or boots; if it never will, delete its Node object or, when it is certainly off, taint it node.kubernetes.io/out-of-service",
  },
  VolumeHealthy: {
    type: "Normal",
    about: "volume",
    means: "what an earlier event said is wrong on a node is over",
  },
  RecordsLost: {
    type: "Warning",
    about: "volume",
    means:
      "the memory holds another volume where this one was placed, and that one's record was lost: neither is touched",
    wayOut: 'make the lost record again with "famfs-csi device rebuild" in the pod of a node plugin',
  },
  EraseFrozen: {
    type: "Warning",
    about: "volume",
    means:
      "a deleted volume is not erased, because the store was restored from a backup and may have forgotten whose its memory is",
    wayOut: 'make lost records again with "famfs-csi device rebuild" (docs/operations.md, "etcd was restored")',
  },
  StoreRestored: {
    type: "Warning",
    about: "device",
    means:
      "the store is older than what the memory of the device remembers, as after restoring etcd from a backup: nothing " +
      "there is erased, and no mount given up",
    wayOut: 'make lost records again with "famfs-csi device rebuild" (docs/operations.md, "etcd was restored")',
  },
  DeviceMissing: {
    type: "Warning",
    about: "device",
    means: "a device that the node plugin uses vanished, or cannot be read",
    wayOut: "bring the device back to the node; when it is gone for good, take it out of the node's list of devices",
  },
  DeviceLabelChanged: {
    type: "Warning",
    about: "device",
    means: "somebody wrote over the label of a device that the driver uses",
    wayOut: "find out who writes to it and stop that; famfs-csi device scan shows which volumes are still whole",
  },
  DeviceBack: {
    type: "Normal",
    about: "device",
    means: "a device that was missing, or had another label, is as it was",
  },
  HeartbeatMissing: {
    type: "Warning",
    about: "node",
    means:
      "the Lease of a node that has volumes mounted is missing, and the node does not write it anew: what it has is kept " +
      "for it",
    wayOut:
      "see whether its node plugin runs; if the node will never be back, delete its Node object or, when it is certainly off, taint it node.kubernetes.io/out-of-service",
  },
  DeviceRefused: {
    type: "Warning",
    about: "node",
    means:
      "a device that the node plugin was given is not used: it is missing, holds something else, or belongs elsewhere",
    wayOut: "name another device in the chart's values, or make this one free for the driver",
  },
  VolumeUnreadable: {
    type: "Warning",
    about: "volume",
    means:
      "the record of a volume cannot be read: the volume is not attached, deleted or served anew, and nothing is allocated on its devices",
    wayOut:
      "what is mounted goes on; mend the record (kubectl edit famfsvolume), or update the driver if a newer one wrote it",
  },
  DeviceUnreadable: {
    type: "Warning",
    about: "device",
    means: "the record of a device cannot be read: nothing is allocated on it, and its volumes are not erased",
    wayOut: "mend the record (kubectl edit famfsdevice), or update the driver if a newer one wrote it",
  },
  HeartbeatUnreadable: {
    type: "Warning",
    about: "node",
    means: "a Lease in the namespace of the nodes' Leases cannot be read: it counts as no heartbeat of anybody",
    wayOut: "delete the Lease: a node plugin writes its own anew; what is not the driver's does not belong there",
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
