import { join } from "node:path";
import type { Command } from "commander";
import { FamfsError } from "../../base/index.ts";
import { Controller } from "../../controller/index.ts";
import { NodePlugin } from "../../node/index.ts";
import { EmbeddedStore } from "../../state/index.ts";
import { nodeChecks } from "../checks.ts";
import { globals } from "../globals.ts";
import { HealthServer } from "../health-server.ts";
import { addControllerMetrics, addNodeMetrics, openMetrics } from "../metrics/open.ts";
import { print, printJson } from "../output.ts";
import { serve } from "../serve.ts";
import { stopSignal, untilAborted } from "../signals.ts";
import { addNodeOptions, endpointOption, healthPortOption, type NodeFlags, stateDirOption } from "./plugin-options.ts";

interface StandaloneFlags extends NodeFlags {
  readonly endpoint: string;
  readonly healthPort?: number;
  readonly stateDir: string;
}

export function registerStandaloneCommand(program: Command): void {
  const command = program
    .command("standalone")
    .description("Controller and node of one machine on one socket, with the embedded store: no cluster needed.")
    .addOption(endpointOption())
    .addOption(healthPortOption())
    .addOption(stateDirOption());
  addNodeOptions(command)
    .addHelpText(
      "after",
      `
This is what a CSI test client is pointed at:

  famfs-csi standalone --endpoint unix:///tmp/csi.sock --node-id here --state-dir /tmp/state \\
    --device 'file:///dev/shm/pool0?size=4Gi'

SIGTERM and Ctrl-C stop it; what is mounted stays mounted (and does not answer until it runs again).`,
    )
    .action(async (flags: StandaloneFlags, self: Command) => {
      if (flags.device.length === 0) {
        throw new FamfsError("INVALID_ARGUMENT", "standalone needs a --device, such as file:///dev/shm/pool0?size=4Gi");
      }
      const { output, logger } = globals(self, "info");
      const stopped = stopSignal();
      await using store = await EmbeddedStore.open({ stateDir: flags.stateDir });
      await using node = await NodePlugin.start({
        store,
        nodeId: flags.nodeId,
        fabric: flags.fabric,
        pool: flags.pool,
        devices: flags.device.map((device) => ({ device, force: flags.force === true })),
        strictDevices: true,
        runDir: flags.runDir ?? join(flags.stateDir, "run"),
        logger,
      });
      await using controller = await Controller.open({ store, logger });
      const { endpoint } = flags;
      const readiness = nodeChecks(node, store);
      const metrics = await openMetrics(flags.healthPort);
      addNodeMetrics(metrics, node);
      using _census = await addControllerMetrics(metrics, { store, leads: () => true });
      await using _server = await serve({
        endpoint,
        controller: controller.service,
        node: node.service,
        readiness,
        logger,
        nodeId: flags.nodeId,
        metrics,
      });
      await using _health =
        flags.healthPort === undefined
          ? undefined
          : await HealthServer.open({ port: flags.healthPort, readiness: () => readiness, metrics });
      if (output === "json") printJson({ ready: true, endpoint, nodeId: flags.nodeId });
      else print(`serving ${endpoint} as node ${flags.nodeId}; Ctrl-C stops`);
      await untilAborted(stopped);
    });
}
