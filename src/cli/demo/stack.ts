import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "../../base/index.ts";
import { Controller } from "../../controller/index.ts";
import { CsiClient } from "../../csi/index.ts";
import { NodePlugin, unmountBelow } from "../../node/index.ts";
import { EmbeddedStore } from "../../state/index.ts";
import { nodeChecks, storeCheck } from "../checks.ts";
import { serve } from "../serve.ts";
import type { NodeSide } from "./orchestrator.ts";

export interface StackOptions {
  /** Size of the simulated device. */
  readonly poolBytes: number;
  /** Where the device and all sockets, records and mounts go; a directory of its own is made in it and removed. */
  readonly parent: string;
  readonly logger: Logger;
}

/**
 * A controller and two nodes in this process, each on a socket of its own, over one simulated device: what a cluster
 * with two hosts and shared memory has, except that both hosts are this one.
 */
export interface Stack extends AsyncDisposable {
  readonly directory: string;
  readonly devicePath: string;
  readonly controller: CsiClient;
  readonly nodes: { readonly a: NodeSide; readonly b: NodeSide };
}

const FABRIC = "demo";

export async function startStack({ poolBytes, parent, logger }: StackOptions): Promise<Stack> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(parent, "famfs-csi-demo-"));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  stack.defer(() => unmountBelow(directory));
  const devicePath = join(directory, "pool0");
  const store = stack.use(await EmbeddedStore.open({ stateDir: join(directory, "state") }));

  const controllerPlugin = stack.use(await Controller.open({ store, logger }));
  const endpoint = `unix://${join(directory, "controller.sock")}`;
  stack.use(
    await serve({ endpoint, controller: controllerPlugin.service, readiness: { store: storeCheck(store) }, logger }),
  );
  const controller = stack.use(CsiClient.open(endpoint));

  const startNode = async (nodeId: string): Promise<NodeSide> => {
    const plugin = stack.use(
      await NodePlugin.start({
        strictDevices: true,
        store,
        nodeId,
        fabric: FABRIC,
        pool: "default",
        devices: [{ device: `file://${devicePath}?size=${poolBytes}` }],
        runDir: join(directory, nodeId),
        logger,
      }),
    );
    const socket = `unix://${join(directory, `${nodeId}.sock`)}`;
    stack.use(await serve({ endpoint: socket, node: plugin.service, readiness: nodeChecks(plugin, store), logger }));
    const kubelet = join(directory, `${nodeId}-kubelet`);
    await mkdir(kubelet);
    return { nodeId, client: stack.use(CsiClient.open(socket)), directory: kubelet };
  };
  // One after the other: the first initialises the blank device, the second finds its label.
  const a = await startNode("node-a");
  const b = await startNode("node-b");
  const owned = stack.move();
  return { directory, devicePath, controller, nodes: { a, b }, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
