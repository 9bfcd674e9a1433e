import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { FamfsError, fromSystemError, hasCode, type Logger, messageOf } from "../base/index.ts";
import type { Service } from "../csi/index.ts";
import { isInMemory } from "../media/index.ts";
import {
  type EventRecorder,
  Heartbeat,
  loggedEvents,
  NodeLiveness,
  RAISE_MS,
  type Store,
  WriterGrants,
} from "../state/index.ts";
import { DeviceWatch } from "./device-watch.ts";
import { type DeviceOption, Devices } from "./devices.ts";
import { assertFabric } from "./fabric.ts";
import { ForcedDetach } from "./forced-detach.ts";
import type { ServerFigures } from "./fuse-server/figures.ts";
import { FuseServerSupervisor, type Watchdog } from "./fuse-server/supervisor.ts";
import { LogWatch } from "./log-watch.ts";
import { abortConnection } from "./mounts.ts";
import { nodeService } from "./node-service.ts";
import { NodeVolumes } from "./node-volumes.ts";
import { periodically } from "./periodic.ts";
import { podsOf } from "./pods.ts";
import { Restager } from "./restage.ts";
import { RestoredStore } from "./restored-store.ts";
import { lockRunDirectory } from "./run-lock.ts";
import { StageRecords } from "./stage-records.ts";
import { clearStaleStaging, forgetUnmounted } from "./staging-claim.ts";
import { VolumeConditions } from "./volume-conditions.ts";
import { VolumeJobs } from "./volume-jobs.ts";
import { VolumeWatch } from "./volume-watch.ts";
import { WriterBroker } from "./writer-broker.ts";

export interface NodePluginOptions {
  readonly store: Store;
  /** Default: lines of the log. */
  readonly events?: EventRecorder;
  /** Unique among the nodes of the store. */
  readonly nodeId: string;
  /** The set of nodes that reach the same pools, as the administrator named it. */
  readonly fabric: string;
  /** The pool that blank devices are made part of. */
  readonly pool: string;
  readonly devices: readonly DeviceOption[];
  /** Do not start without all of them. */
  readonly strictDevices?: boolean;
  /** Small files of this plugin; one plugin per directory. Survives restarts of the plugin, not of the host. */
  readonly runDir: string;
  readonly logger: Logger;
  /** How long others count this node as alive after a heartbeat. */
  readonly leaseSeconds?: number;
  readonly maxVolumes?: number;
  /** Of the FUSE server process. */
  readonly watchdog?: Watchdog | undefined;
  /** Ends the wait for a store that does not answer when the plugin starts. */
  readonly signal?: AbortSignal | undefined;
}

/** What a node plugin counts and measures. */
export interface NodeFigures {
  /** How long the others are sure to count this node as alive. */
  readonly leaseRemainingMs: number;
  /** Heartbeats that could not be written. */
  readonly heartbeatFailures: number;
  /** FUSE server processes started. */
  readonly serverStarts: number;
  /** Undefined when the FUSE server process does not answer. */
  readonly server: ServerFigures | undefined;
}

const LEASE_SECONDS = 15;
const MAX_VOLUMES = 128;
/** How late a log that fills up, or a device that vanished, may be told. */
const LOOK_MS = 30_000;
/** Beside the time that the store itself takes to give up. */
const STORE_RETRY_MS = 1_000;
/** A step that takes longer waits for a store that is away. */
const STORE_LATE_MS = 15_000;

/**
 * The node plugin: CSI node service, node agent (devices, format and erase jobs, heartbeat) and writer grants, with a
 * FUSE server process of its own. Disposing stops all of that and leaves mounts and records as they are, so that the
 * next start serves it again; containers that run through that keep a mount that answers ENOTCONN.
 */
export class NodePlugin implements AsyncDisposable {
  readonly service: Service<"node">;
  readonly #stack: AsyncDisposableStack;
  readonly #server: FuseServerSupervisor;
  readonly #heartbeat: Heartbeat;
  readonly #devices: Devices;

  private constructor(
    service: Service<"node">,
    { server, heartbeat, devices }: { server: FuseServerSupervisor; heartbeat: Heartbeat; devices: Devices },
    stack: AsyncDisposableStack,
  ) {
    this.service = service;
    this.#server = server;
    this.#heartbeat = heartbeat;
    this.#devices = devices;
    this.#stack = stack;
  }

