import { hostname } from "node:os";
import { type Command, InvalidArgumentError, Option } from "commander";
import { FamfsError, type Logger } from "../../base/index.ts";
import { isInCluster, OpenedStore } from "../../state/index.ts";
import type { Metrics } from "../metrics/metrics.ts";

/** Options that several of `controller`, `node` and `standalone` have, so that they read the same everywhere. */
export const endpointOption = () =>
  new Option("--endpoint <url>", "Unix socket to serve CSI on, such as unix:///run/famfs-csi/csi.sock")
    .env("CSI_ENDPOINT")
    .makeOptionMandatory();

export const stateDirOption = () =>
  new Option("--state-dir <dir>", "where the embedded store keeps its records; shared by all parts on this machine")
    .env("FAMFS_CSI_STATE_DIR")
    .makeOptionMandatory();

export interface StoreFlags {
  readonly store: "auto" | "embedded" | "kubernetes";
  readonly stateDir?: string;
  readonly kubeconfig?: string;
  readonly nodeNamespace?: string;
}

export interface StoreAccess {
  readonly logger: Logger;
  readonly metrics: Metrics | undefined;
  /** Of another account than this pod's, or the kubeconfig's. */
  readonly token?: string | undefined;
  /** Ends the opening. */
  readonly signal?: AbortSignal;
}

/** Where the records live: what `controller` and `node` have and `standalone` has not. */
export function addStoreOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--store <kind>", "where records live; auto: the cluster when in a pod of one")
        .choices(["auto", "embedded", "kubernetes"])
        .default("auto"),
    )
    .addOption(new Option("--state-dir <dir>", "where the embedded store keeps its records").env("FAMFS_CSI_STATE_DIR"))
    .option("--kubeconfig <file>", "credentials for the Kubernetes API (default: the pod's service account)")
    .addOption(
      new Option("--node-namespace <name>", "namespace of the Leases of nodes").env("FAMFS_CSI_NODE_NAMESPACE"),
    );
}

export function openStore(
  { store, stateDir, kubeconfig, nodeNamespace }: StoreFlags,
  { logger, metrics, token, signal }: StoreAccess,
) {
  const environment = process.env;
  const kubernetes =
    store === "kubernetes" || (store === "auto" && (kubeconfig !== undefined || isInCluster({ environment })));
  const onAnswer = metrics?.requestAnswered;
  if (kubernetes) {
    const access = { environment, kubeconfig, token, nodeNamespace, onAnswer, logger, signal };
    return OpenedStore.open({ type: "kubernetes", ...access });
  }
  if (stateDir !== undefined) return OpenedStore.open({ type: "embedded", stateDir });
  throw new FamfsError("INVALID_ARGUMENT", "not in a cluster: say where records live with --state-dir or --kubeconfig");
}

/** For the kubelet's probes and Prometheus; without it nothing listens. */
export const healthPortOption = () =>
  new Option("--health-port <port>", "serve /healthz, /readyz and /metrics on this TCP port").argParser((text) => {
    const port = Number(text);
    if (Number.isInteger(port) && port > 0 && port < 65536) return port;
    throw new InvalidArgumentError("a port is a number from 1 to 65535");
  });

export interface NodeFlags {
  readonly nodeId: string;
  readonly fabric: string;
  readonly pool: string;
  readonly device: readonly string[];
  readonly force?: boolean;
  readonly runDir?: string;
}

/** The flags of whatever runs a node plugin. */
export function addNodeOptions(command: Command): Command {
  return command
    .addOption(new Option("--node-id <name>", "this node, unique in the cluster").env("NODE_NAME").default(hostname()))
    .option("--fabric <name>", "the set of nodes that reach the same memory; must not change", "default")
    .option("--pool <name>", "the pool that blank devices join", "default")
    .option(
      "--device <device>",
      "a device of the pool; may be repeated. A blank one is initialised. auto: each devdax device labelled for the pool",
      collect,
      [],
    )
    .option("--force", "initialise devices whatever they hold: that is lost")
    .option("--run-dir <dir>", "records of what is staged here (default: a directory in --state-dir)");
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}
