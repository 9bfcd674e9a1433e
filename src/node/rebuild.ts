/**
 * Records made again from what the memory says, for the day the store has lost them: `device rebuild`. What is in
 * memory is believed where a record is missing, and never over a record that is there.
 */
import { FamfsError, hasCode, isFamfsError, messageOf } from "../base/index.ts";
import {
  type Device,
  type FoundVolume,
  openDevice,
  type ScannedDevice,
  scanVolumes,
  VolumeMedia,
} from "../media/index.ts";
import {
  checkParameters,
  type FamfsDevice,
  type FamfsVolume,
  type Region,
  type Store,
  type StoredRecord,
  updateRecord,
} from "../state/index.ts";

export interface RebuildOptions {
  readonly store: Store;
  readonly devices: readonly ScannedDevice[];
  /** Of devices that have no record and hold no volume that names it. */
  readonly fabric?: string | undefined;
}

export interface RebuildPlan {
  /** As they shall be; one that is there already only gets a higher generation. */
  readonly devices: readonly FamfsDevice[];
  readonly volumes: readonly { readonly name: string; readonly record: FamfsVolume }[];
  /** Volumes that were given the space of a found one and are not formatted yet: they wait for another place. */
  readonly displaced: readonly StoredRecord<"volumes">[];
  /** What is in the memory and not taken, with the reason. */
  readonly refused: readonly { readonly device: string; readonly offset: number; readonly reason: string }[];
}

/** In the conditions of a record that was made again: nodes that serve the volume put themselves into it. */
const REBUILT = "Rebuilt";

/** When the volume's record was made again from the memory, which knows neither who uses the volume nor who may. */
export function rebuiltAt({ conditions }: FamfsVolume): string | undefined {
  return conditions.find(({ type }) => type === REBUILT)?.lastTransitionTime;
}

/** Names of objects in a cluster; what the memory says may be anything. */
const NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** What `rebuild` would do. Reads only. INVALID_ARGUMENT when no fabric can be told; errors of the store and of media. */
export async function planRebuild({ store, devices, fabric }: RebuildOptions): Promise<RebuildPlan> {
  const plan: Plan = { devices: [], volumes: [], displaced: [], refused: [] };
  const known = new Map((await store.list("volumes")).map((volume) => [volume.name, volume]));
  for (const { path, label } of devices) {
    await using device = await openDevice(path, { writable: false });
    const present = await store.get("devices", label.uuid);
    const found = await scanVolumes(device);
    const record = present ?? newDevice(device, label, fabricOf(path, found, fabric));
    if (fabric !== undefined && record.fabric !== fabric) {
      throw new FamfsError("FABRIC_CONFLICT", `${path} is registered in fabric "${record.fabric}", not "${fabric}"`);
    }
    const before = plan.volumes.length;
    for (const volume of found) {
      const reason = await consider(volume, { device, record, known, plan });
      if (reason !== undefined) plan.refused.push({ device: path, offset: volume.region.offset, reason });
    }
    const generation = Math.max(record.generation, ...found.map((each) => each.record?.generation ?? 0));
    if (present === undefined || plan.volumes.length > before) plan.devices.push({ ...record, generation });
  }
  return plan;
}

/**
 * Carries a plan out: raises the devices, writes the volumes, raises the devices again, so that every controller lists
 * all volumes before it allocates (docs/decisions/0011). Should one be quicker all the same, no node formats over a
 * volume it finds in memory; planning again then tells.
 */
export async function rebuild(store: Store, plan: RebuildPlan): Promise<void> {
  for (const device of plan.devices) await raise(store, device);
  for (const { name, uuid } of plan.displaced) {
    await updateRecord(store, "volumes", name, (found) =>
      found.uuid === uuid && found.phase === "Formatting"
        ? { ...found, phase: "Pending", regions: [], jobNode: undefined }
        : undefined,
    );
  }
  for (const { name, record } of plan.volumes) await store.create("volumes", name, record);
  for (const device of plan.devices) await raise(store, device);
}

/** Above what it was, and above every generation that was found; made where it is missing. */
async function raise(store: Store, device: FamfsDevice): Promise<void> {
  const raised = () =>
    updateRecord(store, "devices", device.uuid, (found) => ({
      ...found,
      generation: Math.max(found.generation, device.generation) + 1,
    }));
  if ((await raised()) !== undefined) return;
  await store.create("devices", device.uuid, device).catch(async (error: unknown) => {
    if (!hasCode(error, "CONFLICT")) throw error;
    await raised();
  });
}

interface Plan {
  devices: FamfsDevice[];
  volumes: { name: string; record: FamfsVolume }[];
  displaced: StoredRecord<"volumes">[];
  refused: { device: string; offset: number; reason: string }[];
}

interface Place {
  readonly device: Device;
  readonly record: FamfsDevice;
  readonly known: ReadonlyMap<string, StoredRecord<"volumes">>;
  readonly plan: Plan;
}

