import { hasCode, type Logger } from "../base/index.ts";
import { type NodeLiveness, TAKE_OVER_MARGIN_MS } from "./liveness.ts";
import type { Store } from "./store.ts";

/** Facts about the machine of a node beside its heartbeat. */
export interface NodeObjects {
  /**
   * Why a node that is silent counts as gone for good; undefined when nobody said so. `hasRecord`: whether its
   * heartbeat record is there still. STORE_UNAVAILABLE.
   */
  whyGone(nodeId: string, node: { readonly hasRecord: boolean }): Promise<string | undefined>;
}

/** Without a cluster nobody declares a node gone but by deleting its record, which a node that runs writes anew. */
export const NO_NODE_OBJECTS: NodeObjects = {
  whyGone: async (_nodeId, { hasRecord }) => (hasRecord ? undefined : "its record was deleted"),
};

export interface GoneNodesOptions {
  readonly store: Store;
  readonly liveness: NodeLiveness;
  readonly nodeObjects: NodeObjects;
  readonly logger: Logger;
}

/**
 * Why a node without a record is gone for good. A record that is missing says nothing by itself: somebody may have
 * deleted it, or all of them, while the node runs. It says so when the node is silent, too, and was declared gone.
 */
export async function whyGone(
  { liveness, nodeObjects }: Pick<GoneNodesOptions, "liveness" | "nodeObjects">,
  nodeId: string,
): Promise<string | undefined> {
  if (liveness.isAlive(nodeId, TAKE_OVER_MARGIN_MS)) return undefined;
  return await nodeObjects.whyGone(nodeId, { hasRecord: false });
}

/**
 * Deletes the records of nodes that are silent *and* were declared gone. A node that still renews its
 * heartbeat is not gone, whatever is said about it. The record is deleted only at the version that was silent, so a
 * node that comes back in between stays; one that comes back later finds its record gone and gives up what it had
 * before it registers anew (heartbeat.ts).
 */
export async function removeGoneNodes({ store, liveness, nodeObjects, logger }: GoneNodesOptions): Promise<void> {
  for (const { nodeId, instance, renewedAt } of liveness.silent(TAKE_OVER_MARGIN_MS)) {
    const reason = await nodeObjects.whyGone(nodeId, { hasRecord: true });
    if (reason === undefined) continue;
    const record = await store.get("nodes", nodeId);
    if (record === undefined || record.instance !== instance || record.renewedAt !== renewedAt) continue;
    try {
      await store.delete("nodes", nodeId, record.resourceVersion);
    } catch (error) {
      if (!hasCode(error, "CONFLICT")) throw error;
      continue;
    }
    logger.warn({ node: nodeId, reason }, "a silent node counts as gone: what it staged is no longer kept for it");
  }
}
