/** A controller and nodes as processes of their own over one embedded store and one device: nodes that can be lost. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { type AccessMode, CsiClient } from "../../src/csi/index.ts";
import { unmountBelow } from "../../src/node/index.ts";
import { EmbeddedStore } from "../../src/state/index.ts";
import { type Running, type SimulatedDevice, simulatedDevice, startProgram } from "./program.ts";
import { capability } from "./standalone.ts";

const START_MS = 60_000;
/** Nodes of this process so far. */
let launched = 0;

interface Started {
  readonly program: Running;
  readonly client: CsiClient;
}

/** Which processes of a node: the plugin, its FUSE server, or all as on a host that hangs. */
export type Part = "plugin" | "server" | "node";

export class NodeProcess {
  readonly nodeId: string;
  readonly directory: string;
  readonly #start: () => Promise<Started>;
  #started: Started;

  private constructor(nodeId: string, directory: string, start: () => Promise<Started>, started: Started) {
    this.nodeId = nodeId;
    this.directory = directory;
    this.#start = start;
    this.#started = started;
  }

  static async launch(nodeId: string, directory: string, start: () => Promise<Started>): Promise<NodeProcess> {
    return new NodeProcess(nodeId, directory, start, await start());
  }

  get program(): Running {
    return this.#started.program;
  }

  get client(): CsiClient {
    return this.#started.client;
  }

  #pids(part: Part): number[] {
    const { pid = 0 } = this.program.child;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean);
    return [...(part === "plugin" ? [] : children.map(Number)), ...(part === "server" ? [] : [pid])];
  }

  /** Part of the node stands still; everything of it, as on a host that hangs. Disposing lets it go on. */
  freeze(part: Part = "node"): Disposable {
    const pids = this.#pids(part);
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
    for (const pid of this.#pids("node")) process.kill(pid, "SIGKILL");
    await this.program.ended;
  }

  killServer(): void {
    for (const pid of this.#pids("server")) process.kill(pid, "SIGKILL");
  }

  /** Kills the plugin alone, and starts another one, as a kubelet does. */
  async replacePlugin(): Promise<void> {
    this.program.child.kill("SIGKILL");
    await this.program.ended;
    this.client[Symbol.dispose]();
    this.#started = await this.#start();
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
  readonly #device: SimulatedDevice;
  readonly #incoherent: boolean;
  readonly #resources: AsyncDisposableStack;

  private constructor(fields: {
    store: EmbeddedStore;
    controller: CsiClient;
    directory: string;
    device: SimulatedDevice;
    incoherent: boolean;
    resources: AsyncDisposableStack;
  }) {
    this.store = fields.store;
    this.controller = fields.controller;
    this.#directory = fields.directory;
    this.#device = fields.device;
    this.#incoherent = fields.incoherent;
    this.#resources = fields.resources;
  }

  /** `incoherent`: the caches of their hosts do not agree (`PathSpec`). */
  static async open(size: string, { incoherent = false } = {}): Promise<Nodes> {
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
    return new Nodes({ store, controller, directory, device, incoherent, resources: resources.move() });
  }

  /** Where the memory of all nodes is. */
  get device(): SimulatedDevice {
    return this.#device;
  }

  async node(name: string): Promise<NodeProcess> {
    // Mounts of one host are told apart by it.
    const nodeId = `${name}-${process.pid}-${++launched}`;
    const directory = join(this.#directory, name);
    mkdirSync(directory);
    const arguments_ = [
      "node",
      "--store=embedded",
      `--state-dir=${join(this.#directory, "state")}`,
      `--node-id=${nodeId}`,
      `--device=${this.#device.url}${this.#incoherent ? `&caches=${name}` : ""}`,
    ];
    return NodeProcess.launch(nodeId, directory, () => start(this.#resources, join(directory, "csi.sock"), arguments_));
  }

  async create(
    name: string,
    bytes: number,
    mode: AccessMode,
    parameters: Record<string, string> = {},
  ): Promise<string> {
    const { volume } = await this.controller.call("controller", "CreateVolume", {
      name,
      capacityRange: { requiredBytes: BigInt(bytes) },
      volumeCapabilities: [capability(mode)],
      parameters,
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

async function start(resources: AsyncDisposableStack, socket: string, args: readonly string[]): Promise<Started> {
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
