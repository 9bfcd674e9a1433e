import { KeyedTryLock, type Logger } from "../base/index.ts";
import type { Service } from "../csi/index.ts";
import {
  type EventRecorder,
  loggedEvents,
  NO_NODE_OBJECTS,
  NodeLiveness,
  type NodeObjects,
  type Store,
} from "../state/index.ts";
import type { ControllerContext } from "./context.ts";
import { controllerService } from "./controller-service.ts";
import { Maintenance, needsTending } from "./maintenance.ts";
import { VolumeView } from "./volume-view.ts";

export interface ControllerOptions {
  /** Shared with others; stays open when the controller closes. */
  readonly store: Store;
  readonly logger: Logger;
  /** Default: lines of the log. */
  readonly events?: EventRecorder;
  /** Says that a silent node is gone for good (default: none is). */
  readonly nodeObjects?: NodeObjects;
  /**
   * Whether this process runs the background loops now: every replica serves, the leader maintains (default always).
   */
  readonly leads?: () => boolean;
  readonly maintenancePeriodMs?: number;
  /** How long CreateVolume waits for a node to format (default 30 s). */
  readonly formatWaitMs?: number;
  /** How long beyond its lease a node is silent before people are told what waits for it (default 1 minute). */
  readonly silenceMs?: number;
  /** How long a half-made volume is left to a repeated CreateVolume (default 10 minutes). */
  readonly abandonedMs?: number;
  /** How often what the memory remembers of the store is raised (default 10 s). */
  readonly raiseMs?: number | undefined;
}

/** The controller service over a store, ready to be added to a server. What it keeps is a view of the store. */
export class Controller implements AsyncDisposable {
  readonly service: Service<"controller">;
  readonly #resources: AsyncDisposableStack;

  private constructor(context: ControllerContext, resources: AsyncDisposableStack) {
    this.service = controllerService(context);
    this.#resources = resources;
  }

  static async open(options: ControllerOptions): Promise<Controller> {
    const { store, logger } = options;
    await using opening = new AsyncDisposableStack();
    const liveness = opening.use(await NodeLiveness.open(store));
    const volumes = opening.use(await VolumeView.open(store, { needsTending }));
    const context: ControllerContext = {
      store,
      liveness,
      nodeObjects: options.nodeObjects ?? NO_NODE_OBJECTS,
      volumes,
      locks: new KeyedTryLock(),
      logger,
      events: options.events ?? loggedEvents(logger),
      formatWaitMs: options.formatWaitMs ?? 30_000,
      silenceMs: options.silenceMs ?? 60_000,
    };
    opening.use(
      Maintenance.start(context, {
        logger,
        leads: options.leads ?? (() => true),
        periodMs: options.maintenancePeriodMs ?? 2_000,
        abandonedMs: options.abandonedMs ?? 600_000,
        raiseMs: options.raiseMs,
      }),
    );
    return new Controller(context, opening.move());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources.disposeAsync();
  }
}
