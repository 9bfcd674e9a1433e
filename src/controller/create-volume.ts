import { randomUUID } from "node:crypto";
import { ALLOC_UNIT, describeSize, FamfsError, GIB, hasCode, TIB } from "../base/index.ts";
import type { Capability } from "../csi/index.ts";
import { isLogLength, regionLengthFor } from "../format/index.ts";
import { type FamfsVolume, parseVolumeParameters, type StoredRecord, UNTOUCHED, updateRecord } from "../state/index.ts";
import { allocateRegion } from "./allocate.ts";
import { type ControllerContext, lockVolume } from "./context.ts";
import { failureOf, untilFormatted } from "./jobs.ts";
import { volumeIdFor } from "./volume-id.ts";

export interface CreateRequest {
  readonly csiName: string;
  readonly requiredBytes: number;
  /** 0: none. */
  readonly limitBytes: number;
  readonly capabilities: readonly Capability[];
  /** Checked; without those of the provisioner. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly claim: FamfsVolume["claim"];
  readonly fabrics: readonly string[] | undefined;
}

/** A claim that names no size. */
const DEFAULT_BYTES = GIB;
export const MIN_VOLUME_BYTES = ALLOC_UNIT;
/** Far beyond any device, and far enough below 2^53 for sums. */
const MAX_VOLUME_BYTES = 1024 * TIB;
const MIN_BUCKET_BYTES = GIB;

export interface WaitOptions {
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

/**
 * The Ready volume of this name. Every step is durable before the next, and a repeated call, also to another replica,
 * goes on where the last one stopped.
 */
export async function createVolume(
  context: ControllerContext,
  request: CreateRequest,
  wait: WaitOptions,
): Promise<StoredRecord<"volumes">> {
  const { store } = context;
  assertDynamic(request);
  const volumeId = volumeIdFor(request.csiName);
  const wanted = newVolume(request);
  using _lock = lockVolume(context, volumeId);
  let volume = await store.get("volumes", volumeId);
  volume ??= await store.create("volumes", volumeId, wanted);
  for (;;) {
    if (volume.phase === "Reclaiming") {
      throw new FamfsError(
        "VOLUME_BUSY",
        `volume ${volumeId} of the same name was deleted and is being erased; try again`,
      );
    }
    assertSame(volume, request);
    switch (volume.phase) {
      case "Pending":
        volume = await allocate(context, volume, request, wait.signal);
        break;
      case "Formatting":
        volume = await untilFormatted(context, volume, wait);
        break;
      case "Failed": {
        // The caller may never ask again: what is left of it goes without being asked.
        await reclaimFailed(context, volume);
        throw failureOf(volume);
      }
      case "Ready":
        await context.volumes.untilShown(volumeId, (shown) => shown?.phase === "Ready");
        return volume;
      default:
        volume.phase satisfies never;
    }
  }
}

/** A volume that could not be formatted is given up: its regions are erased and become free. */
export async function reclaimFailed({ store }: ControllerContext, volume: StoredRecord<"volumes">): Promise<void> {
  await updateRecord(store, "volumes", volume.name, (found) =>
    found.uuid === volume.uuid && found.phase === "Failed"
      ? { ...found, phase: "Reclaiming", jobNode: undefined }
      : undefined,
  );
}

async function allocate(
  context: ControllerContext,
  volume: StoredRecord<"volumes">,
  request: CreateRequest,
  signal: AbortSignal,
): Promise<StoredRecord<"volumes">> {
  const { pool, logLengthBytes } = parseVolumeParameters(volume.parameters);
  const regionBytes = regionLengthFor(volume.capacityBytes, logLengthBytes);
  try {
    return await allocateRegion(context, volume, { pool, fabrics: request.fabrics, regionBytes, signal });
  } catch (error) {
    if (hasCode(error, "POOL_FULL", "POOL_NOT_FOUND", "TOPOLOGY_UNSATISFIABLE")) {
      // Another controller was asked, too, and gave it the last region meanwhile.
      const found = await context.store.get("volumes", volume.name);
      if (found?.uuid === volume.uuid && found.phase !== "Pending") return found;
      // The attempt is over, and nobody may ever ask for the name again. Lost to somebody who went on with it: fine.
      await context.store.delete("volumes", volume.name, volume.resourceVersion).catch(() => {});
    }
    throw error;
  }
}

function newVolume(request: CreateRequest): FamfsVolume {
  const { csiName, claim, parameters } = request;
  const capacityBytes = capacityFor(request);
  const { stripe, logLengthBytes } = parseVolumeParameters(parameters);
  if (!isLogLength(logLengthBytes)) {
    throw new FamfsError("INVALID_ARGUMENT", `parameter logLength: a log cannot have ${logLengthBytes} bytes`);
  }
  if (stripe !== undefined && capacityBytes / stripe.buckets < MIN_BUCKET_BYTES) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `parameter stripe.buckets: ${stripe.buckets} buckets of at least 1 GiB do not fit a volume of ${describeSize(capacityBytes)}: claim more, or stripe over fewer`,
    );
  }
  return {
    ...UNTOUCHED,
    csiName,
    uuid: randomUUID(),
    claim,
    adopted: false,
    pool: "",
    fabric: "",
    capacityBytes,
    regions: [],
    regionGeneration: 0,
    parameters,
    phase: "Pending",
  };
}

