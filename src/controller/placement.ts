import { ALLOC_UNIT, describeSize, FamfsError, roundDown, roundUp } from "../base/index.ts";
import { FABRIC_SEGMENT } from "../csi/index.ts";
import type { FamfsDevice, Region, StoredRecord } from "../state/index.ts";
import type { VolumeView } from "./volume-view.ts";

/** Where a volume may be: its pool, and the fabrics from which it must be reachable, best first. */
export interface Wanted {
  readonly pool: string | undefined;
  /** undefined: any. */
  readonly fabrics: readonly string[] | undefined;
}

interface TopologyLike {
  readonly segments: Readonly<Record<string, string>>;
}

/**
 * The fabrics a requirement admits, preferred ones first. A place that names a segment of somebody else is none of
 * ours. undefined when nothing is required.
 */
export function wantedFabrics(
  requirement: { readonly requisite: readonly TopologyLike[]; readonly preferred: readonly TopologyLike[] } | null,
): readonly string[] | undefined {
  if (requirement === null || requirement.requisite.length + requirement.preferred.length === 0) return undefined;
  const requisite = requirement.requisite.flatMap(fabricOf);
  const preferred = requirement.preferred.flatMap(fabricOf);
  // CSI: what is preferred must be among the requisite, where there are any.
  const admitted = requirement.requisite.length === 0 ? preferred : preferred.filter((one) => requisite.includes(one));
  return [...new Set([...admitted, ...requisite])];
}

function fabricOf({ segments }: TopologyLike): string[] {
  const fabric = segments[FABRIC_SEGMENT];
  return fabric !== undefined && Object.keys(segments).length === 1 ? [fabric] : [];
}

/**
 * The devices that may hold the volume, in groups to be tried one after the other. POOL_NOT_FOUND,
 * TOPOLOGY_UNSATISFIABLE. Devices of adopted volumes are in no pool.
 */
export function candidateDevices<Device extends FamfsDevice>(
  devices: readonly Device[],
  { pool, fabrics }: Wanted,
): readonly (readonly Device[])[] {
  const pooled = devices.filter((device) => device.pool !== "");
  const inPool = pooled.filter((device) => pool === undefined || device.pool === pool);
  if (inPool.length === 0) {
    const known = [...new Set(pooled.map((device) => device.pool))].toSorted().join(", ");
    throw new FamfsError(
      "POOL_NOT_FOUND",
      pool === undefined
        ? "there is no pool yet: no node has registered a device; give the node plugins some (node.devices of the chart)"
        : `there is no pool "${pool}"; known: ${known === "" ? "none" : known}: correct the parameter "pool" of the StorageClass, or add a device to such a pool`,
    );
  }
  if (fabrics === undefined) return [inPool];
  const groups = fabrics.map((fabric) => inPool.filter((device) => device.fabric === fabric));
  const reached = groups.filter((group) => group.length > 0);
  if (reached.length === 0) {
    const where = [...new Set(inPool.map((device) => device.fabric))].toSorted().join(", ");
    throw new FamfsError(
      "TOPOLOGY_UNSATISFIABLE",
      `no device of ${pool === undefined ? "a pool" : `pool "${pool}"`} is in ${fabrics.length === 0 ? "the places asked for" : `fabric ${fabrics.join(" or ")}`}; ` +
        `there is memory in ${where}: run the pod on nodes that have the label ${FABRIC_SEGMENT} with that value, or add a device`,
    );
  }
  return reached;
}

export interface WantedRegion {
  readonly capacityBytes: number;
  /** What the volume takes of the device: its capacity with superblock, log and rounding. */
  readonly regionBytes: number;
}

/** A free region on the first group that has one; POOL_FULL names the largest free one, and what would fit. */
export function placeRegion(
  groups: readonly (readonly StoredRecord<"devices">[])[],
  volumes: VolumeView,
  { capacityBytes, regionBytes }: WantedRegion,
): { readonly device: StoredRecord<"devices">; readonly region: Region } {
  let largestFreeBytes = 0;
  for (const group of groups) {
    const space = volumes.spaceOn(group, { intents: false });
    const region = space.find(regionBytes);
    const device = group.find((each) => each.uuid === region?.deviceUuid);
    if (region !== undefined && device !== undefined) return { device, region };
    largestFreeBytes = Math.max(largestFreeBytes, space.largestFreeBytes);
  }
  const fits = roundDown(largestFreeBytes - (regionBytes - roundUp(capacityBytes, ALLOC_UNIT)), ALLOC_UNIT);
  throw new FamfsError(
    "POOL_FULL",
    `the pool is full: the largest free region is ${describeSize(largestFreeBytes)}, room for ` +
      `${fits > 0 ? `a volume of ${describeSize(fits)}` : "no volume"}, and this one wants ${describeSize(capacityBytes)}; ` +
      "claim less, delete volumes that nobody needs, or add a device to the pool",
    { details: { requestedBytes: regionBytes, largestFreeBytes } },
  );
}
