import { ALLOC_UNIT, type Extent } from "../base/index.ts";
import {
  type DeviceLabel,
  type EraseMark,
  GUARD_OFFSET,
  IDENTITY_SIZE,
  type Identity,
  inspectIdentity,
  inspectSuperblock,
  inspectVolumeRecord,
  LABEL_LENGTH,
  LOG_OFFSET,
  readEraseMark,
  readVolumeOrigin,
  SUPERBLOCK_MAGIC,
  VOLUME_ORIGIN_OFFSET,
  VOLUME_RECORD_OFFSET,
  type VolumeOrigin,
  type VolumeRecord,
} from "../format/index.ts";
import type { Device } from "./device.ts";
import { readLabel } from "./label.ts";

/** A volume as the memory shows it, whatever any record outside says. */
export interface FoundVolume {
  readonly region: Extent;
  /** Absent: a stock file system, or the record is damaged. */
  readonly record: VolumeRecord | undefined;
  /** What it was asked for as; absent in volumes made from a command line, or by older versions. */
  readonly origin: VolumeOrigin | undefined;
  /** ts_uuid of its superblock. */
  readonly uuid: string;
  /** The identity line, which is there still when only the record is damaged. */
  readonly identity: Identity | undefined;
}

/** A region that was a volume's: a search skips it as a whole, because what its files held may look like a volume. */
export interface BeingErased {
  readonly erasing: EraseMark;
  readonly region: Extent;
}

export interface VolumeScanOptions {
  readonly signal?: AbortSignal;
  /** Look only for volumes that begin in this part of the device. Default: all behind the label. */
  readonly within?: { readonly from: number; readonly end: number };
}

/**
 * The volumes of a device: the one that is the whole device, or those in the regions behind a label. Regions begin at
 * multiples of 2 MiB and do not overlap, so each probe skips either a unit or a whole volume: what a volume's files
 * hold is never taken for one. Volumes from before the label are not among them.
 */
export async function scanVolumes(device: Device, options: VolumeScanOptions = {}): Promise<FoundVolume[]> {
  return (await scanRegions(device, options)).filter((seen): seen is FoundVolume => !("erasing" in seen));
}

/** As `scanVolumes`, with what is being erased. */
export async function scanRegions(
  device: Device,
  options: VolumeScanOptions = {},
): Promise<(FoundVolume | BeingErased)[]> {
  const label = await readLabel(device);
  if (label === undefined) {
    const whole = await probe(device, 0);
    return whole === undefined ? [] : [{ ...whole, region: device.whole }];
  }
  const { from, end } = options.within ?? { from: LABEL_LENGTH, end: device.sizeBytes };
  const found: (FoundVolume | BeingErased)[] = [];
  for (let next = Math.max(from, LABEL_LENGTH); ; ) {
    options.signal?.throwIfAborted();
    const offset = await device.findUnit(SUPERBLOCK_MAGIC, { from: next, end });
    if (offset === undefined) return found;
    const seen = await probeBehind(device, offset, label);
    if (seen !== undefined) found.push(seen);
    next = offset + (seen?.region.length ?? ALLOC_UNIT);
  }
}

/** Whether a volume begins and ends there, as the memory says. */
export async function isVolumeRegion(device: Device, region: Extent): Promise<boolean> {
  const label = await readLabel(device);
  const seen = label === undefined ? undefined : await probeBehind(device, region.offset, label);
  return seen !== undefined && !("erasing" in seen) && seen.region.length === region.length;
}

/** A volume of ours behind where a label would be, on a device without one. */
export async function firstVolumeBehind(device: Device): Promise<FoundVolume | undefined> {
  for (let from = LABEL_LENGTH; ; from += ALLOC_UNIT) {
    const offset = await device.findUnit(SUPERBLOCK_MAGIC, { from, end: device.sizeBytes });
    if (offset === undefined) return undefined;
    const seen = await probe(device, offset);
    if (seen !== undefined && !("erasing" in seen) && seen.record !== undefined) return seen;
    from = offset;
  }
}

/** The volume that begins at `offset`, if it was made since the device has its label. */
async function probeBehind(
  device: Device,
  offset: number,
  label: DeviceLabel,
): Promise<FoundVolume | BeingErased | undefined> {
  const seen = await probe(device, offset);
  return seen === undefined || isOlder(seen, label) ? undefined : seen;
}

/** Clocks of nodes may differ by this much. */
const CLOCK_SLACK_SECONDS = 600;

/** Whether it was made before the device got its label: somebody wiped the start of the device only. */
function isOlder(seen: FoundVolume | BeingErased, label: DeviceLabel): boolean {
  const since = "erasing" in seen ? seen.erasing.begunSeconds : seen.record?.createdSeconds;
  return since !== undefined && since + CLOCK_SLACK_SECONDS < label.createdSeconds;
}

/** The superblock and record at `offset`, or the mark in their place; undefined when none can be believed. */
async function probe(device: Device, offset: number): Promise<FoundVolume | BeingErased | undefined> {
  const head = await device.read(offset, Math.min(GUARD_OFFSET + IDENTITY_SIZE, device.sizeBytes - offset));
  const fits = (length: number) =>
    length % ALLOC_UNIT === 0 && length >= LOG_OFFSET && offset + length <= device.sizeBytes;
  const { value: superblock } = inspectSuperblock(head);
  if (superblock === undefined) {
    const erasing = readEraseMark(head);
    if (erasing === undefined || !fits(erasing.regionLength)) return undefined;
    return { erasing, region: { offset, length: erasing.regionLength } };
  }
  const { value: record } = inspectVolumeRecord(head, VOLUME_RECORD_OFFSET, superblock.uuid);
  const length = record?.regionLength ?? superblock.daxdevSize;
  if (!fits(length)) return undefined;
  const origin = record === undefined ? undefined : readVolumeOrigin(head, VOLUME_ORIGIN_OFFSET, record.volumeUuid);
  const { value: identity } = inspectIdentity(head, GUARD_OFFSET);
  return { region: { offset, length }, record, origin, uuid: superblock.uuid, identity };
}
