import { FamfsError, messageOf } from "../base/index.ts";
import { parseBytes, parseCapabilities, parseCapability, requireField, type Service } from "../csi/index.ts";
import { checkParameters, claimIn, type StoredRecord } from "../state/index.ts";
import { getCapacity } from "./capacity.ts";
import { type ControllerContext, requireVolume } from "./context.ts";
import { createVolume } from "./create-volume.ts";
import { deleteVolume } from "./delete-volume.ts";
import { describeStatus, describeVolume } from "./describe-volume.ts";
import { listVolumes } from "./list-volumes.ts";
import { wantedFabrics } from "./placement.ts";
import { publishVolume, unpublishVolume } from "./publish-volume.ts";

const CAPABILITIES = [
  "CREATE_DELETE_VOLUME",
  "PUBLISH_UNPUBLISH_VOLUME",
  "LIST_VOLUMES",
  "LIST_VOLUMES_PUBLISHED_NODES",
  "GET_CAPACITY",
  "PUBLISH_READONLY",
  "GET_VOLUME",
  "VOLUME_CONDITION",
  "SINGLE_NODE_MULTI_WRITER",
] as const;

/** Kept back from a call's time, so that "still running" reaches the client before its own deadline does. */
const ANSWER_MS = 500;

/** The CSI controller service: requests are checked here, the use cases decide. */
export function controllerService(context: ControllerContext): Service<"controller"> {
  return {
    async CreateVolume(request, call) {
      const csiName = requireField(request.name, "name");
      const capabilities = parseCapabilities(request.volumeCapabilities);
      if (request.volumeContentSource !== null) {
        throw new FamfsError("INVALID_ARGUMENT", "volume_content_source: volumes are made empty, not from others");
      }
      assertNoMutable(request.mutableParameters);
      const volume = await createVolume(
        context,
        {
          csiName,
          requiredBytes: parseBytes(request.capacityRange?.requiredBytes ?? 0n, "required_bytes"),
          limitBytes: parseBytes(request.capacityRange?.limitBytes ?? 0n, "limit_bytes"),
          capabilities,
          parameters: checkParameters(request.parameters),
          claim: claimIn(request.parameters),
          fabrics: wantedFabrics(request.accessibilityRequirements),
        },
        { signal: call.signal, waitMs: Math.min(context.formatWaitMs, call.remainingMs() - ANSWER_MS) },
      );
      return { volume: describeVolume(volume) };
    },

    async DeleteVolume(request) {
      await deleteVolume(context, requireField(request.volumeId, "volume_id"));
      return {};
    },

    async ControllerPublishVolume(request) {
      const publishContext = await publishVolume(context, {
        volumeId: requireField(request.volumeId, "volume_id"),
        nodeId: requireField(request.nodeId, "node_id"),
        capability: parseCapability(request.volumeCapability),
        readOnly: request.readonly,
      });
      return { publishContext };
    },

    async ControllerUnpublishVolume(request) {
      await unpublishVolume(context, requireField(request.volumeId, "volume_id"), request.nodeId);
      return {};
    },

    async ValidateVolumeCapabilities(request) {
      const volumeId = requireField(request.volumeId, "volume_id");
      if (request.volumeCapabilities.length === 0) {
        throw new FamfsError("INVALID_ARGUMENT", "volume_capabilities is missing");
      }
      const volume = await requireVolume(context, volumeId);
      const { volumeContext, volumeCapabilities, parameters } = request;
      try {
        parseCapabilities(volumeCapabilities);
        assertNoMutable(request.mutableParameters);
        assertParameters(volume, parameters);
      } catch (error) {
        return { message: messageOf(error) };
      }
      return { confirmed: { volumeContext, volumeCapabilities, parameters } };
    },

    async ListVolumes(request) {
      const { volumes, nextToken } = listVolumes(context, request.maxEntries, request.startingToken);
      return { entries: volumes.map((volume) => entryOf(context, volume)), nextToken };
    },

    async ControllerGetVolume(request) {
      return entryOf(context, await requireVolume(context, requireField(request.volumeId, "volume_id")));
    },

    async GetCapacity(request) {
      if (request.volumeCapabilities.length > 0) parseCapabilities(request.volumeCapabilities);
      const place = request.accessibleTopology;
      const capacity = await getCapacity(context, {
        parameters: checkParameters(request.parameters),
        fabrics: wantedFabrics(place === null ? null : { requisite: [place], preferred: [] }),
      });
      return {
        availableCapacity: BigInt(capacity.availableBytes),
        maximumVolumeSize: { value: BigInt(capacity.maximumVolumeBytes) },
        minimumVolumeSize: { value: BigInt(capacity.minimumVolumeBytes) },
      };
    },

    async ControllerGetCapabilities() {
      return { capabilities: CAPABILITIES.map((type) => ({ rpc: { type } })) };
    },
  };
}

function entryOf({ liveness }: ControllerContext, volume: StoredRecord<"volumes">) {
  return { volume: describeVolume(volume), status: describeStatus(volume, liveness) };
}

function assertNoMutable(parameters: Readonly<Record<string, string>>): void {
  const [name] = Object.keys(parameters);
  if (name === undefined) return;
  throw new FamfsError("INVALID_ARGUMENT", `mutable parameter "${name}": volumes have none`);
}

function assertParameters(volume: StoredRecord<"volumes">, parameters: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(checkParameters(parameters))) {
    if (volume.parameters[name] === value) continue;
    throw new FamfsError("VOLUME_EXISTS", `parameter ${name}: the volume has ${volume.parameters[name] ?? "none"}`);
  }
}
