/** One node of the cluster: a containerd and a kubelet with folders and a mount namespace of their own. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Daemon } from "./daemon.ts";
import { endTrees } from "./process-trees.ts";
import { programs } from "./programs.ts";
import { run } from "./run.ts";
import type { Pod } from "./space.ts";

export interface ClusterNodeOptions {
  readonly name: string;
  readonly directory: string;
  /** The kubelet's directory as this node sees it: the same for all, as on real nodes. */
  readonly kubeletDirectory: string;
  readonly address: string;
  /** Addresses its pods get: the network's first three numbers. */
  readonly podNetwork: string;
  readonly gateway: string;
  /** Path of the network namespace. */
  readonly network: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly kubeconfig: string;
  readonly sandboxImage: string;
}

export class ClusterNode implements AsyncDisposable {
  readonly name: string;
  readonly directory: string;
  readonly #options: ClusterNodeOptions;
  readonly #holder: Daemon;
  #containerd: Daemon | undefined;
  #kubelet: Daemon | undefined;

  private constructor(options: ClusterNodeOptions) {
    this.name = options.name;
    this.directory = options.directory;
    this.#options = options;
    const { directory, kubeletDirectory, environment } = options;
    const script = [
      `mount --bind ${directory}/kubelet ${kubeletDirectory}`,
      // Mounts of pods must reach the node and each other.
      `mount --make-rshared ${kubeletDirectory}`,
      `touch ${directory}/mounted`,
      "exec sleep infinity",
    ].join(" && ");
    this.#holder = new Daemon({
      name: `mount namespace of ${options.name}`,
      command: ["unshare", "--mount", "--propagation=private", "sh", "-c", script],
      logFile: join(directory, "mount-namespace.log"),
      environment,
    });
  }

  static async start(options: ClusterNodeOptions, imageArchives: readonly string[]): Promise<ClusterNode> {
    for (const folder of ["cni", "kubelet", "pod-logs"]) mkdirSync(join(options.directory, folder));
    const node = new ClusterNode(options);
    await node.#holder.untilReady(async () => existsSync(join(options.directory, "mounted")));
    node.#writeConfiguration();
    await node.#startContainerd();
    for (const archive of imageArchives) await node.loadImage(archive);
    node.startKubelet();
    return node;
  }

  /** What precedes a command to run it on this node: in its mounts and the cluster's network. */
  get enter(): readonly string[] {
    return ["nsenter", `--mount=/proc/${this.#holder.pid}/ns/mnt`, `--net=${this.#options.network}`];
  }

  /** Runs a command on the node, as its administrator would. */
  async run(command: readonly string[]): Promise<string> {
    return (await run([...this.enter, ...command])).stdout;
  }

  async loadImage(archive: string): Promise<void> {
    await this.#ctr(["images", "import", archive]);
  }

  /** Process id of a running container, as this machine sees it. */
  async containerPid(pod: Pod, container: string): Promise<number> {
    const status = pod.status.containerStatuses?.find(({ name }) => name === container);
    const id = status?.containerID?.replace("containerd://", "");
    const tasks = await this.#ctr(["tasks", "list"]);
    const pid = tasks.split("\n").find((line) => id !== undefined && line.startsWith(id));
    if (pid === undefined) throw new Error(`no task of container ${container} of pod ${pod.metadata.name}\n${tasks}`);
    return Number(pid.split(/\s+/)[1]);
  }

  async #ctr(args: readonly string[]): Promise<string> {
    return (await run(["ctr", "--address", this.#socket, "--namespace", "k8s.io", ...args])).stdout;
  }

  startKubelet(): void {
    const { name, directory, kubeletDirectory, address, kubeconfig, environment } = this.#options;
    this.#kubelet = new Daemon({
      name: `kubelet ${name}`,
      command: [
        ...this.enter,
        programs.kubelet,
        `--config=${join(directory, "kubelet.json")}`,
        `--kubeconfig=${kubeconfig}`,
        `--root-dir=${kubeletDirectory}`,
        `--cert-dir=${join(directory, "kubelet-certificates")}`,
        `--hostname-override=${name}`,
        `--node-ip=${address}`,
      ],
      logFile: join(directory, "kubelet.log"),
      // 1.34 may die at its start: it reads a map of its resources while it fills it ("concurrent map iteration").
      restarts: 3,
      environment,
    });
  }

  async stopKubelet(): Promise<void> {
    await this.#kubelet?.stop();
  }

  /** As when its power fails: kubelet, containerd and every container are gone at once, and nobody is told. */
  async crash(): Promise<void> {
    await this.#kubelet?.stop("SIGKILL");
    await this.#containerd?.stop("SIGKILL");
    await endTrees((pid) => {
      const words = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
      return (words[0] ?? "").includes("containerd-shim") && words.includes(this.#socket);
    });
  }

  /** After a crash: with its disk, without what was in its memory. */
  async boot(): Promise<void> {
    const { directory, kubeletDirectory } = this.#options;
    const below = `tac /proc/self/mounts | cut -d' ' -f2 | grep '^${kubeletDirectory}/' | xargs -r -n1 umount --lazy`;
    await this.run(["sh", "-c", below]);
    rmSync(join(directory, "run"), { recursive: true, force: true });
    await this.#startContainerd();
    this.startKubelet();
  }

  logs(): string {
    return `${this.#kubelet?.logTail(40) ?? ""}\n${this.#containerd?.logTail(20) ?? ""}`;
  }

  /** Ends the daemons; containers go on until whoever owns the cluster ends them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kubelet?.stop();
    await this.#containerd?.stop();
    await this.#holder.stop();
  }

  get #socket(): string {
    return join(this.directory, "containerd.sock");
  }

  async #startContainerd(): Promise<void> {
    const { name, directory, environment } = this.#options;
    this.#containerd = new Daemon({
      name: `containerd ${name}`,
      command: [...this.enter, "containerd", "--config", join(directory, "containerd.toml")],
      logFile: join(directory, "containerd.log"),
      environment,
    });
    await this.#containerd.untilReady(async () => {
      await run(["ctr", "--address", this.#socket, "version"], { timeoutMs: 5_000 });
      return true;
    });
  }

  #writeConfiguration(): void {
    const { directory, podNetwork, gateway, sandboxImage, address } = this.#options;
    writeFileSync(
      join(directory, "containerd.toml"),
      `version = 2
root = "${directory}/containerd"
state = "${directory}/run"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "${this.#socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${sandboxImage}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "${directory}/cni"
[plugins."io.containerd.internal.v1.opt"]
path = "${directory}/opt"
`,
    );
    const network = {
      cniVersion: "0.4.0",
      name: "pods",
      plugins: [
        {
          type: "bridge",
          bridge: "cluster",
          isGateway: false,
          ipMasq: false,
          ipam: {
            type: "host-local",
            dataDir: join(directory, "addresses"),
            ranges: [
              [
                {
                  subnet: "10.200.0.0/16",
                  rangeStart: `${podNetwork}.2`,
                  rangeEnd: `${podNetwork}.250`,
                  gateway,
                },
              ],
            ],
            routes: [{ dst: "0.0.0.0/0" }],
          },
        },
      ],
    };
    writeFileSync(join(directory, "cni", "10-pods.conflist"), JSON.stringify(network));
    const kubelet = {
      apiVersion: "kubelet.config.k8s.io/v1beta1",
      kind: "KubeletConfiguration",
      address,
      authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
      authorization: { mode: "AlwaysAllow" },
      cgroupDriver: "cgroupfs",
      cgroupRoot: "/",
      cgroupsPerQOS: false,
      enforceNodeAllocatable: [],
      failSwapOn: false,
      containerRuntimeEndpoint: `unix://${this.#socket}`,
      podLogsDir: join(directory, "pod-logs"),
      healthzPort: 0,
      makeIPTablesUtilChains: false,
      // A test machine's disk may be nearly full; that is not what is tested.
      evictionHard: { "memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%" },
      imageGCHighThresholdPercent: 100,
      imageGCLowThresholdPercent: 99,
      clusterDomain: "cluster.local",
      resolvConf: "",
      syncFrequency: "10s",
      nodeStatusUpdateFrequency: "4s",
    };
    writeFileSync(join(directory, "kubelet.json"), JSON.stringify(kubelet));
  }
}
