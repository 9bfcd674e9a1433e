import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { AccessMode, CsiClient } from "../../csi/index.ts";

/** A node as a container orchestrator sees it: its id, its CSI socket, and where its kubelet keeps paths. */
export interface NodeSide {
  readonly nodeId: string;
  readonly client: CsiClient;
  readonly directory: string;
}

interface VolumeHandle {
  readonly volumeId: string;
  readonly volumeContext: Readonly<Record<string, string>>;
}

interface Publication {
  readonly accessMode: AccessMode;
  readonly readonly: boolean;
}

/**
 * The part that Kubernetes plays: its CSI calls in its order (CSI "Volume Lifecycle"), over the same sockets. What the
 * demo shows through it is what a pod would get.
 */
export class Orchestrator {
  readonly #controller: CsiClient;

  constructor(controller: CsiClient) {
    this.#controller = controller;
  }

  async createVolume(name: string, sizeBytes: number, accessMode: AccessMode): Promise<VolumeHandle> {
    const { volume } = await this.#controller.call("controller", "CreateVolume", {
      name,
      capacityRange: { requiredBytes: BigInt(sizeBytes) },
      volumeCapabilities: [capability(accessMode)],
      parameters: {},
    });
    return { volumeId: volume?.volumeId ?? "", volumeContext: volume?.volumeContext ?? {} };
  }

  async deleteVolume(volume: VolumeHandle): Promise<void> {
    await this.#controller.call("controller", "DeleteVolume", { volumeId: volume.volumeId });
  }

  /** ControllerPublish alone: whether this node may use the volume so. */
  async publish(volume: VolumeHandle, node: NodeSide, { accessMode, readonly }: Publication) {
    const { publishContext } = await this.#controller.call("controller", "ControllerPublishVolume", {
      volumeId: volume.volumeId,
      nodeId: node.nodeId,
      volumeCapability: capability(accessMode),
      readonly,
      volumeContext: volume.volumeContext,
    });
    return publishContext;
  }

  /** ControllerPublish, NodeStage and NodePublish; returns the directory a pod would see. */
  async attach(volume: VolumeHandle, node: NodeSide, publication: Publication): Promise<string> {
    const { staging, target } = await this.#paths(volume, node);
    const request = {
      volumeId: volume.volumeId,
      volumeContext: volume.volumeContext,
      publishContext: await this.publish(volume, node, publication),
      stagingTargetPath: staging,
      volumeCapability: capability(publication.accessMode),
    };
    await node.client.call("node", "NodeStageVolume", request);
    await node.client.call("node", "NodePublishVolume", {
      ...request,
      targetPath: target,
      readonly: publication.readonly,
    });
    return target;
  }

  /** The reverse of `attach`. */
  async detach(volume: VolumeHandle, node: NodeSide): Promise<void> {
    const { volumeId } = volume;
    const { staging, target } = await this.#paths(volume, node);
    await node.client.call("node", "NodeUnpublishVolume", { volumeId, targetPath: target });
    await node.client.call("node", "NodeUnstageVolume", { volumeId, stagingTargetPath: staging });
    await this.#controller.call("controller", "ControllerUnpublishVolume", { volumeId, nodeId: node.nodeId });
  }

  async #paths(volume: VolumeHandle, node: NodeSide): Promise<{ staging: string; target: string }> {
    const base = join(node.directory, volume.volumeId);
    const staging = join(base, "staging");
    await mkdir(staging, { recursive: true });
    return { staging, target: join(base, "pod") };
  }
}

function capability(mode: AccessMode) {
  return { mount: { fsType: "famfs" }, accessType: "mount", accessMode: { mode } } as const;
}
