import { hasCode, type Logger } from "../base/index.ts";
import { type NodeLiveness, TAKE_OVER_MARGIN_MS } from "./liveness.ts";
import type { Store } from "./store.ts";

/** What is known about the machine of a node beside its heartbeat. */
export interface NodeObjects {
  /** Why the node counts as gone for good; undefined when nobody said so. STORE_UNAVAILABLE. */
  whyGone(nodeId: string): Promise<string | undefined>;
}

/** Without a cluster nobody declares a node gone but by deleting its record. */
export const NO_NODE_OBJECTS: NodeObjects = { whyGone: async () => undefined };

export interface GoneNodesOptions {
  readonly store: Store;
  readonly liveness: NodeLiveness;
  readonly nodeObjects: NodeObjects;
  readonly logger: Logger;
}

/**
 * Deletes the records of nodes that are silent *and* were declared gone, which is what takes them out of every
 * quarantine: a node without a record staged nothing, writes nothing and does no job. A node that still renews its
 * heartbeat is not gone, whatever is said about it. The record is deleted only at the version that was silent, so a
 * node that comes back in between stays; one that comes back later finds its record gone and gives up what it had
 * before it registers anew (heartbeat.ts).
 */
export async function removeGoneNodes({ store, liveness, nodeObjects, logger }: GoneNodesOptions): Promise<void> {
  for (const { nodeId, instance, renewedAt } of liveness.silent(TAKE_OVER_MARGIN_MS)) {
    const reason = await nodeObjects.whyGone(nodeId);
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
