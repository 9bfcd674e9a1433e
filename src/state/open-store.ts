import type { Logger } from "../base/index.ts";
import { EmbeddedStore } from "./embedded-store.ts";
import { type EventRecorder, loggedEvents } from "./events.ts";
import { NO_NODE_OBJECTS, type NodeObjects } from "./gone-nodes.ts";
import { type ClusterConnection, type ConnectOptions, connect } from "./kubernetes/connection.ts";
import { KubernetesEvents } from "./kubernetes/kubernetes-events.ts";
import { KubernetesStore } from "./kubernetes/kubernetes-store.ts";
import { LeaderElection } from "./kubernetes/leader-election.ts";
import { KubernetesNodeObjects } from "./kubernetes/node-objects.ts";
import type { Store } from "./store.ts";

export { type AnsweredRequest, isInCluster } from "./kubernetes/connection.ts";
export { isManaged, type Remains, Uninstall } from "./kubernetes/uninstall.ts";

export type StoreOptions =
  | { readonly type: "embedded"; readonly stateDir: string }
  | {
      readonly type: "kubernetes";
      readonly environment: NodeJS.ProcessEnv;
      /** Without one, the service account of the pod. */
      readonly kubeconfig?: string | undefined;
      /** Of another account. */
      readonly token?: string | undefined;
      /** Namespace of the nodes' Leases (default `famfs-csi-nodes`). */
      readonly nodeNamespace?: string | undefined;
      /** Told of each request to the API server. */
      readonly onAnswer?: ConnectOptions["onAnswer"];
      readonly logger: Logger;
      /** Ends the opening. */
      readonly signal?: AbortSignal | undefined;
    };

/** Whether this process is the one of several controllers that runs the background loops. */
export interface Leadership extends AsyncDisposable {
  readonly leading: boolean;
}

/** The component that events are recorded for. */
export interface EventSource {
  readonly component: "controller" | "node";
  /** Which one of them: the pod's or the node's name. */
  readonly instance: string;
}

const DEFAULT_NODE_NAMESPACE = "famfs-csi-nodes";

/** A store, and beside it what only a cluster can give. */
export class OpenedStore implements AsyncDisposable {
  readonly store: Store;
  readonly #connection: ClusterConnection | undefined;
  readonly #nodeObjects: KubernetesNodeObjects | undefined;

  private constructor(store: Store, connection?: ClusterConnection) {
    this.store = store;
    this.#connection = connection;
    this.#nodeObjects = connection === undefined ? undefined : new KubernetesNodeObjects(connection);
  }

  /** Says that a node is gone for good: the controller asks. */
  get nodeObjects(): NodeObjects {
    return this.#nodeObjects ?? NO_NODE_OBJECTS;
  }

  /** Errors: STORE_UNAVAILABLE, SYSTEM, the signal's reason. */
  static async open(options: StoreOptions): Promise<OpenedStore> {
    if (options.type === "embedded") return new OpenedStore(await EmbeddedStore.open({ stateDir: options.stateDir }));
    const { nodeNamespace = DEFAULT_NODE_NAMESPACE, logger, signal } = options;
    const connection = await connect(options);
    return new OpenedStore(await KubernetesStore.open({ connection, nodeNamespace, logger, signal }), connection);
  }

  /** In a cluster: see KubernetesStore.protectRecords. */
  async protectRecords(): Promise<number> {
    return this.store instanceof KubernetesStore ? await this.store.protectRecords() : 0;
  }

  /** Without a cluster there is one controller, which leads. */
  elect(name: string, { identity, logger }: { readonly identity: string; readonly logger: Logger }): Leadership {
    if (this.#connection === undefined) return { leading: true, async [Symbol.asyncDispose]() {} };
    return new LeaderElection({ connection: this.#connection, name, identity, logger });
  }

  /** Events of the cluster; without one, lines of the log. Disposing waits a bounded time for those on their way. */
  events(source: EventSource & { readonly logger: Logger }): EventRecorder & AsyncDisposable {
    if (this.#connection === undefined) return { ...loggedEvents(source.logger), async [Symbol.asyncDispose]() {} };
    return new KubernetesEvents({ connection: this.#connection, ...source });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#nodeObjects?.[Symbol.dispose]();
    await this.store[Symbol.asyncDispose]();
  }
}
