import { join } from "node:path";
import type { Command } from "commander";
import { FamfsError } from "../../base/index.ts";
import { KubeletRegistration, NodePlugin } from "../../node/index.ts";
import { type Checks, nodeChecks } from "../checks.ts";
import { globals } from "../globals.ts";
import { HealthServer } from "../health-server.ts";
import { addNodeMetrics, openMetrics } from "../metrics/open.ts";
import { serve } from "../serve.ts";
import { stopSignal, untilAborted } from "../signals.ts";
import {
  addNodeOptions,
  addStoreOptions,
  endpointOption,
  healthPortOption,
  type NodeFlags,
  openStore,
  type StoreFlags,
} from "./plugin-options.ts";

interface NodeCommandFlags extends NodeFlags, StoreFlags {
  readonly endpoint: string;
  readonly healthPort?: number;
  readonly kubeletDir?: string;
}

async function started(): Promise<void> {
  throw new FamfsError("NODE_UNAVAILABLE", "the node plugin is starting");
}

export function registerNodeCommand(program: Command): void {
  const command = program
    .command("node")
    .description("The CSI node plugin: mounts volumes, formats and erases regions, holds writer grants.")
    .addOption(endpointOption())
    .addOption(healthPortOption())
    .option("--kubelet-dir <dir>", "register with the kubelet whose directory this is, here and on the host");
  addNodeOptions(addStoreOptions(command)).action(async (flags: NodeCommandFlags, self: Command) => {
    const { logger } = globals(self, "info");
    const stopped = stopSignal();
    const { endpoint, kubeletDir, stateDir, nodeId } = flags;
    const runDir = flags.runDir ?? (stateDir === undefined ? undefined : join(stateDir, "run", nodeId));
    if (runDir === undefined) throw new FamfsError("INVALID_ARGUMENT", "without --state-dir the node needs --run-dir");
    const metrics = await openMetrics(flags.healthPort);
    await using opened = await openStore(flags, { logger, metrics });
    await using events = opened.events({ component: "node", instance: nodeId, logger });
    // Before the plugin, which may wait for the store: a probe that gets no answer ends what is served meanwhile.
    let checks: Checks = { started };
    await using _health =
      flags.healthPort === undefined
        ? undefined
        : await HealthServer.open({ port: flags.healthPort, readiness: () => checks, metrics });
    await using node = await NodePlugin.start({
      store: opened.store,
      events,
      nodeId,
      fabric: flags.fabric,
      pool: flags.pool,
      devices: flags.device.map((device) => ({ device, force: flags.force === true })),
      runDir,
      logger,
      signal: stopped,
    });
    const readiness = nodeChecks(node, opened.store);
    addNodeMetrics(metrics, node);
    await using _server = await serve({ endpoint, node: node.service, readiness, logger, nodeId, metrics });
    // After the service, which the kubelet calls at once.
    await using registration =
      kubeletDir === undefined ? undefined : await KubeletRegistration.open({ kubeletDir, endpoint, logger });
    const registered = async () => {
      if (registration?.problem !== undefined) throw new FamfsError("NODE_UNAVAILABLE", registration.problem);
    };
    checks = { ...readiness, registered };
    logger.info({ endpoint, node: nodeId }, "node plugin is serving");
    await untilAborted(stopped);
  });
}
