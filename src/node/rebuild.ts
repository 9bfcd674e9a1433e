/**
 * Records made again from what the memory says, for the day the store has lost them: `device rebuild`. The
 * memory is believed where a record is missing, and never over a record that is there.
 */
import { FamfsError, hasCode, isFamfsError, messageOf } from "../base/index.ts";
import {
  type Device,
  type FoundVolume,
  openDevice,
  rememberedRevision,
  type ScannedDevice,
  scanVolumes,
  VolumeMedia,
} from "../media/index.ts";
import {
  checkParameters,
  type FamfsDevice,
  type FamfsVolume,
  type Region,
  revisionOf,
  type Store,
  type StoredRecord,
  updateRecord,
} from "../state/index.ts";

export interface RebuildOptions {
  readonly store: Store;
  readonly devices: readonly ScannedDevice[];
  /** Of devices that have no record and hold no volume that names it. */
  readonly fabric?: string | undefined;
  /** Believe the store again although something in the memory was not taken. */
  readonly force?: boolean | undefined;
}

export interface RebuildPlan {
  /** As they shall be; one that is there already only gets a higher generation. */
  readonly devices: readonly FamfsDevice[];
  readonly volumes: readonly { readonly name: string; readonly record: FamfsVolume }[];
  /** Volumes of frozen devices whose records are older than the memory: they are brought up to it. */
  readonly refreshed: readonly { readonly name: string; readonly record: FamfsVolume }[];
  /**
   * Volumes that have a found one's space by their records, and are not there: those that are not formatted yet wait
   * for another place, those that were deleted are gone.
   */
  readonly displaced: readonly StoredRecord<"volumes">[];
  /** Devices that stay frozen, because something on them was not taken. */
  readonly frozen: readonly string[];
  /** Volumes in the memory that were not taken, with the reason. */
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

/**
 * What `rebuild` would do. Reads only. INVALID_ARGUMENT when no fabric can be told; errors of the store and of media.
 */
export async function planRebuild({ store, devices, fabric, force }: RebuildOptions): Promise<RebuildPlan> {
  const plan: Plan = { devices: [], volumes: [], refreshed: [], displaced: [], frozen: [], refused: [] };
  const { records, unreadable } = await store.listAll("volumes");
  const known = new Map(records.map((volume) => [volume.name, volume]));
  const broken = new Map(unreadable.map(({ name, reason }) => [name, reason]));
  for (const { path, label } of devices) {
    await using device = await openDevice(path, { writable: false });
    const remembered = await rememberedRevision(device); // before the record, which a node may raise meanwhile
    const present = await store.get("devices", label.uuid);
    const found = await scanVolumes(device);
    const record = present ?? newDevice(device, label, fabricOf(path, found, fabric));
    if (fabric !== undefined && record.fabric !== fabric) {
      throw new FamfsError("FABRIC_CONFLICT", `${path} is registered in fabric "${record.fabric}", not "${fabric}"`);
    }
    const isOld = present !== undefined && (present.frozen !== undefined || revisionOf(present) < remembered);
    const before = plan.volumes.length;
    let isWhole = true;
    for (const volume of found) {
      const reason = await consider(volume, { device, record, known, broken, plan, isOld });
      if (reason === undefined) continue;
      plan.refused.push({ device: path, offset: volume.region.offset, reason });
      // Stock file systems are nobody's loss.
      if (volume.record !== undefined) isWhole = false;
    }
    const generation = Math.max(record.generation, ...found.map((each) => each.record?.generation ?? 0));
    const stays = isOld && !isWhole && force !== true;
    if (stays) plan.frozen.push(label.uuid);
    if (present === undefined || isOld || plan.volumes.length > before) {
      // Above what the memory remembers: from then on the store is believed.
      const revision = stays ? record.revision : Math.max(remembered, revisionOf(record)) + 1;
      plan.devices.push({ ...record, generation, revision, frozen: stays ? record.frozen : undefined });
    }
  }
  return plan;
}

/**
 * Carries a plan out: raises the devices, writes the volumes, raises the devices again, so that every controller lists
 * all volumes before it allocates (docs/decisions/0011). Should one be quicker all the same, no node formats over a
 * volume it finds in memory; planning again then tells.
 */
export async function rebuild(store: Store, plan: RebuildPlan): Promise<void> {
  for (const device of plan.devices) await raise(store, device, { thaw: false });
  for (const { name, uuid } of plan.displaced) {
    await updateRecord(store, "volumes", name, (found) => {
      if (found.uuid !== uuid || !isDisplaceable(found)) return undefined;
      const phase = found.phase === "Formatting" ? "Pending" : found.phase;
      return { ...found, phase, regions: [], jobNode: undefined };
    });
  }
  for (const { name, record } of plan.volumes) await store.create("volumes", name, record);
  for (const { name, record } of plan.refreshed) {
    await updateRecord(store, "volumes", name, (found) =>
      found.uuid === record.uuid ? { ...found, ...refresh(found, record) } : undefined,
    );
  }
  for (const device of plan.devices) await raise(store, device, { thaw: !plan.frozen.includes(device.uuid) });
}

/** Above what it was, and above every generation that was found; made where it is missing. `thaw`: believed again. */
async function raise(store: Store, device: FamfsDevice, { thaw }: { readonly thaw: boolean }): Promise<void> {
  const raised = () =>
    updateRecord(store, "devices", device.uuid, (found) => ({
      ...found,
      generation: Math.max(found.generation, device.generation) + 1,
      ...(thaw ? { revision: Math.max(revisionOf(found), revisionOf(device)), frozen: undefined } : {}),
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
  refreshed: { name: string; record: FamfsVolume }[];
  displaced: StoredRecord<"volumes">[];
  frozen: string[];
  refused: { device: string; offset: number; reason: string }[];
}

interface Place {
  readonly device: Device;
  readonly record: FamfsDevice;
  readonly known: ReadonlyMap<string, StoredRecord<"volumes">>;
  /** Records that cannot be read, and why. */
  readonly broken: ReadonlyMap<string, string>;
  readonly plan: Plan;
  /** The store was restored from a backup: its records of what is there are older than the memory. */
  readonly isOld: boolean;
}

/** Has nothing in the memory where another volume was found, so nothing is lost with its place. */
function isDisplaceable({ phase }: FamfsVolume): boolean {
  return phase === "Formatting" || phase === "Reclaiming";
}

/** An old record of a volume with what its memory says: who may have written, and under which epoch. */
function refresh(old: FamfsVolume, seen: FamfsVolume): FamfsVolume {
  const taken = new Set(Object.values(seen.slots));
  const others = Object.entries(old.slots).filter(([, slot]) => !taken.has(slot));
  return {
    ...old,
    phase: old.phase === "Formatting" ? "Ready" : old.phase,
    jobNode: old.phase === "Formatting" ? undefined : old.jobNode,
    regionGeneration: seen.regionGeneration,
    staged: { ...seen.staged, ...old.staged },
    slots: { ...Object.fromEntries(others), ...seen.slots },
    writer: seen.epoch > old.epoch ? seen.writer : old.writer,
    epoch: Math.max(old.epoch, seen.epoch),
    conditions: [...old.conditions.filter(({ type }) => type !== REBUILT), ...seen.conditions],
  };
}

/** Adds a found volume to the plan, unless it is known. Answers why it is neither. */
async function consider(
  found: FoundVolume,
  { device, record, known, broken, plan, isOld }: Place,
): Promise<string | undefined> {
  if (found.record === undefined) return `a file system of the stock tools (${found.uuid}), which is in no pool`;
  const { name, volumeUuid } = found.record;
  const region: Region = { deviceUuid: record.uuid, ...found.region };
  const unread = broken.get(name);
  if (unread !== undefined) return `volume ${name} has a record that cannot be read: ${unread}`;
  const present = known.get(name);
  if (present?.uuid === volumeUuid && present.regions.some((each) => overlap(each, region))) {
    if (!isOld || present.phase === "Reclaiming") return undefined;
    return readInto(plan.refreshed, name, () => describe(device, record, found));
  }
  if (!NAME.test(name)) return `volume ${volumeUuid} has the name ${JSON.stringify(name)}, which no record can have`;
  if (present !== undefined && present.phase !== "Formatting") {
    return `volume ${name} (${volumeUuid}): there is another one of that name (${present.uuid}, ${present.phase})`;
  }
  if (plan.volumes.some((other) => other.name === name)) return `volume ${name} was found a second time`;
  const inTheWay = [...known.values()].filter((other) => other.regions.some((each) => overlap(each, region)));
  const holder = inTheWay.find((other) => !isDisplaceable(other));
  if (holder !== undefined) {
    return `volume ${name} (${volumeUuid}) is where the record of volume ${holder.name} (${holder.uuid}) says that one is, which is not there: delete the claim of ${holder.name}, then run this again`;
  }
  if (present !== undefined) return `volume ${name} is being formatted anew elsewhere (${present.uuid})`;
  const reason = await readInto(plan.volumes, name, () => describe(device, record, found));
  if (reason === undefined) plan.displaced.push(...inTheWay.filter((other) => !plan.displaced.includes(other)));
  return reason;
}

/** Answers why it cannot be read. */
async function readInto(
  list: { name: string; record: FamfsVolume }[],
  name: string,
  read: () => Promise<FamfsVolume>,
): Promise<string | undefined> {
  try {
    list.push({ name, record: await read() });
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
  { region, origin, record: found }: FoundVolume,
): Promise<FamfsVolume> {
  if (found === undefined) throw new FamfsError("VOLUME_RECORD_CORRUPT", "there is no volume record");
  const { name, volumeUuid, generation, capacityBytes } = found;
  await using media = await VolumeMedia.open(device, region, { writable: false, coherent: false });
  const { owner, claims, highestEpoch } = media.claims();
  const pages = media.ownerSlots().slots.toSorted((a, b) => a.epoch - b.epoch);
  const slots: Record<string, number> = {};
  for (const { nodeId, slot } of pages) slots[nodeId] = slot;
  // Used by a node that cannot be told any more: nobody else may get it.
  const named = new Set(Object.values(slots));
  for (const { ballot } of claims) if (!named.has(ballot.slot)) slots[`unknown-${ballot.slot}`] = ballot.slot;
  const writer = owner?.released === false ? pages.find(({ slot }) => slot === owner.ballot.slot) : undefined;
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
    slotCount: media.writerSlots,
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
    revision: undefined,
    frozen: undefined,
  };
}

/** What a device is taken for where nobody says otherwise. */
export function defaultCoherency({ kind, cachesOf }: Device): FamfsDevice["coherency"] {
  return kind === "file" && cachesOf === undefined ? "single-host" : "flush";
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
