import { FamfsError } from "../base/index.ts";
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
        ? "there is no pool yet: no node has registered a device"
        : `there is no pool "${pool}"; known: ${known === "" ? "none" : known}`,
    );
  }
  if (fabrics === undefined) return [inPool];
  const groups = fabrics.map((fabric) => inPool.filter((device) => device.fabric === fabric));
  const reached = groups.filter((group) => group.length > 0);
  if (reached.length === 0) {
    const where = [...new Set(inPool.map((device) => device.fabric))].toSorted().join(", ");
    throw new FamfsError(
      "TOPOLOGY_UNSATISFIABLE",
      `${pool === undefined ? "no pool" : `pool "${pool}" is not`} in the fabrics asked for (${fabrics.join(", ") || "none of ours"}); there is: ${where}`,
    );
  }
  return reached;
}

/** A free region of `length` bytes on the first group that has one; POOL_FULL names the largest free one. */
export function placeRegion(
  groups: readonly (readonly StoredRecord<"devices">[])[],
  volumes: VolumeView,
  length: number,
): { readonly device: StoredRecord<"devices">; readonly region: Region } {
  let largestFreeBytes = 0;
  for (const group of groups) {
    const space = volumes.spaceOn(group, { intents: false });
    const region = space.find(length);
    const device = group.find((each) => each.uuid === region?.deviceUuid);
    if (region !== undefined && device !== undefined) return { device, region };
    largestFreeBytes = Math.max(largestFreeBytes, space.largestFreeBytes);
  }
  throw new FamfsError(
    "POOL_FULL",
    `no free region of ${length} bytes; the largest free region has ${largestFreeBytes} bytes`,
    { details: { requestedBytes: length, largestFreeBytes } },
  );
}
