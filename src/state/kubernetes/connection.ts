import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { FamfsError, messageOf } from "../../base/index.ts";

/** One request to the API server and what came of it: an HTTP status, or "none" when there was no answer. */
export interface AnsweredRequest {
  readonly method: string;
  readonly code: string;
}

/** Where the API server is and how it knows us. */
export interface ClusterConnection {
  readonly server: URL;
  /** Namespace of this pod, or of the kubeconfig's context. */
  readonly namespace: string;
  readonly tls: {
    readonly ca?: Buffer | string;
    readonly cert?: Buffer | string;
    readonly key?: Buffer | string;
    readonly servername?: string;
    readonly rejectUnauthorized?: boolean;
  };
  /** Asked for before each request, because tokens are rotated. */
  headers(): Promise<Record<string, string>>;
  /** Called once for each request, repeated ones too; must not throw. */
  readonly onAnswer?: ((request: AnsweredRequest) => void) | undefined;
}

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

export interface ConnectOptions {
  readonly environment: NodeJS.ProcessEnv;
  /** A kubeconfig; without one the pod's service account is used. */
  readonly kubeconfig?: string | undefined;
  /** Of another account that is used instead, at the same API server. */
  readonly token?: string | undefined;
  /** Only tests give another one. */
  readonly serviceAccount?: string;
  readonly onAnswer?: ClusterConnection["onAnswer"];
}

/** Whether this process runs in a pod that may ask the API server. */
export function isInCluster({ environment, serviceAccount = SERVICE_ACCOUNT }: ConnectOptions): boolean {
  return environment["KUBERNETES_SERVICE_HOST"] !== undefined && existsSync(join(serviceAccount, "token"));
}

/** Errors: STORE_UNAVAILABLE, which says what is missing. */
export async function connect(options: ConnectOptions): Promise<ClusterConnection> {
  const { onAnswer, token } = options;
  const found = await findServer(options);
  if (token === undefined) return { ...found, onAnswer };
  // A client certificate would be looked at first.
  const { cert: _cert, key: _key, ...tls } = found.tls;
  return { ...found, tls, headers: async () => ({ authorization: `Bearer ${token}` }), onAnswer };
}

async function findServer(options: ConnectOptions): Promise<ClusterConnection> {
  if (options.kubeconfig !== undefined) return await fromKubeconfig(options.kubeconfig);
  if (isInCluster(options)) return fromServiceAccount(options);
  throw new FamfsError("STORE_UNAVAILABLE", "not in a pod of a Kubernetes cluster, and no kubeconfig was given");
}

/**
 * A pod's own credentials. Read here rather than by the client library, which costs 90 MB of memory and 0.8 s in every
 * process that loads it (docs/decisions/0005).
 */
function fromServiceAccount({ environment, serviceAccount = SERVICE_ACCOUNT }: ConnectOptions): ClusterConnection {
  const host = environment["KUBERNETES_SERVICE_HOST"] ?? "";
  const port = environment["KUBERNETES_SERVICE_PORT"] ?? "443";
  const tokenFile = join(serviceAccount, "token");
  try {
    return {
      server: new URL(`https://${host.includes(":") ? `[${host}]` : host}:${port}`),
      namespace: readFileSync(join(serviceAccount, "namespace"), "utf8").trim(),
      tls: { ca: readFileSync(join(serviceAccount, "ca.crt")) },
      // The kubelet replaces the file well before the token runs out; one small read costs less than knowing when.
      headers: async () => ({ authorization: `Bearer ${(await readFile(tokenFile, "utf8")).trim()}` }),
    };
  } catch (error) {
    throw new FamfsError("STORE_UNAVAILABLE", `the pod's service account: ${messageOf(error)}`, { cause: error });
  }
}

async function fromKubeconfig(path: string): Promise<ClusterConnection> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  try {
    config.loadFromFile(path);
  } catch (error) {
    throw new FamfsError("STORE_UNAVAILABLE", `kubeconfig ${path}: ${messageOf(error)}`, { cause: error });
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new FamfsError("STORE_UNAVAILABLE", `kubeconfig ${path} names no current cluster`);
  const first: import("node:https").RequestOptions = {};
  await config.applyToHTTPSOptions(first);
  return {
    server: new URL(cluster.server),
    namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? "default",
    tls: Object.fromEntries(
      (["ca", "cert", "key", "servername", "rejectUnauthorized"] as const)
        .filter((name) => first[name] !== undefined)
        .map((name) => [name, first[name]]),
    ),
    async headers() {
      const options: import("node:https").RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      const { headers = {}, auth } = options;
      return {
        ...(typeof auth === "string" ? { authorization: `Basic ${Buffer.from(auth).toString("base64")}` } : {}),
        ...Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)])),
      };
    },
  };
}
