/** A controller and nodes over one simulated device in this process, as `famfs-csi demo` has them, in any number. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { silentLogger } from "../src/base/index.ts";
import { type NodeSide, Orchestrator } from "../src/cli/demo/orchestrator.ts";
import { serve } from "../src/cli/serve.ts";
import { Controller } from "../src/controller/index.ts";
import { CsiClient } from "../src/csi/index.ts";
import { NodePlugin, unmountBelow } from "../src/node/index.ts";
import { EmbeddedStore } from "../src/state/index.ts";

const MIB = 2 ** 20;
const ACCESS_MODE = "MULTI_NODE_MULTI_WRITER";

export interface SharedVolume {
  /** Mounts it on a node and returns where. */
  attach(node: number, options?: { readonly readonly: boolean }): Promise<string>;
  detach(node: number): Promise<void>;
}

export interface Stack extends AsyncDisposable {
  createVolume(name: string, mebibytes: number): Promise<SharedVolume>;
}

export interface StackOptions {
  readonly parent: string;
  readonly nodes: number;
  readonly poolMebibytes: number;
  /** What loads see of other nodes' stores. */
  readonly coherency: "single-host" | "flush";
}

export async function startStack({ parent, nodes, poolMebibytes, coherency }: StackOptions): Promise<Stack> {
  await using stack = new AsyncDisposableStack();
  const logger = silentLogger;
  const directory = await mkdtemp(join(parent, "stack-"));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  stack.defer(() => unmountBelow(directory));
  const store = stack.use(await EmbeddedStore.open({ stateDir: join(directory, "state") }));
  const plugin = stack.use(await Controller.open({ store, logger }));
  const endpoint = `unix://${join(directory, "controller.sock")}`;
  stack.use(await serve({ endpoint, controller: plugin.service, readiness: {}, logger }));
  const orchestrator = new Orchestrator(stack.use(CsiClient.open(endpoint)));
  const device = `file://${join(directory, "pool0")}?size=${poolMebibytes * MIB}`;
  const sides: NodeSide[] = [];
  // One after the other: the first initialises the blank device, the others find its label.
  for (let index = 0; index < nodes; index++) {
    const nodeId = `node-${index}`;
    const node = stack.use(
      await NodePlugin.start({
        strictDevices: true,
        store,
        nodeId,
        fabric: "bench",
        pool: "default",
        devices: [{ device, coherency }],
        runDir: join(directory, nodeId),
        logger,
      }),
    );
    const socket = `unix://${join(directory, `${nodeId}.sock`)}`;
    stack.use(await serve({ endpoint: socket, node: node.service, readiness: {}, logger }));
    const kubelet = join(directory, `${nodeId}-kubelet`);
    await mkdir(kubelet);
    sides.push({ nodeId, client: stack.use(CsiClient.open(socket)), directory: kubelet });
  }
  const side = (index: number): NodeSide => {
    const found = sides[index];
    if (found === undefined) throw new Error(`there is no node ${index}`);
    return found;
  };
  const owned = stack.move();
  return {
    async createVolume(name, mebibytes) {
      const volume = await orchestrator.createVolume(name, mebibytes * MIB, ACCESS_MODE);
      return {
        attach: (node, { readonly } = { readonly: false }) =>
          orchestrator.attach(volume, side(node), { accessMode: ACCESS_MODE, readonly }),
        detach: (node) => orchestrator.detach(volume, side(node)),
      };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
