import { FamfsError } from "../base/index.ts";
import type { StoredRecord } from "../state/index.ts";
import type { DevicePlace } from "./devices.ts";
import type { VolumeAttachment } from "./fuse-server/messages.ts";
import type { StageRecord } from "./stage-records.ts";
import type { NodeIdentity } from "./staging-claim.ts";

export interface AttachmentContext {
  readonly node: NodeIdentity;
  /** A device on this node; undefined when the node does not reach it. */
  readonly place: (deviceUuid: string) => DevicePlace | undefined;
}

/** What a FUSE server must know to serve `volume` as `wanted`. NODE_NOT_IN_TOPOLOGY, NOT_SUPPORTED. */
export function makeAttachment(
  volume: StoredRecord<"volumes">,
  wanted: StageRecord,
  { node, place }: AttachmentContext,
): Omit<VolumeAttachment, "tag"> {
  const { name } = volume;
  const [region, ...more] = volume.regions;
  if (region === undefined || more.length > 0) {
    throw new FamfsError("NOT_SUPPORTED", `volume ${name} has ${volume.regions.length} regions, one can be served`);
  }
  const device = place(region.deviceUuid);
  if (device === undefined) {
    throw new FamfsError(
      "NODE_NOT_IN_TOPOLOGY",
      `volume ${name} is on device ${region.deviceUuid}, which node ${node.nodeId} does not reach`,
    );
  }
  // A reader may have none, and uses none; an adopted volume has none.
  const slot = volume.slots[node.nodeId] ?? (wanted.readOnly || volume.adopted ? 0 : undefined);
  if (slot === undefined) throw new FamfsError("INTERNAL", `volume ${name}: no owner slot for ${node.nodeId}`);
  return {
    volumeId: name,
    devicePath: device.path,
    coherent: device.coherent,
    ...(device.cachesOf === undefined ? {} : { cachesOf: device.cachesOf }),
    region: { offset: region.offset, length: region.length },
    expect: volume.adopted ? undefined : { volumeUuid: volume.uuid, regionGeneration: volume.regionGeneration },
    node: { ...node, slot },
    readOnly: wanted.readOnly,
    shared: wanted.accessMode.startsWith("MULTI_NODE"),
    exclusive: Object.keys(volume.staged).length === 1,
    parameters: volume.parameters,
    mountGroup: wanted.mountGroup,
  };
}
