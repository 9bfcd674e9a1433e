import { FamfsError } from "../base/index.ts";
import type { Store } from "../state/index.ts";

/**
 * A fabric is for life: the kubelet refuses to register a driver whose topology changed, and PersistentVolumes keep the
 * old one in their node affinity. FABRIC_CONFLICT when this node was registered in another one, or has volumes of
 * another. A node that has neither record nor volumes may be in any. After it the informer has all that a former process
 * of this node wrote.
 */
export async function assertFabric(
  store: Store,
  { nodeId, fabric }: { readonly nodeId: string; readonly fabric: string },
): Promise<void> {
  const registered = (await store.get("nodes", nodeId))?.fabric;
  if (registered !== undefined && registered !== fabric) {
    throw new FamfsError(
      "FABRIC_CONFLICT",
      `node ${nodeId} is registered in fabric "${registered}" and was started with --fabric=${fabric}: give it --fabric=${registered}. To move the node: drain it, delete its Lease and its label famfs.csi.dev/fabric, and start it again (docs/operations.md)`,
    );
  }
  const volumes = store.informer("volumes");
  await volumes.resync();
  for (const volume of volumes.list()) {
    const here = volume.staged[nodeId] !== undefined || volume.published[nodeId] !== undefined;
    if (!here || volume.fabric === fabric || volume.fabric === "") continue;
    throw new FamfsError(
      "FABRIC_CONFLICT",
      `node ${nodeId} has volume ${volume.name} of fabric "${volume.fabric}" and was started with --fabric=${fabric}: give it --fabric=${volume.fabric}, or drain it first`,
    );
  }
}
