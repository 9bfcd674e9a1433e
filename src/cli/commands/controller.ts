import { hostname } from "node:os";
import { type Command, Option } from "commander";
import { Controller } from "../../controller/index.ts";
import { storeCheck } from "../checks.ts";
import { globals } from "../globals.ts";
import { HealthServer } from "../health-server.ts";
import { addControllerMetrics, openMetrics } from "../metrics/open.ts";
import { serve } from "../serve.ts";
import { stopSignal, untilAborted } from "../signals.ts";
import { addStoreOptions, endpointOption, healthPortOption, openStore, type StoreFlags } from "./plugin-options.ts";

interface ControllerFlags extends StoreFlags {
  readonly endpoint: string;
  readonly healthPort?: number;
  readonly identity: string;
}

export function registerControllerCommand(program: Command): void {
  const command = program
    .command("controller")
    .description("The CSI controller plugin: assigns regions and writer grants. Touches no memory.")
    .addOption(endpointOption())
    .addOption(healthPortOption());
  addStoreOptions(command)
    .addOption(new Option("--identity <name>", "this replica, unique among them").env("POD_NAME").default(hostname()))
    .action(async (flags: ControllerFlags, self: Command) => {
      const { endpoint, identity } = flags;
      const { logger } = globals(self, "info");
      const stopped = stopSignal();
      const metrics = await openMetrics(flags.healthPort);
      await using opened = await openStore(flags, { logger, metrics });
      const { store, nodeObjects } = opened;
      // Not waited for: it is about deletions by hand, not about serving.
      void opened.protectRecords().then(
        (count) => count > 0 && logger.info({ count }, "records have the driver's finalizer again"),
        (error: unknown) => logger.warn({ err: error }, "some records may lack the driver's finalizer"),
      );
      // Every replica answers calls; one of them runs the background loops.
      await using leadership = opened.elect("famfs-csi-controller", { identity, logger });
      await using events = opened.events({ component: "controller", instance: identity, logger });
      const leads = () => leadership.leading;
      await using controller = await Controller.open({ store, logger, events, nodeObjects, leads });
      await using _census = await addControllerMetrics(metrics, { store, leads, logger });
      const readiness = { store: storeCheck(store) };
      await using _server = await serve({ endpoint, controller: controller.service, readiness, logger, metrics });
      await using _health =
        flags.healthPort === undefined
          ? undefined
          : await HealthServer.open({ port: flags.healthPort, readiness, metrics });
      logger.info({ endpoint }, "controller plugin is serving");
      await untilAborted(stopped);
    });
}
