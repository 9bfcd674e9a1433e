/** etcd and a Kubernetes API server, and who may talk to them. */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { createServer } from "node:net";
import { join } from "node:path";
import { Daemon } from "./daemon.ts";
import { programs } from "./programs.ts";
import { run } from "./run.ts";

export interface ControlPlaneOptions {
  /** Everything is below it; made by the caller. */
  readonly directory: string;
  /** What precedes each command: nothing, or `nsenter` into a network namespace. */
  readonly enter?: readonly string[];
  /** Address that others reach it by; also in its certificate. */
  readonly address: string;
  readonly ports?: { readonly etcd: number; readonly etcdPeer: number; readonly api: number };
  readonly environment?: Readonly<Record<string, string>>;
  /** Users besides the administrator: name and groups. */
  readonly users?: readonly { readonly name: string; readonly groups: readonly string[] }[];
  readonly apiServerFlags?: readonly string[];
}

const SERVICES = "10.96.0.0/16";

/** Secrets are made anew for each start and never leave the directory. */
export class ControlPlane implements AsyncDisposable {
  readonly directory: string;
  readonly server: string;
  readonly #options: ControlPlaneOptions;
  readonly #ports: { readonly etcd: number; readonly etcdPeer: number; readonly api: number };
  readonly #tokens = new Map<string, string>();
  #etcd: Daemon | undefined;
  #apiServer: Daemon | undefined;

  private constructor(options: ControlPlaneOptions, ports: { etcd: number; etcdPeer: number; api: number }) {
    this.#options = options;
    this.#ports = ports;
    this.directory = options.directory;
    this.server = `https://${options.address}:${ports.api}`;
  }

  static async start(options: ControlPlaneOptions): Promise<ControlPlane> {
    const [etcd = 0, etcdPeer = 0, api = 0] = await freePorts(3);
    const plane = new ControlPlane(options, options.ports ?? { etcd, etcdPeer, api });
    try {
      plane.#writeSecrets();
      await plane.#startEtcd();
      await plane.startApiServer();
    } catch (error) {
      await plane[Symbol.asyncDispose]();
      throw error;
    }
    return plane;
  }

  get certificateAuthority(): string {
    return join(this.directory, "certificates", "apiserver.crt");
  }

  get serviceAccountKey(): string {
    return join(this.directory, "service-accounts.key");
  }

  /** A kubeconfig for a user that was named at the start, or the administrator. */
  kubeconfig(user = "admin"): string {
    const token = this.#tokens.get(user);
    if (token === undefined) throw new Error(`no user ${user}`);
    const file = join(this.directory, `${user.replaceAll(":", "-")}.kubeconfig`);
    writeFileSync(
      file,
      JSON.stringify({
        apiVersion: "v1",
        kind: "Config",
        "current-context": "test",
        clusters: [
          { name: "test", cluster: { server: this.server, "certificate-authority": this.certificateAuthority } },
        ],
        users: [{ name: user, user: { token } }],
        contexts: [{ name: "test", context: { cluster: "test", user } }],
      }),
      { mode: 0o600 },
    );
    return file;
  }

