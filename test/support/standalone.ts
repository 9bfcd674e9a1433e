/** `famfs-csi standalone` as a process of its own, and the calls that an orchestrator makes in their order. */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { type AccessMode, CsiClient } from "../../src/csi/index.ts";
import { type Running, startProgram } from "./program.ts";

const START_MS = 30_000;

export interface Standalone extends AsyncDisposable {
  readonly server: Running;
  readonly socket: string;
  readonly client: CsiClient;
  /** As Ctrl-C. */
  readonly stop: () => Promise<void>;
  /** kill -9 of the plugin's process. */
  readonly kill: () => Promise<void>;
}

/**
 * Starts it with its state below `directory`; resolves when it serves. A second start with the same finds all again.
 */
export async function startStandalone(directory: string, device: string): Promise<Standalone> {
  const socket = join(directory, "csi.sock");
  const stateDir = join(directory, "state");
  const server = startProgram(
    "standalone",
    `--endpoint=unix://${socket}`,
    "--node-id=test-node",
    `--state-dir=${stateDir}`,
    `--device=${device}`,
  );
  const deadline = performance.now() + START_MS;
  // The socket of a killed predecessor may still be there, so what it says counts.
  while (!existsSync(socket) || !server.said().includes("serving")) {
    if (server.child.exitCode !== null) throw new Error(`standalone ended:\n${server.said()}`);
    if (performance.now() > deadline) {
      await server.stop();
      throw new Error(`standalone does not serve after ${START_MS} ms:\n${server.said()}`);
    }
    await setTimeout(20);
  }
  const client = CsiClient.open(`unix://${socket}`);
  let ended = false;
  const stop = async () => {
    if (ended) return;
    ended = true;
    client[Symbol.dispose]();
    await server.stop();
  };
  const kill = async () => {
    ended = true;
    client[Symbol.dispose]();
    server.child.kill("SIGKILL");
    await server.ended;
  };
  return { server, socket, client, stop, kill, [Symbol.asyncDispose]: stop };
}

export const capability = (mode: AccessMode) =>
  ({ mount: { fsType: "famfs" }, accessType: "mount", accessMode: { mode } }) as const;

/** The requests for one volume on one node; each may be repeated at any time. */
export class Claim {
  readonly #name: string;
  readonly #directory: string;
  readonly #mode: AccessMode;

  constructor(name: string, directory: string, mode: AccessMode) {
    this.#name = name;
    this.#directory = directory;
    this.#mode = mode;
  }

  get staging(): string {
    return join(this.#directory, `${this.#name}-staging`);
  }

  get target(): string {
    return join(this.#directory, `${this.#name}-target`);
  }

  async create(client: CsiClient, bytes: number): Promise<string> {
    const { volume } = await client.call("controller", "CreateVolume", {
      name: this.#name,
      capacityRange: { requiredBytes: BigInt(bytes) },
      volumeCapabilities: [capability(this.#mode)],
      parameters: {},
    });
    return volume?.volumeId ?? "";
  }

  /** ControllerPublish, NodeStage, NodePublish. */
  async attach(client: CsiClient, volumeId: string): Promise<void> {
    try {
      mkdirSync(this.staging, { recursive: true });
    } catch (error) {
      // A mount whose server died; staging again mends it.
      if (!(error instanceof Error && "code" in error && error.code === "ENOTCONN")) throw error;
    }
    const volumeCapability = capability(this.#mode);
    const { publishContext } = await client.call("controller", "ControllerPublishVolume", {
      volumeId,
      nodeId: "test-node",
      volumeCapability,
      readonly: false,
    });
    const staged = { volumeId, publishContext, stagingTargetPath: this.staging, volumeCapability };
    await client.call("node", "NodeStageVolume", staged);
    await client.call("node", "NodePublishVolume", { ...staged, targetPath: this.target, readonly: false });
  }

  async detach(client: CsiClient, volumeId: string): Promise<void> {
    await client.call("node", "NodeUnpublishVolume", { volumeId, targetPath: this.target });
    await client.call("node", "NodeUnstageVolume", { volumeId, stagingTargetPath: this.staging });
    await client.call("controller", "ControllerUnpublishVolume", { volumeId, nodeId: "test-node" });
  }

  async remove(client: CsiClient, volumeId: string): Promise<void> {
    await client.call("controller", "DeleteVolume", { volumeId });
  }
}
