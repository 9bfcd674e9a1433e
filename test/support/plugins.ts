/** A controller and two node plugins as processes of their own over one store and one simulated device. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { CsiClient } from "../../src/csi/index.ts";
import { unmountBelow } from "../../src/node/index.ts";
import { simulatedDevice, startProgram } from "./program.ts";

const MIB = 2 ** 20;
const START_MS = 60_000;
const FABRIC = "rack-7";
const capability = {
  mount: { fsType: "famfs" },
  accessType: "mount",
  accessMode: { mode: "MULTI_NODE_MULTI_WRITER" },
} as const;

/** Whose rights a process has: a node's (which only looks), the controller's, or those to make records again. */
export type Account = "lost-a" | "lost-b" | "controller" | "rebuild";

/** What the program needs to find the store. */
export type StoreFlags = (directory: string, account: Account) => readonly string[];

export class Plugins implements AsyncDisposable {
  readonly directory: string;
  readonly device: { readonly path: string; readonly url: string };
  readonly controller: CsiClient;
  readonly #nodes: { readonly a: CsiClient; readonly b: CsiClient };
  readonly #stack: AsyncDisposableStack;
  readonly #processes: ReadonlyMap<Account, number>;

  private constructor(
    directory: string,
    device: Plugins["device"],
    [a, b, controller]: readonly [CsiClient, CsiClient, CsiClient],
    processes: ReadonlyMap<Account, number>,
    stack: AsyncDisposableStack,
  ) {
    this.directory = directory;
    this.device = device;
    this.#nodes = { a, b };
    this.controller = controller;
    this.#processes = processes;
    this.#stack = stack;
  }

  static async start(storeFlags: StoreFlags): Promise<Plugins> {
    await using stack = new AsyncDisposableStack();
    const directory = mkdtempSync(join(tmpdir(), "lost-"));
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    stack.defer(() => unmountBelow(directory));
    const device = stack.use(simulatedDevice("512Mi"));
    const processes = new Map<Account, number>();
    const start = async (name: Account, command: string, ...more: string[]) => {
      const socket = join(directory, `${name}.sock`);
      const flags = storeFlags(directory, name);
      const server = startProgram(command, `--endpoint=unix://${socket}`, ...flags, ...more);
      stack.defer(async () => void (await server.stop()));
      if (server.child.pid !== undefined) processes.set(name, server.child.pid);
      for (const until = performance.now() + START_MS; !existsSync(socket); await setTimeout(20)) {
        if (server.child.exitCode !== null) throw new Error(`${name} ended:\n${server.said()}`);
        if (performance.now() > until) throw new Error(`${name} does not serve:\n${server.said()}`);
      }
      return stack.use(CsiClient.open(`unix://${socket}`));
    };
    const startNode = (nodeId: "lost-a" | "lost-b") => {
      const run = join(directory, `${nodeId}-run`);
      const own = [`--node-id=${nodeId}`, `--fabric=${FABRIC}`, `--run-dir=${run}`, `--device=${device.url}`];
      return start(nodeId, "node", ...own);
    };
    // At once, as the pods of an installation: one of the nodes finds the device blank, or both do.
    const clients = await Promise.all([
      startNode("lost-a"),
      startNode("lost-b"),
      start("controller", "controller", "--identity=only"),
    ]);
    return new Plugins(directory, device, clients, processes, stack.move());
  }

  /** To the processes themselves; a node's FUSE server is another one. */
  signal(signal: NodeJS.Signals, ...accounts: readonly Account[]): void {
    for (const account of accounts) {
      const pid = this.#processes.get(account);
      if (pid !== undefined) process.kill(pid, signal);
    }
  }

  async create(name: string, parameters: Record<string, string> = {}): Promise<string> {
    const request = { name, capacityRange: { requiredBytes: BigInt(32 * MIB) }, volumeCapabilities: [capability] };
    return await eventually(`${name} is made`, async () => {
      const { volume } = await this.controller.call("controller", "CreateVolume", { ...request, parameters });
      return volume?.volumeId;
    });
  }

  /** As the CO does it on its side: the node learns of it, and mounts nothing. */
  async publish(node: "a" | "b", volumeId: string): Promise<Record<string, string>> {
    const request = { volumeId, nodeId: `lost-${node}`, volumeCapability: capability, readonly: false };
    const { publishContext } = await eventually("the node is known for the device", () =>
      this.controller.call("controller", "ControllerPublishVolume", request),
    );
    return publishContext;
  }

  /** Where it is mounted then. */
  async attach(node: "a" | "b", volumeId: string): Promise<string> {
    const { staging, target } = this.#paths(node, volumeId);
    mkdirSync(staging, { recursive: true });
    const publishContext = await this.publish(node, volumeId);
    const staged = { volumeId, publishContext, stagingTargetPath: staging, volumeCapability: capability };
    await this.#nodes[node].call("node", "NodeStageVolume", staged);
    await this.#nodes[node].call("node", "NodePublishVolume", { ...staged, targetPath: target, readonly: false });
    return target;
  }

  async detach(node: "a" | "b", volumeId: string): Promise<void> {
    const { staging, target } = this.#paths(node, volumeId);
    await this.#nodes[node].call("node", "NodeUnpublishVolume", { volumeId, targetPath: target });
    await this.#nodes[node].call("node", "NodeUnstageVolume", { volumeId, stagingTargetPath: staging });
    await this.controller.call("controller", "ControllerUnpublishVolume", { volumeId, nodeId: `lost-${node}` });
  }

  #paths(node: "a" | "b", volumeId: string): { readonly staging: string; readonly target: string } {
    const target = join(this.directory, `${node}-${volumeId}`);
    return { staging: `${target}-staging`, target };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

export async function eventually<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (const until = performance.now() + START_MS; ; await setTimeout(100)) {
    const late = performance.now() > until;
    try {
      const value = await look();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      if (late) throw error;
    }
    if (late) throw new Error(`did not happen: ${what}`);
  }
}
