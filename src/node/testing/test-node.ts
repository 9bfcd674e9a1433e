import { spawnSync } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Logger } from "../../base/index.ts";
import { type AccessMode, CsiClient, CsiServer } from "../../csi/index.ts";
import type { DriverEvent, FamfsVolume, Store } from "../../state/index.ts";
import { readMountTable } from "../mount-table.ts";
import { NodePlugin, type NodePluginOptions } from "../node-plugin.ts";
import { cleanup, eventually, newVolume, openStore, scratchDirectory, testLogger } from "./fixtures.ts";

/** A node with its plugin behind a real socket; can be restarted. */
export class TestNode {
  readonly nodeId: string;
  readonly directory: string;
  client: CsiClient;
  plugin: NodePlugin;
  /** Recorded by it and by its former processes. */
  readonly events: DriverEvent[];
  readonly #store: Store;
  readonly #device: string;
  readonly #logger: Logger;
  readonly #watchdog: Watchdog;
  #running: AsyncDisposableStack;

  private constructor(fields: Started & Running) {
    this.nodeId = fields.nodeId;
    this.directory = fields.directory;
    this.events = fields.events;
    this.#store = fields.store;
    this.#device = fields.device;
    this.#logger = fields.logger;
    this.#watchdog = fields.watchdog;
    this.#running = fields.stack;
    this.client = fields.client;
    this.plugin = fields.plugin;
  }

  static async start(settings: Omit<Started, "events">): Promise<TestNode> {
    const options = { ...settings, events: [] };
    return new TestNode({ ...options, ...(await startPlugin(options)) });
  }

  /** Stops the plugin and its FUSE server; mounts stay. */
  async stop(): Promise<void> {
    await this.#running.disposeAsync();
  }

  async restart(): Promise<void> {
    await this.stop();
    const { stack, client, plugin } = await startPlugin({
      nodeId: this.nodeId,
      directory: this.directory,
      store: this.#store,
      device: this.#device,
      logger: this.#logger,
      watchdog: this.#watchdog,
      events: this.events,
    });
    this.#running = stack;
    this.client = client;
    this.plugin = plugin;
  }

  /** What starts the same node in another process. */
  get settings() {
    return { nodeId: this.nodeId, directory: this.directory, device: this.#device };
  }

  stage(volumeId: string, mode: AccessMode = "MULTI_NODE_MULTI_WRITER", more: object = {}) {
    return this.client.call("node", "NodeStageVolume", {
      volumeId,
      stagingTargetPath: this.stagingPath(volumeId),
      volumeCapability: capability(mode),
      ...more,
    });
  }

  unstage(volumeId: string) {
    return this.client.call("node", "NodeUnstageVolume", { volumeId, stagingTargetPath: this.stagingPath(volumeId) });
  }

  publish(volumeId: string, target: string, options: PublishOptions = {}) {
    const { mode = "MULTI_NODE_MULTI_WRITER", ...more } = options;
    return this.client.call("node", "NodePublishVolume", {
      volumeId,
      stagingTargetPath: this.stagingPath(volumeId),
      targetPath: this.target(target),
      volumeCapability: capability(mode),
      ...more,
    });
  }

  unpublish(volumeId: string, target: string) {
    return this.client.call("node", "NodeUnpublishVolume", { volumeId, targetPath: this.target(target) });
  }

  stats(volumeId: string, path: string) {
    return this.client.call("node", "NodeGetVolumeStats", { volumeId, volumePath: path });
  }

  stagingPath(volumeId: string): string {
    return join(this.directory, "staging", volumeId);
  }

  target(name: string): string {
    return join(this.directory, "pods", name);
  }
}

interface PublishOptions {
  readonly mode?: AccessMode;
  readonly readonly?: boolean;
  readonly volumeContext?: Record<string, string>;
  /** Instead of the usual ones. */
  readonly volumeCapability?: object;
  readonly stagingTargetPath?: string;
  readonly targetPath?: string;
}

interface Started {
  readonly nodeId: string;
  readonly directory: string;
  readonly store: Store;
  readonly device: string;
  readonly logger: Logger;
  readonly watchdog: Watchdog;
  readonly events: DriverEvent[];
}

type Watchdog = NodePluginOptions["watchdog"];

interface Running {
  readonly stack: AsyncDisposableStack;
  readonly client: CsiClient;
  readonly plugin: NodePlugin;
}

async function startPlugin({ nodeId, directory, store, device, logger, watchdog, events }: Started): Promise<Running> {
  await using stack = new AsyncDisposableStack();
  const plugin = stack.use(
    await NodePlugin.start({
      store,
      events: { record: (event) => void events.push(event) },
      nodeId,
      fabric: "rack1",
      pool: "default",
      devices: [{ device }],
      runDir: join(directory, "run"),
      logger,
      leaseSeconds: 4,
      watchdog,
    }),
  );
  const endpoint = `unix://${join(directory, "csi.sock")}`;
  stack.use(await CsiServer.open({ endpoint, services: { node: plugin.service }, logger, graceMs: 1000 }));
  const client = stack.use(CsiClient.open(endpoint));
  return { stack: stack.move(), client, plugin };
}

export function capability(mode: AccessMode, mount: object = {}) {
  return { accessMode: { mode }, mount: { fsType: "famfs", ...mount } };
}

export interface TestCluster {
  readonly store: Store;
  readonly directory: string;
  readonly devicePath: string;
  /** `store`: what this node's plugin sees as the store, such as one that fails. */
  node(nodeId: string, options?: { store?: Store }): Promise<TestNode>;
  /** A formatted volume that every node may use as RWX. */
  volume(volumeId: string, changes?: Partial<FamfsVolume>): Promise<void>;
}

/** Nodes over one simulated device and one store; whatever a failing test leaves mounted is taken away. */
export async function testCluster(
  t: TestContext,
  options: { logger?: Logger; deviceSize?: string; watchdog?: Watchdog } = {},
): Promise<TestCluster> {
  const { logger = testLogger, deviceSize = "256Mi", watchdog } = options;
  const directory = await scratchDirectory(t);
  cleanup(t).defer(() => unmountBelow(directory));
  const store = await openStore(t, directory);
  const devicePath = join(directory, "pool0");
  return {
    store,
    directory,
    devicePath,
    async node(nodeId, options = {}) {
      const home = join(directory, nodeId);
      await mkdir(join(home, "staging"), { recursive: true });
      await mkdir(join(home, "pods"));
      const node = await TestNode.start({
        nodeId,
        directory: home,
        store: options.store ?? store,
        device: `file://${devicePath}?size=${deviceSize}`,
        logger,
        watchdog,
      });
      cleanup(t).defer(() => node.stop());
      return node;
    },
    async volume(volumeId, changes = {}) {
      const uuid = (await store.list("devices"))[0]?.uuid ?? "";
      const both = { accessMode: "MULTI_NODE_MULTI_WRITER", readonly: false };
      await store.create("volumes", volumeId, newVolume(uuid, { published: { a: both, b: both }, ...changes }));
      await eventually(`${volumeId} is formatted`, async () => {
        const volume = await store.get("volumes", volumeId);
        if (volume?.phase === "Failed") throw new Error(volume.failure?.message);
        return volume?.phase === "Ready" || undefined;
      });
    },
  };
}

async function unmountBelow(directory: string): Promise<void> {
  const below = (await readMountTable()).filter((entry) => `${entry.target}/`.startsWith(`${directory}/`));
  for (const { target } of below.reverse()) spawnSync("umount", ["-l", target]);
}
