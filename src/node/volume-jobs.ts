import { setTimeout as delay } from "node:timers/promises";
import {
  ALLOC_UNIT,
  type ErrorCode,
  FamfsError,
  hasCode,
  isFamfsError,
  type Logger,
  messageOf,
} from "../base/index.ts";
import {
  type Device,
  eraseRegion,
  formatVolume,
  lookAtRegion,
  type OtherVolume,
  type RegionContents,
  VolumeMedia,
} from "../media/index.ts";
import { parseVolumeParameters, type Region, type Store, type StoredRecord, updateRecord } from "../state/index.ts";
import type { VolumeConditions } from "./volume-conditions.ts";

export interface VolumeJobsOptions {
  readonly store: Store;
  readonly nodeId: string;
  /** Rejects when this node does not reach it, or it is another one by now. */
  readonly device: (uuid: string) => Promise<Device>;
  /** Why nothing on the device may be erased now. */
  readonly whyFrozen?: (deviceUuid: string) => Promise<string | undefined>;
  /** Where it is said that a job waits for a person. */
  readonly conditions?: Pick<VolumeConditions, "report" | "over">;
  readonly logger: Logger;
}

/** What another try may find otherwise. */
const TRANSIENT: ReadonlySet<ErrorCode> = new Set([
  "CONFLICT",
  "STORE_UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "RECORDS_LOST",
]);

const RETRY_MS = { first: 200, most: 30_000 };

type Volume = StoredRecord<"volumes">;

/**
 * The jobs that volume records give to this node: formatting a new volume, erasing a deleted one. A record in phase
 * Formatting or Reclaiming *is* the job, so a node that was killed in the middle begins again.
 */
export class VolumeJobs implements AsyncDisposable {
  readonly #options: VolumeJobsOptions;
  readonly #stop = new AbortController();
  readonly #running = new Map<string, Promise<void>>();
  /** Where volumes with records are, as far as the watch has shown them. */
  readonly #regions = new Map<string, readonly Region[]>();

  constructor(options: VolumeJobsOptions) {
    this.#options = options;
  }

