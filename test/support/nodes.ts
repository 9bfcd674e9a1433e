/** A controller and nodes as processes of their own over one embedded store and one device: nodes that can be lost. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { type AccessMode, CsiClient } from "../../src/csi/index.ts";
import { unmountBelow } from "../../src/node/index.ts";
import { EmbeddedStore } from "../../src/state/index.ts";
import { type Running, simulatedDevice, startProgram } from "./program.ts";
import { capability } from "./standalone.ts";

const START_MS = 60_000;

export class NodeProcess {
  readonly nodeId: string;
  readonly directory: string;
  readonly program: Running;
  readonly client: CsiClient;

  constructor(nodeId: string, directory: string, program: Running, client: CsiClient) {
    this.nodeId = nodeId;
    this.directory = directory;
    this.program = program;
    this.client = client;
  }

  /** Of the plugin and its FUSE server. */
  get #pids(): number[] {
    const { pid = 0 } = this.program.child;
    return [...readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number), pid];
  }

  /** Everything of the node stands still, as on a host that hangs. Disposing lets it go on. */
  freeze(): Disposable {
    const pids = this.#pids;
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    let frozen = true;
    const thaw = () => {
      if (frozen) for (const pid of pids) process.kill(pid, "SIGCONT");
      frozen = false;
    };
    return { [Symbol.dispose]: thaw };
  }

  /** As on a host that loses power. */
  async die(): Promise<void> {
    for (const pid of this.#pids) process.kill(pid, "SIGKILL");
    await this.program.ended;
  }

  staging(volumeId: string): string {
    return join(this.directory, `${volumeId}-staging`);
  }

  target(volumeId: string): string {
    return join(this.directory, `${volumeId}-pod`);
  }

  /** NodeStage and NodePublish. */
  async mount(volumeId: string, mode: AccessMode): Promise<void> {
    const request = { volumeId, stagingTargetPath: this.staging(volumeId), volumeCapability: capability(mode) };
    await this.client.call("node", "NodeStageVolume", request);
    await this.client.call("node", "NodePublishVolume", { ...request, targetPath: this.target(volumeId) });
  }

  async unmount(volumeId: string): Promise<void> {
    await this.client.call("node", "NodeUnpublishVolume", { volumeId, targetPath: this.target(volumeId) });
    await this.client.call("node", "NodeUnstageVolume", { volumeId, stagingTargetPath: this.staging(volumeId) });
  }
}

export class Nodes implements AsyncDisposable {
  readonly store: EmbeddedStore;
  readonly controller: CsiClient;
  readonly #directory: string;
  readonly #device: string;
  readonly #resources: AsyncDisposableStack;

  private constructor(fields: {
    store: EmbeddedStore;
    controller: CsiClient;
    directory: string;
    device: string;
    resources: AsyncDisposableStack;
  }) {
    this.store = fields.store;
    this.controller = fields.controller;
    this.#directory = fields.directory;
    this.#device = fields.device;
    this.#resources = fields.resources;
  }

  static async open(size: string): Promise<Nodes> {
    await using resources = new AsyncDisposableStack();
    const directory = mkdtempSync(join(tmpdir(), "nodes-"));
    resources.defer(() => rmSync(directory, { recursive: true, force: true }));
    resources.defer(() => unmountBelow(directory));
    const device = resources.use(simulatedDevice(size));
    const stateDir = join(directory, "state");
    const { client: controller } = await start(resources, join(directory, "controller.sock"), [
      "controller",
      "--store=embedded",
      `--state-dir=${stateDir}`,
    ]);
    const store = resources.use(await EmbeddedStore.open({ stateDir }));
    return new Nodes({ store, controller, directory, device: device.url, resources: resources.move() });
  }

  async node(name: string): Promise<NodeProcess> {
    // Mounts of one host are told apart by it.
    const nodeId = `${name}-${process.pid}`;
    const directory = join(this.#directory, name);
    mkdirSync(directory);
    const { program, client } = await start(this.#resources, join(directory, "csi.sock"), [
      "node",
      "--store=embedded",
      `--state-dir=${join(this.#directory, "state")}`,
      `--node-id=${nodeId}`,
      `--device=${this.#device}`,
    ]);
    return new NodeProcess(nodeId, directory, program, client);
  }

  async create(name: string, bytes: number, mode: AccessMode): Promise<string> {
    const { volume } = await this.controller.call("controller", "CreateVolume", {
      name,
      capacityRange: { requiredBytes: BigInt(bytes) },
      volumeCapabilities: [capability(mode)],
      parameters: {},
    });
    return volume?.volumeId ?? "";
  }

  async attach(volumeId: string, { nodeId }: NodeProcess, mode: AccessMode): Promise<void> {
    const request = { volumeId, nodeId, volumeCapability: capability(mode), readonly: false };
    await this.controller.call("controller", "ControllerPublishVolume", request);
  }

  async detach(volumeId: string, { nodeId }: NodeProcess): Promise<void> {
    await this.controller.call("controller", "ControllerUnpublishVolume", { volumeId, nodeId });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources.disposeAsync();
  }
}

async function start(resources: AsyncDisposableStack, socket: string, args: readonly string[]) {
  const program = startProgram(...args, `--endpoint=unix://${socket}`);
  resources.defer(async () => {
    if (program.child.exitCode === null && program.child.signalCode === null) await program.stop();
  });
  const deadline = performance.now() + START_MS;
  while (!existsSync(socket) || !program.said().includes("is serving")) {
    if (program.child.exitCode !== null) throw new Error(`${args[0]} ended:\n${program.said()}`);
    if (performance.now() > deadline) throw new Error(`${args[0]} does not serve:\n${program.said()}`);
    await setTimeout(20);
  }
  const client = resources.use(CsiClient.open(`unix://${socket}`));
  return { program, client };
}

/** Waits for what happens in the background. */
export async function eventually<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  for (const until = performance.now() + START_MS; performance.now() < until; await setTimeout(20)) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
  }
  throw new Error(`did not happen: ${what}`);
}