/** Adds a found volume to the plan, unless it is known. Answers why it is neither. */
async function consider(found: FoundVolume, { device, record, known, plan }: Place): Promise<string | undefined> {
  if (found.record === undefined) return `a file system of the stock tools (${found.uuid}), which is in no pool`;
  const { name, volumeUuid } = found.record;
  const region: Region = { deviceUuid: record.uuid, ...found.region };
  const present = known.get(name);
  if (present?.uuid === volumeUuid && present.regions.some((each) => overlap(each, region))) return undefined;
  if (!NAME.test(name)) return `volume ${volumeUuid} has the name ${JSON.stringify(name)}, which no record can have`;
  if (present !== undefined && present.phase !== "Formatting") {
    return `volume ${name} (${volumeUuid}): there is another one of that name (${present.uuid}, ${present.phase})`;
  }
  if (plan.volumes.some((other) => other.name === name)) return `volume ${name} was found a second time`;
  const inTheWay = [...known.values()].filter((other) => other.regions.some((each) => overlap(each, region)));
  const holder = inTheWay.find((other) => other.phase !== "Formatting");
  if (holder !== undefined) return `volume ${name} overlaps volume ${holder.name}, which has a record`;
  if (present !== undefined) return `volume ${name} is being formatted anew elsewhere (${present.uuid})`;
  try {
    plan.volumes.push({ name, record: await describe(device, record, found.record, found) });
    plan.displaced.push(...inTheWay.filter((other) => !plan.displaced.includes(other)));
    return undefined;
  } catch (error) {
    if (!isFamfsError(error)) throw error;
    return `volume ${name} cannot be read: ${messageOf(error)}`;
  }
}

/** The record of a volume as its memory has it. */
async function describe(
  device: Device,
  { uuid: deviceUuid, pool, fabric }: FamfsDevice,
  { name, volumeUuid, generation, capacityBytes }: NonNullable<FoundVolume["record"]>,
  { region, origin }: FoundVolume,
): Promise<FamfsVolume> {
  await using media = await VolumeMedia.open(device, region, { writable: false, coherent: false });
  const { owner, claims, highestEpoch } = media.claims();
  const pages = media.ownerSlots().slots.toSorted((a, b) => a.epoch - b.epoch);
  const slots: Record<string, number> = {};
  for (const { nodeId, slot } of pages) slots[nodeId] = slot;
  // Used by a node that cannot be told any more: nobody else may get it.
  const named = new Set(Object.values(slots));
  for (const { slot, nodeIdHash } of claims) if (!named.has(slot)) slots[`unknown-${nodeIdHash}-${slot}`] = slot;
  const writer = owner?.released === false ? pages.find(({ slot }) => slot === owner.slot) : undefined;
  const now = new Date().toISOString();
  return {
    csiName: origin?.csiName ?? name,
    uuid: volumeUuid,
    claim: undefined,
    adopted: false,
    pool,
    fabric,
    capacityBytes,
    regions: [{ deviceUuid, ...region }],
    regionGeneration: generation,
    parameters: parametersOf(media, origin?.parameters),
    phase: "Ready",
    jobNode: undefined,
    failure: undefined,
    // The CO publishes again what it needs; it finds the difference by ListVolumes.
    published: {},
    // Everybody who may have written; who has it no more says so itself, or is gone.
    staged: Object.fromEntries(pages.map(({ nodeId, bootId }) => [nodeId, { bootId }])),
    writer: writer === undefined ? undefined : { nodeId: writer.nodeId, epoch: highestEpoch, since: now },
    waiters: [],
    epoch: highestEpoch,
    slots,
    conditions: [
      {
        type: REBUILT,
        status: "True",
        reason: "RecordLost",
        message: `made again from device ${deviceUuid}`,
        lastTransitionTime: now,
      },
    ],
  };
}

/** Without those of the origin, the ones that can be read off the volume itself. */
function parametersOf(media: VolumeMedia, given: Readonly<Record<string, string>> | undefined): Record<string, string> {
  try {
    if (given !== undefined) return checkParameters(given);
  } catch {
    // From another version: as good as none.
  }
  const { rootUid = 0, rootGid = 0, rootMode = 0o755 } = media.record ?? {};
  return {
    uid: String(rootUid),
    gid: String(rootGid),
    mode: rootMode.toString(8).padStart(4, "0"),
    logLength: String(media.superblock.logLength),
  };
}

function newDevice(device: Device, label: ScannedDevice["label"], fabric: string): FamfsDevice {
  return {
    uuid: label.uuid,
    pool: label.pool,
    fabric,
    sizeBytes: device.sizeBytes,
    incarnation: label.incarnation,
    coherency: defaultCoherency(device),
    // Node plugins enter themselves.
    nodes: {},
    generation: 0,
    intent: undefined,
  };
}

/** What a device is taken for where nobody says otherwise. */
export function defaultCoherency({ kind }: Device): FamfsDevice["coherency"] {
  return kind === "file" ? "single-host" : "flush";
}

/** PersistentVolumes keep the fabric in their node affinity: it must be the one from before. */
function fabricOf(path: string, found: readonly FoundVolume[], wanted: string | undefined): string {
  const told = [...new Set(found.flatMap(({ origin }) => (origin === undefined ? [] : [origin.fabric])))];
  const [fabric = wanted, ...more] = told;
  if (fabric === undefined || more.length > 0) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `${path}: ${fabric === undefined ? "nothing says" : `its volumes name several fabrics (${told.join(", ")});`} which fabric it is in; say it with --fabric`,
    );
  }
  if (wanted !== undefined && wanted !== fabric) {
    throw new FamfsError("FABRIC_CONFLICT", `the volumes on ${path} are of fabric "${fabric}", not "${wanted}"`);
  }
  return fabric;
}

export function overlap(a: Region, b: Region): boolean {
  return a.deviceUuid === b.deviceUuid && a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}
