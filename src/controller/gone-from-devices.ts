import { type StoredRecord, updateRecord } from "../state/index.ts";
import type { ControllerContext } from "./context.ts";
import type { KnownNodes } from "./quarantine.ts";

/**
 * Takes nodes that are gone for good out of a device's record: it has room for so many names, and with every node that
 * is replaced there comes a new one. A node that is back enters itself again.
 */
export async function forgetGoneNodes(
  { store, liveness, nodeObjects, logger }: Pick<ControllerContext, "store" | "liveness" | "nodeObjects" | "logger">,
  { name, nodes }: StoredRecord<"devices">,
  { isGone }: Pick<KnownNodes, "isGone">,
): Promise<void> {
  const gone = new Set<string>();
  for (const nodeId of Object.keys(nodes)) {
    if (liveness.get(nodeId) !== undefined || !(await isGone(nodeId))) continue;
    // One that is just starting is in the device's record before it has one of its own.
    if ((await nodeObjects.whyGone(nodeId, { hasRecord: true })) !== undefined) gone.add(nodeId);
  }
  if (gone.size === 0) return;
  await updateRecord(store, "devices", name, (found) => {
    const left = Object.entries(found.nodes).filter(([nodeId]) => !gone.has(nodeId));
    return { ...found, nodes: Object.fromEntries(left) };
  });
  logger.info({ device: name, nodes: [...gone] }, "nodes that are gone reach the device no more");
}
