import { FamfsError } from "../base/index.ts";
import {
  type CallContext,
  type Capability,
  FABRIC_SEGMENT,
  parseCapability,
  requireField,
  requirePath,
  type Service,
} from "../csi/index.ts";
import type { VolumeHealth } from "./fuse-server/messages.ts";
import type { NodeVolumes } from "./node-volumes.ts";

export interface NodeServiceOptions {
  readonly nodeId: string;
  readonly fabric: string;
  /** How many volumes the CO may put on this node. */
  readonly maxVolumes: number;
  readonly volumes: NodeVolumes;
}

const CAPABILITIES = [
  "STAGE_UNSTAGE_VOLUME",
  "GET_VOLUME_STATS",
  "VOLUME_CONDITION",
  "SINGLE_NODE_MULTI_WRITER",
  "VOLUME_MOUNT_GROUP",
] as const;

/** The CSI node service: requests checked here, the work done by NodeVolumes. */
export function nodeService({ nodeId, fabric, maxVolumes, volumes }: NodeServiceOptions): Service<"node"> {
  return {
    async NodeStageVolume(request, call) {
      await volumes.stage(
        {
          volumeId: requireField(request.volumeId, "volume_id"),
          stagingPath: requirePath(request.stagingTargetPath, "staging_target_path"),
          capability: mountCapability(request.volumeCapability),
          volumeContext: request.volumeContext,
          publishContext: request.publishContext,
        },
        call,
      );
      return {};
    },

    async NodeUnstageVolume(request, call) {
      const volumeId = requireField(request.volumeId, "volume_id");
      await volumes.unstage(
        { volumeId, stagingPath: requirePath(request.stagingTargetPath, "staging_target_path") },
        call,
      );
      return {};
    },

    async NodePublishVolume(request, call) {
      await volumes.publish(
        {
          volumeId: requireField(request.volumeId, "volume_id"),
          targetPath: requirePath(request.targetPath, "target_path"),
          capability: mountCapability(request.volumeCapability),
          stagingPath: requireStaged(request.stagingTargetPath),
          readOnly: request.readonly,
          volumeContext: request.volumeContext,
          publishContext: request.publishContext,
        },
        call,
      );
      return {};
    },

    async NodeUnpublishVolume(request, call) {
      const volumeId = requireField(request.volumeId, "volume_id");
      await volumes.unpublish({ volumeId, targetPath: requirePath(request.targetPath, "target_path") }, call);
      return {};
    },

    async NodeGetVolumeStats(request, call) {
      const volumeId = requireField(request.volumeId, "volume_id");
      return statsResponse(
        await volumes.health({ volumeId, path: requireField(request.volumePath, "volume_path") }, call),
      );
    },

    async NodeGetCapabilities() {
      return { capabilities: CAPABILITIES.map((type) => ({ rpc: { type } })) };
    },

    async NodeGetInfo() {
      return {
        nodeId,
        maxVolumesPerNode: maxVolumes,
        accessibleTopology: { segments: { [FABRIC_SEGMENT]: fabric } },
      };
    },
  };
}

/** CSI NodeStageVolume and NodePublishVolume, "Exceeds capabilities": FAILED_PRECONDITION, not a bad argument. */
function mountCapability(capability: Parameters<typeof parseCapability>[0]): Capability {
  if (capability?.accessType === "block") {
    throw new FamfsError("NOT_SUPPORTED", "block volumes are not supported, famfs volumes are mounted");
  }
  return parseCapability(capability);
}

/** CSI NodePublishVolume, "Staging target path not set": FAILED_PRECONDITION. */
function requireStaged(path: string): string {
  if (path === "") {
    throw new FamfsError("VOLUME_NOT_STAGED", "staging_target_path is missing: NodeStageVolume comes first");
  }
  return requirePath(path, "staging_target_path");
}

function statsResponse(health: VolumeHealth | { readonly problem: string }) {
  const volumeCondition =
    health.problem === undefined
      ? { abnormal: false, message: "the volume is healthy" }
      : { abnormal: true, message: health.problem };
  if (!("bytes" in health)) return { usage: [], volumeCondition };
  return {
    usage: [
      { unit: "BYTES" as const, ...health.bytes },
      { unit: "INODES" as const, ...health.logSlots },
    ],
    volumeCondition,
  };
}

export type { CallContext };
