import { formatSize } from "../../base/index.ts";
import type { FamfsDevice, FamfsVolume, Records } from "../records.ts";

/**
 * What `kubectl get` shows and cannot work out itself: it has no units and no names of maps. Written with the record,
 * never read back.
 */
export const DISPLAY_FIELDS = {
  volumes: { size: "Capacity in binary units.", nodes: "Nodes it is attached to." },
  devices: { size: "Size in binary units.", nodes: "Nodes that reach it." },
} as const;

export function displayFields<K extends "volumes" | "devices">(
  kind: K,
  record: Records[K],
): { readonly [Name in keyof (typeof DISPLAY_FIELDS)[K]]: string };
export function displayFields(kind: "volumes" | "devices", record: FamfsVolume | FamfsDevice): object {
  const size = formatSize("sizeBytes" in record ? record.sizeBytes : record.capacityBytes);
  const names = Object.keys("nodes" in record ? record.nodes : record.published);
  return { size, nodes: names.toSorted().join(",") } satisfies Record<
    keyof (typeof DISPLAY_FIELDS)[typeof kind],
    string
  >;
}
