import type { Command } from "commander";
import { Controller } from "../../controller/index.ts";
import { EmbeddedStore } from "../../state/index.ts";
import { globals } from "../globals.ts";
import { serve } from "../serve.ts";
import { stopSignal, untilAborted } from "../signals.ts";
import { endpointOption, stateDirOption } from "./plugin-options.ts";

export function registerControllerCommand(program: Command): void {
  program
    .command("controller")
    .description("The CSI controller plugin: assigns regions and writer grants. Touches no memory.")
    .addOption(endpointOption())
    .addOption(stateDirOption())
    .action(async ({ endpoint, stateDir }: { endpoint: string; stateDir: string }, command: Command) => {
      const { logger } = globals(command, "info");
      const stopped = stopSignal();
      await using store = await EmbeddedStore.open({ stateDir });
      await using controller = await Controller.open({ store, logger });
      await using _server = await serve({ endpoint, controller: controller.service, ready: () => true, logger });
      logger.info({ endpoint }, "controller plugin is serving");
      await untilAborted(stopped);
    });
}
