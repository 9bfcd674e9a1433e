import type { NodeObjects } from "../gone-nodes.ts";
import { KubernetesApi } from "./api.ts";
import { asRecord } from "./api-object.ts";
import type { ClusterConnection } from "./connection.ts";

/** Kubernetes' own word for "this machine is off, and somebody has made sure of it". */
const OUT_OF_SERVICE = "node.kubernetes.io/out-of-service";

/**
 * The cluster's own objects for the machines behind our nodes. Asked for one at a time and only about nodes that are
 * silent, so it needs no watch, and no right but to get a node.
 */
export class KubernetesNodeObjects implements NodeObjects, Disposable {
  readonly #api: KubernetesApi;

  constructor(connection: ClusterConnection) {
    this.#api = new KubernetesApi(connection);
  }

  async whyGone(nodeId: string): Promise<string | undefined> {
    const found = await this.#api.request({ method: "GET", path: `/api/v1/nodes/${encodeURIComponent(nodeId)}` });
    if (found === undefined) return `Node ${nodeId} was deleted`;
    const { taints } = asRecord(asRecord(found)["spec"]);
    const tainted = Array.isArray(taints) && taints.some((taint) => asRecord(taint)["key"] === OUT_OF_SERVICE);
    return tainted ? `Node ${nodeId} has the taint ${OUT_OF_SERVICE}` : undefined;
  }

  [Symbol.dispose](): void {
    this.#api[Symbol.dispose]();
  }
}