/** What the claim gets is what it asks for. CAPACITY_INCOMPATIBLE when no size satisfies it. */
function capacityFor({ requiredBytes, limitBytes }: CreateRequest): number {
  if (limitBytes > 0 && requiredBytes > limitBytes) {
    throw new FamfsError(
      "CAPACITY_INCOMPATIBLE",
      `required_bytes ${requiredBytes} is more than limit_bytes ${limitBytes}`,
    );
  }
  const most = limitBytes > 0 ? limitBytes : MAX_VOLUME_BYTES;
  const capacity = Math.min(most, Math.max(MIN_VOLUME_BYTES, requiredBytes > 0 ? requiredBytes : DEFAULT_BYTES));
  if (capacity < MIN_VOLUME_BYTES || requiredBytes > MAX_VOLUME_BYTES) {
    throw new FamfsError(
      "CAPACITY_INCOMPATIBLE",
      `a volume has ${MIN_VOLUME_BYTES} to ${MAX_VOLUME_BYTES} bytes; asked for were ${requiredBytes} to ${limitBytes || "any number of"}`,
    );
  }
  return capacity;
}

/** A new volume is empty; if nobody may ever write to it, that is surely not what the user wants (design 6). */
function assertDynamic({ capabilities }: CreateRequest): void {
  if (!capabilities.every(({ rules }) => rules.readOnly)) return;
  throw new FamfsError(
    "INVALID_ARGUMENT",
    "a new volume that can only be read would stay empty for ever: claim ReadWriteMany and mount it with readOnly: true in the readers' pods, or use a static PersistentVolume",
  );
}

/** VOLUME_EXISTS when the volume of this name is not what is asked for now; names the difference. */
function assertSame(volume: StoredRecord<"volumes">, request: CreateRequest): void {
  const { requiredBytes, limitBytes, fabrics, parameters } = request;
  const differs = (what: string): FamfsError =>
    new FamfsError("VOLUME_EXISTS", `volume ${volume.name} exists with another ${what}`);
  if (volume.csiName !== request.csiName) throw differs(`name, ${JSON.stringify(volume.csiName)}`);
  if (volume.capacityBytes < requiredBytes || (limitBytes > 0 && volume.capacityBytes > limitBytes)) {
    throw differs(
      `size: it has ${volume.capacityBytes} bytes, asked for are ${requiredBytes} to ${limitBytes || "any number"}`,
    );
  }
  for (const name of new Set([...Object.keys(volume.parameters), ...Object.keys(parameters)])) {
    const [has, asked] = [volume.parameters[name] ?? "not set", parameters[name] ?? "not set"];
    if (has !== asked) throw differs(`parameter ${name}: it is ${has}, asked for is ${asked}`);
  }
  if (volume.phase !== "Pending" && fabrics !== undefined && !fabrics.includes(volume.fabric)) {
    throw differs(`place: it is in fabric ${volume.fabric}, asked for is ${fabrics.join(", ")}`);
  }
}
