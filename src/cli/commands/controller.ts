import { hostname } from "node:os";
import { type Command, Option } from "commander";
import { type Logger, messageOf } from "../../base/index.ts";
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
      const { logger } = globals(self, "info");
      const stopped = stopSignal();
      await using running = await start(flags, { logger, stopped }).catch((error: unknown) => {
        if (!stopped.aborted) throw error;
        logger.info({ reason: messageOf(error) }, "stopped while it was starting");
        return undefined;
      });
      if (running === undefined) return;
      logger.info({ endpoint: flags.endpoint }, "controller plugin is serving");
      await untilAborted(stopped);
    });
}

async function start(
  flags: ControllerFlags,
  { logger, stopped }: { readonly logger: Logger; readonly stopped: AbortSignal },
): Promise<AsyncDisposable> {
  const { endpoint, identity, healthPort } = flags;
  const metrics = await openMetrics(healthPort);
  await using opening = new AsyncDisposableStack();
  const opened = opening.use(await openStore(flags, { logger, metrics, signal: stopped }));
  // All that waits for the API server below ends with the store.
  const close = () => void opened[Symbol.asyncDispose]();
  stopped.addEventListener("abort", close);
  stopped.throwIfAborted();
  const { store, nodeObjects } = opened;
  // Not waited for: it is about deletions by hand, not about serving.
  void opened.protectRecords().then(
    (count) => count > 0 && logger.info({ count }, "records have the driver's finalizer again"),
    (error: unknown) => stopped.aborted || logger.warn({ err: error }, "some records may lack the driver's finalizer"),
  );
  // Every replica answers calls; one of them runs the background loops.
  const leadership = opening.use(opened.elect("famfs-csi-controller", { identity, logger }));
  const leads = () => leadership.leading;
  const events = opening.use(opened.events({ component: "controller", instance: identity, logger }));
  const controller = opening.use(await Controller.open({ store, logger, events, nodeObjects, leads }));
  opening.use(await addControllerMetrics(metrics, { store, leads }));
  const readiness = { store: storeCheck(store) };
  opening.use(await serve({ endpoint, controller: controller.service, readiness, logger, metrics }));
  if (healthPort !== undefined)
    opening.use(await HealthServer.open({ port: healthPort, readiness: () => readiness, metrics }));
  stopped.removeEventListener("abort", close);
  return opening.move();
}