  async startApiServer(): Promise<void> {
    const { address, apiServerFlags = [] } = this.#options;
    this.#apiServer = this.#daemon("kube-apiserver", [
      programs.apiServer,
      `--etcd-servers=http://127.0.0.1:${this.#ports.etcd}`,
      `--bind-address=${address === "127.0.0.1" ? address : "0.0.0.0"}`,
      `--advertise-address=${address}`,
      `--secure-port=${this.#ports.api}`,
      `--cert-dir=${join(this.directory, "certificates")}`,
      `--token-auth-file=${join(this.directory, "tokens.csv")}`,
      `--service-account-key-file=${this.serviceAccountKey}`,
      `--service-account-signing-key-file=${this.serviceAccountKey}`,
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-cluster-ip-range=${SERVICES}`,
      "--authorization-mode=Node,RBAC",
      "--endpoint-reconciler-type=none",
      "--allow-privileged=true",
      ...apiServerFlags,
    ]);
    await this.#apiServer.untilReady(() => this.#isReady());
  }

  /** As when it crashes or its host restarts: the watches of everybody break. */
  async stopApiServer(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await this.#apiServer?.stop(signal);
  }

  get apiPort(): number {
    return this.#ports.api;
  }

  /** Makes etcd forget all old versions. A new API server then answers 410 to a watch from one of them. */
  async compact(): Promise<void> {
    const etcdctl = [...(this.#options.enter ?? []), "etcdctl", `--endpoints=${this.#etcdEndpoint()}`];
    const environment = { ETCDCTL_API: "3" };
    const { stdout } = await run([...etcdctl, "endpoint", "status", "--write-out=json"], { environment });
    const [{ Status: status }] = JSON.parse(stdout) as [{ Status: { header: { revision: number } } }];
    await run([...etcdctl, "compact", String(status.header.revision)], { environment });
  }

  /** What etcd holds now, in a file. */
  async backUp(file: string): Promise<void> {
    const etcdctl = [...(this.#options.enter ?? []), "etcdctl", `--endpoints=${this.#etcdEndpoint()}`];
    await run([...etcdctl, "snapshot", "save", file], { environment: { ETCDCTL_API: "3" } });
  }

  /**
   * As the manual of etcd has it: everything is stopped, the backup takes the place of the data, everything is started.
   */
  async restore(file: string): Promise<void> {
    await this.stopApiServer();
    await this.#etcd?.stop();
    const data = join(this.directory, "etcd");
    rmSync(data, { recursive: true });
    const peer = `http://127.0.0.1:${this.#ports.etcdPeer}`;
    const member = [`--initial-cluster=default=${peer}`, `--initial-advertise-peer-urls=${peer}`];
    const etcdctl = [...(this.#options.enter ?? []), "etcdctl", "snapshot", "restore", file, `--data-dir=${data}`];
    await run([...etcdctl, ...member], { environment: { ETCDCTL_API: "3" } });
    await this.#startEtcd();
    await this.startApiServer();
  }

  #etcdEndpoint(): string {
    return `http://127.0.0.1:${this.#ports.etcd}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#apiServer?.stop();
    await this.#etcd?.stop();
  }

  async #startEtcd(): Promise<void> {
    const client = this.#etcdEndpoint();
    const peer = `http://127.0.0.1:${this.#ports.etcdPeer}`;
    this.#etcd = this.#daemon("etcd", [
      "etcd",
      `--data-dir=${join(this.directory, "etcd")}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
    ]);
    // The API server waits for it by itself.
  }

  #daemon(name: string, command: readonly string[]): Daemon {
    const { enter = [], environment } = this.#options;
    return new Daemon({
      name,
      command: [...enter, ...command],
      logFile: join(this.directory, `${name}.log`),
      ...(environment === undefined ? {} : { environment }),
    });
  }

  #writeSecrets(): void {
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    writeFileSync(this.serviceAccountKey, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    const users = [{ name: "admin", groups: ["system:masters"] }, ...(this.#options.users ?? [])];
    const rows = users.map(({ name, groups }) => {
      const token = randomBytes(16).toString("hex");
      this.#tokens.set(name, token);
      return `${token},${name},${name},"${groups.join(",")}"\n`;
    });
    writeFileSync(join(this.directory, "tokens.csv"), rows.join(""), { mode: 0o600 });
  }

  /** Asked over the network namespace of the server only when that is ours. */
  async #isReady(): Promise<boolean> {
    const { enter = [] } = this.#options;
    const path = "/readyz";
    if (enter.length > 0) {
      const kubectl = [programs.kubectl, `--kubeconfig=${this.kubeconfig()}`, "get", "--raw", path];
      return (await run([...enter, ...kubectl])).stdout === "ok";
    }
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const headers = { authorization: `Bearer ${this.#tokens.get("admin")}` };
    const ca = readFileSync(this.certificateAuthority);
    request(`${this.server}${path}`, { headers, ca, timeout: 2_000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    })
      .on("error", reject)
      .on("timeout", () => reject(new Error("no answer")))
      .end();
    return promise;
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      const { promise, resolve } = Promise.withResolvers<void>();
      server.listen(0, "127.0.0.1", resolve);
      await promise;
      return server;
    }),
  );
  return servers.map((server) => {
    const address = server.address();
    server.close();
    return typeof address === "object" && address !== null ? address.port : 0;
  });
}
