/**
 * The records of the control plane. In a cluster they are custom resources and Leases; without one, rows of the
 * embedded store. Small by design: nothing is ever one big list, and what changes fast on each node is a metric.
 */

/** Every stored record; `resourceVersion` is what compare-and-swap compares. */
export interface Stored {
  readonly name: string;
  readonly resourceVersion: string;
  readonly createdAt: string;
}

export interface Condition {
  readonly type: string;
  readonly status: "True" | "False";
  readonly reason: string;
  readonly message: string;
  readonly since: string;
}

/** A contiguous, 2 MiB-aligned range of a device. Bytes. */
export interface Region {
  readonly deviceUuid: string;
  readonly offset: number;
  readonly length: number;
}

/**
 * A managed device, named by its UUID. The regions in use are those of the FamfsVolumes on it and of `intent`;
 * every allocation goes through a compare-and-swap of this record, so two controllers never give one region twice.
 */
export interface FamfsDevice {
  readonly uuid: string;
  readonly pool: string;
  readonly fabric: string;
  readonly sizeBytes: number;
  /** Counts re-initialisations of the device label: a region of another incarnation is not ours. */
  readonly incarnation: number;
  readonly coherency: "hardware" | "flush" | "single-host";
  /** Nodes that reach it, and by which path. */
  readonly nodes: Readonly<Record<string, { readonly path: string }>>;
  /** Counts allocations and frees. */
  readonly generation: number;
  /** An allocation that is not finished yet: whoever finds it finishes it first. */
  readonly intent: { readonly volume: string; readonly volumeRecord: FamfsVolume } | undefined;
}

/** The static volume id of a stock-formatted device. */
export function adoptedVolumeId(deviceUuid: string): string {
  return `adopted-${deviceUuid}`;
}

export type VolumePhase = "Formatting" | "Ready" | "Failed" | "Reclaiming";

/** `name` is the CSI volume id, derived from the CSI name, so a repeated CreateVolume finds its volume. */
export interface FamfsVolume {
  readonly csiName: string;
  /** UUID of the volume record in memory. */
  readonly uuid: string;
  /**
   * A whole device that the stock tools formatted, found there by a node: published read-only, never formatted,
   * erased or deleted by us. `name` is `adoptedVolumeId(device)`.
   */
  readonly adopted: boolean;
  readonly pool: string;
  readonly fabric: string;
  /** What the claim gets: the region less superblock, log and rounding. */
  readonly capacityBytes: number;
  readonly regions: readonly Region[];
  /** Grows each time the region is given to another volume; checked by servers before data writes. */
  readonly regionGeneration: number;
  /** Checked StorageClass parameters, as given. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly phase: VolumePhase;
  /** The node that formats or erases, chosen by the controller; the node agent does it and changes `phase`. */
  readonly jobNode: string | undefined;
  /** Why `phase` is Failed: one of our error codes and its message. */
  readonly failure: { readonly code: string; readonly message: string } | undefined;
  /** ControllerPublish: nodes and how they may use it. */
  readonly published: Readonly<Record<string, { readonly accessMode: string; readonly readonly: boolean }>>;
  /** Nodes whose agent has it staged, with the boot id they staged it under (quarantine). */
  readonly staged: Readonly<Record<string, { readonly bootId: string }>>;
  /** The writer grant: changed by compare-and-swap only. */
  readonly writer: { readonly nodeId: string; readonly epoch: number; readonly since: string } | undefined;
  /** Nodes that wait for the grant, in order. */
  readonly waiters: readonly string[];
  /** The highest epoch ever handed out. */
  readonly epoch: number;
  /** Which owner slot in the volume each node writes; given once, never to two nodes. */
  readonly slots: Readonly<Record<string, number>>;
  readonly conditions: readonly Condition[];
}

/** One per node: its heartbeat and what it is. */
export interface NodeRecord {
  readonly nodeId: string;
  readonly fabric: string;
  /** Changes with every boot of the host. */
  readonly bootId: string;
  /** Changes with every start of the node plugin. */
  readonly instance: string;
  readonly renewedAt: string;
  readonly leaseSeconds: number;
}

export interface Records {
  devices: FamfsDevice;
  volumes: FamfsVolume;
  nodes: NodeRecord;
}

export type Kind = keyof Records;
