/**
 * A Kubernetes API server alone, on loopback: for tests of what only talks to the API. It goes with the test, also when
 * that is killed, or fails before it got what it would dispose of.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "../../src/base/index.ts";
import { type ClusterConnection, type ConnectOptions, connect } from "../../src/state/kubernetes/connection.ts";
import { customResourceDefinition, DEFINITIONS } from "../../src/state/kubernetes/crd.ts";
import { KubernetesStore } from "../../src/state/kubernetes/kubernetes-store.ts";
import { ControlPlane, type ControlPlaneOptions } from "./support/control-plane.ts";
import { programs } from "./support/programs.ts";
import { CLUSTER_MARKER, Reaper } from "./support/reaper.ts";
import { run } from "./support/run.ts";

/** Holds the nodes' Leases, as in the chart. */
export const NODE_NAMESPACE = "famfs-csi-nodes";

type ApiServerOptions = Pick<ControlPlaneOptions, "users" | "apiServerFlags">;

export class ApiServer implements AsyncDisposable {
  readonly directory: string;
  readonly plane: ControlPlane;
  readonly #reaper: Reaper;

  private constructor(directory: string, plane: ControlPlane, reaper: Reaper) {
    this.directory = directory;
    this.plane = plane;
    this.#reaper = reaper;
  }

  static async start(options: ApiServerOptions = {}): Promise<ApiServer> {
    const directory = mkdtempSync(join(tmpdir(), "famfs-api-"));
    const reaper = Reaper.start(directory);
    try {
      const environment = { [CLUSTER_MARKER]: directory };
      const plane = await ControlPlane.start({ ...options, directory, address: "127.0.0.1", environment });
      return new ApiServer(directory, plane, reaper);
    } catch (error) {
      await reaper[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** One that a store can be opened on: it has the driver's custom resources and the namespace of the nodes' Leases. */
  static async startWithRecords(options: ApiServerOptions = {}): Promise<ApiServer> {
    const server = await ApiServer.start(options);
    try {
      await server.createNamespaces(NODE_NAMESPACE);
      await server.create(...DEFINITIONS.map(customResourceDefinition));
      await server.untilEstablished();
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  async create(...items: readonly object[]): Promise<void> {
    await this.kubectl(["create", "--filename=-"], JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  }

  async createNamespaces(...names: readonly string[]): Promise<void> {
    await this.create(...names.map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } })));
  }

  /** Until every custom resource that was defined is served. */
  async untilEstablished(): Promise<void> {
    await this.kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
  }

  /** As `user`, by default the administrator. */
  connect({
    user,
    ...options
  }: { user?: string | undefined } & Partial<ConnectOptions> = {}): Promise<ClusterConnection> {
    return connect({ environment: {}, kubeconfig: this.plane.kubeconfig(user), ...options });
  }

  /** The administrator's, unless another connection is given. */
  async openStore(connection?: ClusterConnection): Promise<KubernetesStore> {
    const used = connection ?? (await this.connect());
    return KubernetesStore.open({ connection: used, nodeNamespace: NODE_NAMESPACE, logger: silentLogger });
  }

  async kubectl(args: readonly string[], input?: string): Promise<string> {
    const command = [programs.kubectl, `--kubeconfig=${this.plane.kubeconfig()}`, ...args];
    return (await run(command, input === undefined ? {} : { input })).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.plane[Symbol.asyncDispose]();
    await this.#reaper[Symbol.asyncDispose]();
  }
}
