import { ALLOC_UNIT } from "../base/index.ts";
import {
  type DeviceLabel,
  inspectSuperblock,
  inspectVolumeRecord,
  LABEL_LENGTH,
  LOG_OFFSET,
  readVolumeOrigin,
  SUPERBLOCK_MAGIC,
  VOLUME_ORIGIN_END,
  VOLUME_ORIGIN_OFFSET,
  VOLUME_RECORD_OFFSET,
  type VolumeOrigin,
  type VolumeRecord,
} from "../format/index.ts";
import type { Device, Range } from "./device.ts";
import { readLabel } from "./label.ts";

/** A volume as the memory shows it, whatever any record outside says. */
export interface FoundVolume {
  readonly region: Range;
  /** Absent: a stock file system. */
  readonly record: VolumeRecord | undefined;
  /** What it was asked for as; absent in volumes made from a command line, or by older versions. */
  readonly origin: VolumeOrigin | undefined;
  /** ts_uuid of its superblock. */
  readonly uuid: string;
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
  const label = await readLabel(device);
  if (label === undefined) {
    const whole = await probe(device, 0);
    return whole === undefined ? [] : [{ ...whole, region: device.whole }];
  }
  const { from, end } = options.within ?? { from: LABEL_LENGTH, end: device.sizeBytes };
  const found: FoundVolume[] = [];
  for (let next = Math.max(from, LABEL_LENGTH); ; ) {
    options.signal?.throwIfAborted();
    const offset = await device.findUnit(SUPERBLOCK_MAGIC, { from: next, end });
    if (offset === undefined) return found;
    const volume = await probe(device, offset);
    const current = volume !== undefined && !isOlder(volume, label);
    if (current) found.push(volume);
    next = offset + (current ? volume.region.length : ALLOC_UNIT);
  }
}

/** Clocks of nodes may differ by this much. */
const CLOCK_SLACK_SECONDS = 600;

/** Whether it was made before the device got its label: somebody wiped the start of the device only. */
function isOlder({ record }: FoundVolume, label: DeviceLabel): boolean {
  return record !== undefined && record.createdSeconds + CLOCK_SLACK_SECONDS < label.createdSeconds;
}

/** The superblock and record at `offset`; undefined when there is none that can be believed. */
async function probe(device: Device, offset: number): Promise<FoundVolume | undefined> {
  const head = await device.read(offset, Math.min(VOLUME_ORIGIN_END, device.sizeBytes - offset));
  const { value: superblock } = inspectSuperblock(head);
  if (superblock === undefined) return undefined;
  const { value: record } = inspectVolumeRecord(head, VOLUME_RECORD_OFFSET, superblock.uuid);
  const length = record?.regionLength ?? superblock.daxdevSize;
  if (length % ALLOC_UNIT !== 0 || length < LOG_OFFSET || offset + length > device.sizeBytes) return undefined;
  const origin = record === undefined ? undefined : readVolumeOrigin(head, VOLUME_ORIGIN_OFFSET, record.volumeUuid);
  return { region: { offset, length }, record, origin, uuid: superblock.uuid };
}
