import { formatSize } from "../../base/index.ts";
import type { FamfsDevice, FamfsVolume, Records } from "../records.ts";

/**
 * What `kubectl get` shows and cannot work out itself: it has no units and no names of maps. Written with the record,
 * never read back.
 */
export const DISPLAY_FIELDS = {
  volumes: {
    size: "Capacity in binary units.",
    nodes: "Nodes it is attached to.",
    claim: "Namespace and name of the claim it was made for.",
  },
  devices: { size: "Size in binary units.", nodes: "Nodes that reach it." },
} as const;

type Display<K extends keyof typeof DISPLAY_FIELDS> = { readonly [Name in keyof (typeof DISPLAY_FIELDS)[K]]: string };

export function displayFields<K extends "volumes" | "devices">(kind: K, record: Records[K]): Display<K>;
export function displayFields(_kind: "volumes" | "devices", record: FamfsVolume | FamfsDevice): object {
  if ("sizeBytes" in record) {
    return { size: formatSize(record.sizeBytes), nodes: namesOf(record.nodes) } satisfies Display<"devices">;
  }
  const { capacityBytes, published, claim } = record;
  return {
    size: formatSize(capacityBytes),
    nodes: namesOf(published),
    claim: claim === undefined ? "" : `${claim.namespace}/${claim.name}`,
  } satisfies Display<"volumes">;
}

function namesOf(map: Readonly<Record<string, unknown>>): string {
  return Object.keys(map).toSorted().join(",");
}
