import { array, boolean, count, id, map, object, oneOf, optional, type Parsed, string } from "./schema.ts";

/*
 * The records of the control plane. In a cluster they are custom resources and Leases; without one, rows of the
 * embedded store. Small by design: nothing is ever one big list, and what changes fast on each node is a metric.
 */

/** Every stored record; `resourceVersion` is what compare-and-swap compares. */
export interface Stored {
  readonly name: string;
  readonly resourceVersion: string;
  readonly createdAt: string;
}

/** In the shape of Kubernetes' own conditions. */
const condition = object({
  type: id,
  status: oneOf(["True", "False", "Unknown"]),
  reason: string,
  message: string,
  lastTransitionTime: string,
});
export type Condition = Parsed<typeof condition>;

/** A contiguous, 2 MiB-aligned range of a device. Bytes. */
const region = object({ deviceUuid: id, offset: count, length: count });
export type Region = Parsed<typeof region>;

/**
 * Pending: the record is there, its regions are not given yet (docs/decisions/0008). Formatting -> Ready or Failed.
 * Reclaiming: deleted for the CO; when the job node has erased its regions it deletes the record.
 */
export const VOLUME_PHASES = ["Pending", "Formatting", "Ready", "Failed", "Reclaiming"] as const;
export type VolumePhase = (typeof VOLUME_PHASES)[number];

/** `name` is the CSI volume id, derived from the CSI name, so a repeated CreateVolume finds its volume. */
const volume = object({
  csiName: string,
  /** UUID of the volume record in memory; of an adopted volume, of its superblock. */
  uuid: id,
  /** The PersistentVolumeClaim it was made for, for people; undefined when the CO does not say. */
  claim: optional(object({ namespace: id, name: id })),
  /**
   * A whole device that the stock tools formatted, found there by a node: published read-only, never formatted,
   * erased or deleted by us. `name` is `adoptedVolumeId(device)`.
   */
  adopted: boolean,
  /** Of the device its regions are on; empty while it is Pending, and for an adopted volume. */
  pool: string,
  fabric: string,
  /** What the claim gets: the region less superblock, log and rounding. */
  capacityBytes: count,
  regions: array(region),
  /** Grows each time the region is given to another volume; checked by servers before data writes. */
  regionGeneration: count,
  /** Checked StorageClass parameters, as given (parameters.ts reads them). */
  parameters: map(string),
  phase: oneOf(VOLUME_PHASES),
  /** The node that formats or erases, chosen by the controller; the node agent does it and changes `phase`. */
  jobNode: optional(string),
  /** Why `phase` is Failed: one of our error codes and its message. */
  failure: optional(object({ code: id, message: string })),
  /** ControllerPublish: nodes and how they may use it. */
  published: map(object({ accessMode: id, readonly: boolean })),
  /** Nodes whose agent has it staged, with the boot id they staged it under (quarantine). */
  staged: map(object({ bootId: string })),
  /** The writer grant: changed by compare-and-swap only. */
  writer: optional(object({ nodeId: id, epoch: count, since: string })),
  /** Nodes that wait for the grant, in order. */
  waiters: array(id),
  /** The highest epoch ever handed out. */
  epoch: count,
  /** Which owner slot in the volume each node writes; given once, never to two nodes. */
  slots: map(count),
  /** Owner slots that its memory has for nodes that write. Absent: of a volume formatted by an older version. */
  slotCount: optional(count),
  conditions: array(condition),
});
export type FamfsVolume = Parsed<typeof volume>;

/** What a volume's record says before a node had to do with the volume. */
export const UNTOUCHED = {
  claim: undefined,
  jobNode: undefined,
  failure: undefined,
  published: {},
  staged: {},
  writer: undefined,
  waiters: [],
  epoch: 0,
  slots: {},
  slotCount: undefined,
  conditions: [],
} as const satisfies Partial<FamfsVolume>;

/**
 * A managed device, named by its UUID. The regions in use are those of the FamfsVolumes on it and of `intent`;
 * every allocation goes through a compare-and-swap of this record, so two controllers never give one region twice.
 */
const device = object({
  uuid: id,
  /** Empty for the device of an adopted volume, which is in no pool. */
  pool: string,
  fabric: id,
  sizeBytes: count,
  /** Counts re-initialisations of the device label: a region of another incarnation is not ours. */
  incarnation: count,
  coherency: oneOf(["hardware", "flush", "single-host"]),
  /** Nodes that reach it, and by which path. */
  nodes: map(object({ path: id })),
  /** Counts allocations: what a volume's `regionGeneration` is taken from. */
  generation: count,
  /**
   * An allocation that is not finished yet: whoever finds it finishes it first, by giving the regions to the Pending
   * volume of this name and UUID, if that still waits for some, and clearing the intent (docs/decisions/0008).
   */
  intent: optional(object({ volume: id, volumeUuid: id, regions: array(region), regionGeneration: count })),
  /** Raised every few seconds; the memory remembers the highest one (frozen.ts). Absent: never yet. */
  revision: optional(count),
  /** Why nothing on it is erased or given up: the store is older than what the memory remembers. */
  frozen: optional(object({ since: string, reason: string })),
});
export type FamfsDevice = Parsed<typeof device>;

/** The static volume id of a stock-formatted device, by the UUID of its superblock. */
export function adoptedVolumeId(deviceUuid: string): string {
  return `adopted-${deviceUuid}`;
}

/** One per node: its heartbeat and what it is. */
const node = object({
  nodeId: id,
  fabric: id,
  /** Changes with every boot of the host. */
  bootId: string,
  /** Changes with every start of the node plugin. */
  instance: string,
  renewedAt: string,
  leaseSeconds: count,
  /** How many volumes may be published to it; 0: any number. */
  maxVolumes: count,
});
export type NodeRecord = Parsed<typeof node>;

export interface Records {
  devices: FamfsDevice;
  volumes: FamfsVolume;
  nodes: NodeRecord;
}

export type Kind = keyof Records;

/** What a store checks its contents against. */
export const RECORD_SCHEMAS = { devices: device, volumes: volume, nodes: node } as const;
