import type { NodeRecord } from "../records.ts";
import { type ApiObject, asRecord, type ObjectBody } from "./api-object.ts";

/** A node's record is a Lease, so that anything that understands heartbeats understands ours. */
const FABRIC = "famfs.csi.dev/fabric";
const BOOT_ID = "famfs.csi.dev/boot-id";
const INSTANCE = "famfs.csi.dev/instance";
const MAX_VOLUMES = "famfs.csi.dev/max-volumes";

export function leaseBody(node: NodeRecord): ObjectBody {
  return {
    annotations: {
      [FABRIC]: node.fabric,
      [BOOT_ID]: node.bootId,
      [INSTANCE]: node.instance,
      [MAX_VOLUMES]: String(node.maxVolumes),
    },
    spec: {
      holderIdentity: node.nodeId,
      leaseDurationSeconds: node.leaseSeconds,
      // MicroTime wants six digits.
      renewTime: node.renewedAt.replace(/\.(\d{3})Z$/, ".$1000Z"),
    },
  };
}

export function leaseFields({ metadata, spec }: ApiObject): unknown {
  const { holderIdentity, leaseDurationSeconds, renewTime } = asRecord(spec);
  return {
    nodeId: holderIdentity,
    fabric: metadata.annotations[FABRIC],
    bootId: metadata.annotations[BOOT_ID],
    instance: metadata.annotations[INSTANCE],
    renewedAt: typeof renewTime === "string" ? renewTime.replace(/(\.\d{3})\d{3}Z$/, "$1Z") : undefined,
    leaseSeconds: leaseDurationSeconds,
    maxVolumes: Number(metadata.annotations[MAX_VOLUMES]),
  };
}
