/**
 * A Kubernetes cluster of two nodes on this machine: real API server, scheduler, controller manager, kubelets and
 * containerd, in a network namespace of its own, with everything below one temporary directory.
 */
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Api } from "./support/api.ts";
import { ClusterNode } from "./support/cluster-node.ts";
import { ControlPlane } from "./support/control-plane.ts";
import { Daemon } from "./support/daemon.ts";
import { buildToolsImage, TOOLS_IMAGE } from "./support/images.ts";
import { programs } from "./support/programs.ts";
import { CLUSTER_MARKER, Reaper } from "./support/reaper.ts";
import { type RunOptions, run } from "./support/run.ts";
import { until } from "./support/until.ts";

const CONTROL_ADDRESS = "10.200.0.1";
/** Where pods find the API server. Without kube-proxy the bridge simply has this address, too. */
const SERVICE_ADDRESS = "10.96.0.1";
const BRIDGE = "cluster";

export interface ClusterOptions {
  /** Default two. */
  readonly nodes?: readonly string[];
  /** Archives of images that every node gets. */
  readonly imageArchives?: readonly string[];
}

export class Cluster implements AsyncDisposable {
  readonly directory: string;
  readonly nodes: ClusterNode[] = [];
  readonly #reaper: Reaper;
  readonly #stack = new AsyncDisposableStack();
  readonly #environment: Readonly<Record<string, string>>;
  #plane: ControlPlane | undefined;

  private constructor(directory: string, reaper: Reaper) {
    this.directory = directory;
    this.#reaper = reaper;
    this.#environment = { [CLUSTER_MARKER]: directory };
  }

  static async start({ nodes = ["node-a", "node-b"], imageArchives = [] }: ClusterOptions = {}): Promise<Cluster> {
    // Short, because paths of sockets have at most 107 bytes. Not below /dev, which the driver's pods mount as a whole.
    const directory = mkdtempSync("/tmp/k-");
    const cluster = new Cluster(directory, Reaper.start(directory));
    try {
      await cluster.#prepare();
      await cluster.#startControlPlane(nodes);
      const tools = join(directory, "tools.tar");
      await buildToolsImage(tools);
      for (const [index, name] of nodes.entries()) await cluster.#startNode(name, index, [tools, ...imageArchives]);
      await until(
        "all nodes Ready",
        async () => {
          const jsonpath = '{.items[*].status.conditions[?(@.type=="Ready")].status}';
          const ready = await cluster.kubectl(["get", "nodes", `--output=jsonpath=${jsonpath}`]);
          await cluster.kubectl(["get", "serviceaccount", "default"]); // pods wait for it, `create pod` does not
          return ready.split(" ").filter((each) => each === "True").length === nodes.length;
        },
        { timeoutMs: 90_000, periodMs: 300 },
      );
    } catch (error) {
      const logs = cluster.logs();
      await cluster[Symbol.asyncDispose]();
      throw new Error(`the cluster does not start\n${logs}`, { cause: error });
    }
    return cluster;
  }

