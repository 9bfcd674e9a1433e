import { FamfsError } from "../base/index.ts";
import { ACCESS_MODE_RULES, ACCESS_MODES, type Capability } from "../csi/index.ts";
import { type StoredRecord, slotsWithout, slotsWithRoomFor, updateRecord } from "../state/index.ts";
import { type ControllerContext, lockVolume, notFound } from "./context.ts";

export interface PublishRequest {
  readonly volumeId: string;
  readonly nodeId: string;
  readonly capability: Capability;
  readonly readOnly: boolean;
}

/** How a node uses a volume, in the publish context; the node reads the rest from the volume's record. */
const ROLE = "famfs.csi.dev/role";

/**
 * Attaches the volume to a node, as design 6 says for its access mode. Where the mode has one writer, the node gets
 * the writer grant under a new epoch; WRITER_CONFLICT names the node that has it. VOLUME_EXISTS when the node has the
 * volume in another way.
 */
export async function publishVolume(
  context: ControllerContext,
  request: PublishRequest,
): Promise<Record<string, string>> {
  const { store } = context;
  const { volumeId, nodeId, capability } = request;
  using _lock = lockVolume(context, volumeId, nodeId);
  await assertReaches(context, request);
  await assertRoom(context, request);
  const readonly = request.readOnly || capability.rules.readOnly;
  const use = { accessMode: capability.accessMode, readonly };
  const volume = await updateRecord(store, "volumes", volumeId, (found) => {
    if (found.phase !== "Ready") throw notFound(volumeId);
    const present = found.published[nodeId];
    if (present?.accessMode === use.accessMode && present.readonly === use.readonly) return undefined;
    assertCompatible(found, request, readonly);
    if (present !== undefined) {
      throw new FamfsError(
        "VOLUME_EXISTS",
        `volume ${volumeId} is published to node ${nodeId} as ${show(present)}, asked for is ${show(use)}`,
      );
    }
    const published = { ...found.published, [nodeId]: use };
    if (readonly) return { ...found, published };
    const slots = slotsWithRoomFor(found, nodeId);
    if (capability.rules.writer !== "one") return { ...found, published, slots };
    const epoch = found.epoch + 1;
    return { ...found, published, slots, epoch, writer: { nodeId, epoch, since: new Date().toISOString() } };
  });
  if (volume === undefined) throw notFound(volumeId);
  await context.volumes.untilShown(volumeId, (shown) => shown?.published[nodeId] !== undefined);
  return { [ROLE]: readonly ? "reader" : capability.rules.writer === "one" ? "writer" : "shared" };
}

/**
 * Detaches it from a node, or from all when `nodeId` is empty. A volume or node that is gone counts as detached. A node
 * that had no time to unstage it (detached by force) loses the writer grant with it: the epoch is raised, so that
 * whatever it held is older than what anybody gets from now on, and `staged` keeps the region for it until it
 * acknowledges. It learns of it by its own look at this record.
 */
export async function unpublishVolume(context: ControllerContext, volumeId: string, nodeId: string): Promise<void> {
  using _lock = lockVolume(context, volumeId, nodeId);
  const leaves = (each: string) => nodeId === "" || each === nodeId;
  await updateRecord(context.store, "volumes", volumeId, (found) => {
    const published = Object.fromEntries(Object.entries(found.published).filter(([each]) => !leaves(each)));
    const waiters = found.waiters.filter((each) => !leaves(each));
    const writer = found.writer !== undefined && leaves(found.writer.nodeId) ? undefined : found.writer;
    const slots = slotsWithout(found, leaves);
    const same =
      Object.keys(published).length === Object.keys(found.published).length &&
      Object.keys(slots).length === Object.keys(found.slots).length &&
      waiters.length === found.waiters.length &&
      writer === found.writer;
    const epoch = writer === found.writer ? found.epoch : found.epoch + 1;
    return same ? undefined : { ...found, published, waiters, slots, writer, epoch };
  });
  await context.volumes.untilShown(volumeId, (shown) => !Object.keys(shown?.published ?? {}).some(leaves));
}

async function assertReaches(
  { store, liveness }: ControllerContext,
  { volumeId, nodeId }: PublishRequest,
): Promise<void> {
  const volume = await store.get("volumes", volumeId);
  if (volume === undefined) throw notFound(volumeId);
  if ((liveness.get(nodeId) ?? (await store.get("nodes", nodeId))) === undefined) {
    throw new FamfsError(
      "NODE_NOT_FOUND",
      `no node plugin has registered as node ${nodeId}: see whether it runs there`,
    );
  }
  for (const { deviceUuid } of volume.regions) {
    const device = await store.get("devices", deviceUuid);
    if (device?.nodes[nodeId] === undefined) {
      throw new FamfsError(
        "NODE_NOT_IN_TOPOLOGY",
        `volume ${volumeId} is on device ${deviceUuid} of fabric ${volume.fabric}, which node ${nodeId} does not reach: run the pod on a node that does`,
      );
    }
  }
}

/**
 * The limit that NodeGetInfo tells the CO, which should not come here beyond it. Two calls at once may both find the
 * last place: nothing breaks then.
 */
async function assertRoom({ store, volumes }: ControllerContext, { volumeId, nodeId }: PublishRequest): Promise<void> {
  const limit = (await store.get("nodes", nodeId))?.maxVolumes ?? 0;
  if (limit === 0) return;
  const others = [...volumes.values()].filter(
    (volume) => volume.name !== volumeId && volume.published[nodeId] !== undefined,
  );
  if (others.length < limit) return;
  throw new FamfsError(
    "NODE_FULL",
    `${others.length} volumes are published to node ${nodeId}, which takes ${limit}; unpublish one before ${volumeId}`,
  );
}

function assertCompatible(
  volume: StoredRecord<"volumes">,
  { nodeId, capability }: PublishRequest,
  readonly: boolean,
): void {
  for (const [other, use] of Object.entries(volume.published)) {
    if (other === nodeId) continue;
    const mode = ACCESS_MODES.find((known) => known === use.accessMode);
    const rules = mode === undefined ? undefined : ACCESS_MODE_RULES[mode];
    const alone = !capability.rules.multiNode || rules?.multiNode !== true;
    const twoWriters =
      !readonly && !use.readonly && (capability.rules.writer === "one" || rules?.writer !== capability.rules.writer);
    if (!alone && !twoWriters) continue;
    throw new FamfsError(
      "WRITER_CONFLICT",
      alone
        ? `volume ${volume.name} is published to node ${other} as ${show(use)}, so it cannot be published to ${nodeId} as ${capability.accessMode} as well: end what uses it there, or claim ReadWriteMany`
        : `volume ${volume.name} has its one writer on node ${other} (${show(use)}); unpublish it there before ${nodeId} can write`,
      { details: { nodeId: other } },
    );
  }
}

function show({ accessMode, readonly }: { readonly accessMode: string; readonly readonly: boolean }): string {
  return readonly ? `${accessMode}, read-only` : accessMode;
}
