import { join } from "node:path";
import type { Command } from "commander";
import { NodePlugin } from "../../node/index.ts";
import { EmbeddedStore } from "../../state/index.ts";
import { globals } from "../globals.ts";
import { serve } from "../serve.ts";
import { stopSignal, untilAborted } from "../signals.ts";
import { addNodeOptions, endpointOption, type NodeFlags, stateDirOption } from "./plugin-options.ts";

interface NodeCommandFlags extends NodeFlags {
  readonly endpoint: string;
  readonly stateDir: string;
}

export function registerNodeCommand(program: Command): void {
  const command = program
    .command("node")
    .description("The CSI node plugin: mounts volumes, formats and erases regions, holds writer grants.")
    .addOption(endpointOption())
    .addOption(stateDirOption());
  addNodeOptions(command).action(async (flags: NodeCommandFlags, self: Command) => {
    const { logger } = globals(self, "info");
    const stopped = stopSignal();
    await using store = await EmbeddedStore.open({ stateDir: flags.stateDir });
    await using node = await NodePlugin.start({
      store,
      nodeId: flags.nodeId,
      fabric: flags.fabric,
      pool: flags.pool,
      devices: flags.device.map((device) => ({ device, force: flags.force === true })),
      runDir: flags.runDir ?? join(flags.stateDir, "run", flags.nodeId),
      logger,
    });
    await using _server = await serve({ endpoint: flags.endpoint, node: node.service, ready: () => true, logger });
    logger.info({ endpoint: flags.endpoint, node: flags.nodeId }, "node plugin is serving");
    await untilAborted(stopped);
  });
}