  get plane(): ControlPlane {
    if (this.#plane === undefined) throw new Error("the control plane is not there");
    return this.#plane;
  }

  /** Every node's kubelet has its directory here, in the node's own mount namespace. */
  get kubeletDirectory(): string {
    return join(this.directory, "kubelet");
  }

  /** The API by HTTP, without a process for each request. */
  get api(): Api {
    return new Api(this.#apiSocket);
  }

  get #apiSocket(): string {
    return join(this.directory, "api.sock");
  }

  get network(): string {
    return join(this.directory, "network");
  }

  /** What precedes a command to run it in the cluster's network. */
  get enter(): readonly string[] {
    return ["nsenter", `--net=${this.network}`];
  }

  /** Environment of everything that belongs to the cluster, so that it can be found. */
  get environment(): Readonly<Record<string, string>> {
    return this.#environment;
  }

  async run(command: readonly string[], options: RunOptions = {}): Promise<string> {
    const environment = { ...this.#environment, KUBECONFIG: this.plane.kubeconfig(), ...options.environment };
    return (await run([...this.enter, ...command], { ...options, environment })).stdout;
  }

  kubectl(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return this.run([programs.kubectl, ...args], options);
  }

  /** Objects as JSON, created or changed. */
  async apply(...objects: readonly object[]): Promise<void> {
    const input = JSON.stringify({ apiVersion: "v1", kind: "List", items: objects });
    await this.kubectl(["apply", "--server-side", "-f", "-"], { input });
  }

  node(name: string): ClusterNode {
    const node = this.nodes.find((each) => each.name === name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  logs(): string {
    return this.nodes.map((node) => `--- ${node.name}\n${node.logs()}`).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync().finally(() => this.#reaper[Symbol.asyncDispose]());
  }

  async #prepare(): Promise<void> {
    const { directory } = this;
    // In memory, because etcd syncs after each write. The network namespace is kept by a mount, too, which nobody else
    // shall see.
    await run(["mount", "-t", "tmpfs", "-o", "mode=0755", "cluster", directory]);
    await run(["mount", "--make-private", directory]);
    mkdirSync(this.kubeletDirectory);
    const { network } = this;
    writeFileSync(network, "");
    await run(["unshare", `--net=${network}`, "true"]);
    const commands = [
      ["link", "set", "lo", "up"],
      // With an address of its own: otherwise it has the lowest of its ports', which changes as pods come and go, and
      // pods that were there before do not reach the API until they ask for it again, half a minute later.
      ["link", "add", BRIDGE, "address", "02:00:0a:c8:00:01", "type", "bridge"],
      ...[`${CONTROL_ADDRESS}/16`, `${SERVICE_ADDRESS}/32`].map((each) => ["address", "add", each, "dev", BRIDGE]),
      ["link", "set", BRIDGE, "up"],
    ];
    for (const command of commands) await run([...this.enter, "ip", ...command]);
  }

  async #startControlPlane(nodes: readonly string[]): Promise<void> {
    this.#plane = this.#stack.use(
      await ControlPlane.start({
        directory: join(this.directory, "control"),
        enter: this.enter,
        environment: this.#environment,
        address: CONTROL_ADDRESS,
        ports: { etcd: 2379, etcdPeer: 2380, api: 443 },
        users: nodes.map((name) => ({ name: `system:node:${name}`, groups: ["system:nodes"] })),
        apiServerFlags: ["--kubelet-preferred-address-types=InternalIP"],
      }),
    );
    // Or else a kubelet may hear of a pod before the node authorizer has heard that its claims are that node's, is
    // refused, and waits ten seconds: a race of Kubernetes' own that a loaded machine loses often.
    await this.apply({
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "test-kubelets" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "system:node" },
      subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: "system:nodes" }],
    });
    const kubeconfig = `--kubeconfig=${this.plane.kubeconfig()}`;
    this.#daemon("kube-controller-manager", [
      programs.controllerManager,
      kubeconfig,
      "--leader-elect=false",
      "--use-service-account-credentials=true",
      `--service-account-private-key-file=${this.plane.serviceAccountKey}`,
      `--root-ca-file=${this.plane.certificateAuthority}`,
      // A node that is gone shall be noticed while a test waits.
      "--node-monitor-grace-period=20s",
    ]);
    this.#daemon("kube-scheduler", [programs.scheduler, kubeconfig, "--leader-elect=false"]);
    this.#daemon("kubectl-proxy", [programs.kubectl, kubeconfig, "proxy", `--unix-socket=${this.#apiSocket}`]);
  }

  #daemon(name: string, command: readonly string[]): void {
    this.#stack.use(
      new Daemon({
        name,
        command: [...this.enter, ...command],
        logFile: join(this.directory, `${name}.log`),
        environment: this.#environment,
      }),
    );
  }

  async #startNode(name: string, index: number, imageArchives: readonly string[]): Promise<void> {
    const address = `10.200.0.${11 + index}`;
    await run([...this.enter, "ip", "address", "add", `${address}/16`, "dev", BRIDGE]);
    const directory = join(this.directory, name);
    mkdirSync(directory);
    const options = {
      name,
      directory,
      address,
      podNetwork: `10.200.${index + 1}`,
      gateway: CONTROL_ADDRESS,
      kubeletDirectory: this.kubeletDirectory,
      network: this.network,
      environment: this.#environment,
      kubeconfig: this.plane.kubeconfig(`system:node:${name}`),
      sandboxImage: TOOLS_IMAGE,
    };
    this.nodes.push(this.#stack.use(await ClusterNode.start(options, imageArchives)));
  }
}