  /** Starts the record's job if it has one for this node; called with every change. */
  consider(volume: Volume): void {
    this.#regions.set(volume.name, volume.phase === "Formatting" ? [] : volume.regions);
    if (!this.#isMine(volume) || this.#running.has(volume.name) || this.#stop.signal.aborted) return;
    const job = this.#untilDone(volume.name).finally(() => this.#running.delete(volume.name));
    this.#running.set(volume.name, job);
  }

  deleted(volumeId: string): void {
    this.#regions.delete(volumeId);
  }

  /** Stops at the next chunk; what is not done begins again at the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running.values());
  }

  #isMine(volume: Volume): boolean {
    if (volume.jobNode !== this.#options.nodeId || volume.adopted) return false;
    // A node that staged it may still write there.
    return volume.phase === "Formatting" || (volume.phase === "Reclaiming" && Object.keys(volume.staged).length === 0);
  }

  async #untilDone(name: string): Promise<void> {
    const { store, logger } = this.#options;
    const { signal } = this.#stop;
    for (let waitMs = RETRY_MS.first; !signal.aborted; waitMs = Math.min(waitMs * 2, RETRY_MS.most)) {
      try {
        const volume = await store.get("volumes", name);
        if (volume === undefined || !this.#isMine(volume)) return;
        if (volume.phase === "Formatting") await this.#format(volume);
        else await this.#erase(volume);
        return;
      } catch (error) {
        if (signal.aborted) return;
        logger.warn({ volumeId: name, err: error, retryMs: waitMs }, "a format or erase job failed; it is tried again");
        if (hasCode(error, "RECORDS_LOST")) await this.#tell(name, "RecordsLost", messageOf(error));
        if (hasCode(error, "STORE_RESTORED")) await this.#tell(name, "EraseFrozen", messageOf(error));
        await delay(waitMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #tell(volumeId: string, reason: "RecordsLost" | "EraseFrozen", message: string): Promise<void> {
    const { conditions, logger } = this.#options;
    await conditions?.report(volumeId, { reason, message }).catch((error: unknown) => {
      logger.warn({ volumeId, err: error }, "a problem was not recorded");
    });
  }

  async #format(volume: Volume): Promise<void> {
    const { store, conditions, logger } = this.#options;
    const started = performance.now();
    const { failure, slotCount } = await this.#tryFormat(volume);
    await updateRecord(store, "volumes", volume.name, (record) => {
      if (record.phase !== "Formatting" || !this.#isMine(record)) return undefined;
      return failure === undefined
        ? { ...record, phase: "Ready", jobNode: undefined, failure: undefined, slotCount }
        : { ...record, phase: "Failed", jobNode: undefined, failure };
    });
    if (volume.conditions.length > 0) await conditions?.over(volume.name, ["RecordsLost"]);
    const ms = Math.round(performance.now() - started);
    if (failure === undefined) logger.info({ volumeId: volume.name, ms }, "volume formatted");
    else logger.error({ volumeId: volume.name, failure }, "volume could not be formatted");
  }

  /** The owner slots that it has, or why it has none. Throws only when it is worth another try as it is. */
  async #tryFormat(volume: Volume): Promise<Pick<Volume, "failure" | "slotCount">> {
    try {
      const { device, region } = await this.#place(volume);
      const { uid, gid, mode, logLengthBytes } = parseVolumeParameters(volume.parameters);
      const format = {
        uuid: volume.uuid,
        name: volume.name,
        uid,
        gid,
        mode,
        generation: volume.regionGeneration,
        createdSeconds: Math.floor(Date.parse(volume.createdAt) / 1000),
        capacityBytes: volume.capacityBytes,
        logLength: logLengthBytes,
        origin: { csiName: volume.csiName, fabric: volume.fabric, parameters: volume.parameters },
      };
      const { own, other, leftovers } = await this.#look(device, region, volume);
      if (other !== undefined) throw recordsLost(region, volume, other);
      // Formatted before; what its record forgot since (a backup was restored, say) its pods may have filled.
      if (own === "volume") return await ownerSlots(device, region);
      const options = { signal: this.#stop.signal, check: () => this.#check(volume) };
      for (const { offset } of leftovers) {
        // Nobody goes on erasing what has no record, and who looks for volumes would skip this one with the rest of it.
        if (offset < region.offset) await device.zero(offset, ALLOC_UNIT, options);
      }
      await formatVolume(device, region, format, options);
      return await ownerSlots(device, region);
    } catch (error) {
      if (this.#stop.signal.aborted || (isFamfsError(error) && TRANSIENT.has(error.code))) throw error;
      const failure = { code: isFamfsError(error) ? error.code : "INTERNAL", message: messageOf(error) };
      return { failure, slotCount: undefined };
    }
  }

  async #erase(volume: Volume): Promise<void> {
    const { store, logger } = this.#options;
    const started = performance.now();
    const { device, region } = await this.#place(volume);
    const frozen = await this.#options.whyFrozen?.(region.deviceUuid);
    if (frozen !== undefined) throw new FamfsError("STORE_RESTORED", `volume ${volume.name} is not erased: ${frozen}`);
    const { other } = await this.#look(device, region, volume);
    // One that was never formatted has nothing there: only its record goes.
    if (other !== undefined && volume.failure === undefined) throw recordsLost(region, volume, other);
    if (other === undefined) {
      const { uuid, regionGeneration: generation } = volume;
      const check = () => this.#check(volume);
      await eraseRegion(device, region, { uuid, generation }, { signal: this.#stop.signal, check });
    }
    const now = await store.get("volumes", volume.name);
    if (now === undefined || !this.#isMine(now)) return;
    await store.delete("volumes", volume.name, now.resourceVersion);
    logger.info({ volumeId: volume.name, ms: Math.round(performance.now() - started) }, "volume erased");
  }

  async #place(volume: Volume): Promise<{ device: Device; region: Region }> {
    const [region, ...more] = volume.regions;
    if (region === undefined || more.length > 0) {
      throw new FamfsError(
        "NOT_SUPPORTED",
        `volume ${volume.name} has ${volume.regions.length} regions, one was expected`,
      );
    }
    return { device: await this.#options.device(region.deviceUuid), region };
  }

  /** The last guard of volumes whose records were lost: what is there is asked of the memory, not of the store. */
  #look(device: Device, region: Region, { name, uuid, regionGeneration }: Volume): Promise<RegionContents> {
    const known = [...this.#regions]
      .filter(([other]) => other !== name)
      .flatMap(([, regions]) => regions.filter(({ deviceUuid }) => deviceUuid === region.deviceUuid));
    return lookAtRegion(device, region, { uuid, generation: regionGeneration }, { signal: this.#stop.signal, known });
  }

  /** Before every chunk: the region must still be this volume's, and the job ours (design 5, quarantine). */
  async #check(volume: Volume): Promise<void> {
    const now = await this.#options.store.get("volumes", volume.name);
    const same = now?.uuid === volume.uuid && now.regionGeneration === volume.regionGeneration;
    if (now === undefined || !same || now.phase !== volume.phase || !this.#isMine(now)) {
      throw new FamfsError("CONFLICT", `the job for volume ${volume.name} is over: its record has changed`);
    }
  }
}

/** As they are in the memory: an older program may have formatted it. */
async function ownerSlots(device: Device, region: Region): Promise<Pick<Volume, "failure" | "slotCount">> {
  await using media = await VolumeMedia.open(device, region, { writable: false, coherent: false });
  return { failure: undefined, slotCount: media.writerSlots };
}

function recordsLost({ deviceUuid }: Region, { name, uuid, regionGeneration }: Volume, other: OtherVolume): FamfsError {
  const found = `volume ${other.name === "" ? "without a readable name" : other.name} (${other.uuid}, generation ${other.generation})`;
  return new FamfsError(
    "RECORDS_LOST",
    `device ${deviceUuid} holds ${found} at ${other.offset}, where ${name} (${uuid}, generation ${regionGeneration}) is by its record: records were lost, and nothing is written there`,
  );
}