  /** Whether the others are sure to count this node as alive. */
  get holdsLease(): boolean {
    return this.#heartbeat.remainingMs() > 0;
  }

  /** What keeps devices that this node should have from use. */
  get deviceProblems(): readonly string[] {
    return this.#devices.problems;
  }

  /** The FUSE server process, which is started again when it dies. */
  serverPid(): Promise<number | undefined> {
    return this.#server.pid();
  }

  /** Throws when the FUSE server process does not answer; in bounded time. */
  answers(): Promise<void> {
    return this.#server.answers();
  }

  /** In bounded time, also when the FUSE server hangs. */
  async figures(): Promise<NodeFigures> {
    const server = await this.#server.figures();
    return {
      leaseRemainingMs: this.#heartbeat.remainingMs(),
      heartbeatFailures: this.#heartbeat.failures,
      serverStarts: this.#server.starts,
      server,
    };
  }

  static async start(options: NodePluginOptions): Promise<NodePlugin> {
    const { store, nodeId, fabric, pool } = options;
    const logger = options.logger.child({ node: nodeId });
    const events = options.events ?? loggedEvents(logger);
    await using stack = new AsyncDisposableStack();
    const lock = stack.use(await lockRunDirectory(options.runDir));
    const node = { nodeId, bootId: await readBootId() };
    const records = await StageRecords.open(join(options.runDir, "volumes"));
    await forgetUnmounted(node, records);
    const conditions = new VolumeConditions({ store, nodeId, events });

    // What serves comes first: it needs the store for what is new, not for what is staged. What follows it here is
    // stopped after it, because it seals on its way out, with a grant.
    const parts: { devices?: Devices; broker?: WriterBroker; forcedDetach?: ForcedDetach } = {};
    await using serving = new AsyncDisposableStack();
    const served: { server?: FuseServerSupervisor; volumes?: NodeVolumes; restager?: Restager } = {};
    const server = serving.use(
      await FuseServerSupervisor.open({
        logger,
        lock: lock.fd,
        watchdog: options.watchdog,
        handlers: {
          acquireWriter: (request) => reached(parts.broker).acquire(request),
          releaseWriter: async (term) => parts.broker?.release(term),
          // A volume that is being given up has its reason already.
          problem: async ({ volumeId, noticed }) => {
            if (served.server?.serves(volumeId) === true) await conditions.reportNoticed(volumeId, noticed);
          },
        },
        abort: async (volumeId) => {
          const staged = records.get(volumeId);
          if (staged !== undefined) await abortConnection(staged.stagingPath);
        },
        onLost: (volumeIds, reason) => {
          served.volumes?.markLost(volumeIds, reason);
          served.restager?.serverDied(volumeIds, reason);
        },
      }),
    );
    served.server = server;
    const restored = new RestoredStore({ store, nodeId, devices: () => reached(parts.devices).all(), events, logger });
    const forget = async (volumeId: string) => parts.broker?.forget(volumeId);
    const volumes = new NodeVolumes({
      node,
      store,
      records,
      server,
      place: (uuid) => reached(parts.devices).place(uuid),
      checkDevice: async (uuid) => void (await reached(parts.devices).require(uuid)),
      whyFrozen: () => restored.whyFrozen(),
      onStaged: (volumeId) => conditions.over(volumeId),
      onUnpublished: (volumeId) => served.restager?.look(volumeId),
      onUnstaged: async (volumeId) => {
        await forget(volumeId);
        await conditions.over(volumeId);
      },
      onGivenUp: async (volumeId, why) => {
        await forget(volumeId);
        const message = `node ${nodeId} serves the volume no more: ${why}`;
        await conditions.report(volumeId, { reason: "VolumeGivenUp", message, pods: podsOf(records.get(volumeId)) });
      },
      recover: async (volumeId, call) => served.restager?.served(volumeId, call),
      logger,
    });
    served.volumes = volumes;
    const restager = serving.use(
      new Restager({
        nodeId,
        records,
        volumes,
        serves: (id) => server.serves(id),
        conditions,
        release: forget,
        logger,
      }),
    );
    served.restager = restager;

    /** What needs the store. Where something is staged, that is served meanwhile, and it is tried until it works. */
    const withStore = async <T>(step: () => Promise<T>): Promise<T> => {
      for (;;) {
        // An informer does not say that the store is away: it waits.
        const late = setTimeout(() => void restager.start(), STORE_LATE_MS);
        try {
          return await step();
        } catch (error) {
          if (!hasCode(error, "STORE_UNAVAILABLE") || records.all().length === 0) throw error;
          logger.warn({ reason: messageOf(error) }, "waiting for the store; what is staged here is served meanwhile");
          await restager.start();
          await delay(STORE_RETRY_MS, undefined, { signal: options.signal }).catch(() => undefined);
          if (options.signal?.aborted === true) throw error;
        } finally {
          clearTimeout(late);
        }
      }
    };
    const refused = (message: string) => events.record({ reason: "DeviceRefused", nodeId, message });
    const { strictDevices: strict = false } = options;
    const places = { store, nodeId, fabric, pool, strict, onProblem: refused, logger };
    const open = async () => {
      await assertFabric(store, { nodeId, fabric });
      return Devices.open(options.devices, places);
    };
    const devices = stack.use(
      await withStore(open).catch((error: unknown) => {
        if (!hasCode(error, "STORE_UNAVAILABLE")) refused(messageOf(error));
        throw error;
      }),
    );
    parts.devices = devices;
    const { leaseSeconds = LEASE_SECONDS, maxVolumes = MAX_VOLUMES } = options;
    const heartbeat = stack.use(
      await withStore(() =>
        Heartbeat.open(store, {
          node: { ...node, fabric, instance: randomUUID(), leaseSeconds, maxVolumes },
          logger,
          onLapse: async () => parts.forcedDetach?.lookAtAll(),
        }),
      ),
    );
    const liveness = stack.use(await withStore(() => NodeLiveness.open(store)));
    const grants = new WriterGrants({ store, nodeId, liveness });
    await withStore(() => grants.withdrawAll());
    await withStore(() => clearStaleStaging(store, node, records));
    const broker = stack.use(new WriterBroker({ nodeId, grants, heartbeat, events, logger, server: () => server }));
    parts.broker = broker;
    stack.use(serving.move());
    const looking = { what: "a look at mounts that broke", periodMs: LOOK_MS, logger };
    stack.use(periodically(() => restager.lookAtAll(), looking));
    const jobs = stack.use(
      new VolumeJobs({
        store,
        nodeId,
        device: (uuid) => devices.require(uuid),
        whyFrozen: (uuid) => restored.whyFrozen(uuid),
        conditions,
        logger,
      }),
    );
    const forcedDetach = stack.use(
      new ForcedDetach({
        node,
        store,
        records,
        serves: (volumeId) => server.serves(volumeId),
        isInMemory: async ({ uuid, regionGeneration: generation, regions: [region] }) =>
          region !== undefined && isInMemory(await devices.require(region.deviceUuid), region, { uuid, generation }),
        whyFrozen: () => restored.whyFrozen(),
        giveUp: (volumeId, reason) => volumes.giveUp(volumeId, reason),
        logger,
      }),
    );
    parts.forcedDetach = forcedDetach;
    const lookForRestore = { what: "a look for a restored store", periodMs: RAISE_MS, logger };
    stack.use(periodically(() => restored.look(), lookForRestore));
    const logs = new LogWatch({ nodeId, store, records, server, events });
    stack.use(periodically(() => logs.look(), { what: "a look at the logs", periodMs: LOOK_MS, logger }));
    const watch = new DeviceWatch({ nodeId, store, devices: () => devices.all(), records, conditions, events });
    stack.use(periodically(() => watch.look(), { what: "a look at the devices", periodMs: LOOK_MS, logger }));
    stack.use(VolumeWatch.start(store, logger, [jobs, broker, volumes, forcedDetach]));
    await restager.start();
    const service = nodeService({ nodeId, fabric, maxVolumes, volumes });
    return new NodePlugin(service, { server, heartbeat, devices }, stack.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** What a plugin has once it reached the store. */
function reached<T>(part: T | undefined): T {
  if (part === undefined) throw new FamfsError("STORE_UNAVAILABLE", "the node plugin has not reached the store yet");
  return part;
}

async function readBootId(): Promise<string> {
  const path = "/proc/sys/kernel/random/boot_id";
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    throw fromSystemError(error, "read", path);
  }
}
