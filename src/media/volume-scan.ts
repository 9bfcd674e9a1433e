import { ALLOC_UNIT } from "../base/index.ts";
import {
  inspectSuperblock,
  inspectVolumeRecord,
  LABEL_LENGTH,
  LOG_OFFSET,
  VOLUME_RECORD_OFFSET,
  type VolumeRecord,
} from "../format/index.ts";
import type { Device, Range } from "./device.ts";
import { readLabel } from "./label.ts";

/** A volume as the memory shows it, whatever any record outside says. */
export interface FoundVolume {
  readonly region: Range;
  /** Absent: a stock file system. */
  readonly record: VolumeRecord | undefined;
  /** ts_uuid of its superblock. */
  readonly uuid: string;
}

/**
 * The volumes of a device: the one that is the whole device, or those in the regions behind a label. Regions begin at
 * multiples of 2 MiB and do not overlap, so each probe skips either a unit or a whole volume.
 */
export async function scanVolumes(
  device: Device,
  options: { readonly signal?: AbortSignal } = {},
): Promise<FoundVolume[]> {
  if ((await readLabel(device)) === undefined) {
    const whole = await probe(device, 0);
    return whole === undefined ? [] : [{ ...whole, region: device.whole }];
  }
  const found: FoundVolume[] = [];
  for (let offset = LABEL_LENGTH; offset + LOG_OFFSET <= device.sizeBytes; ) {
    options.signal?.throwIfAborted();
    const volume = await probe(device, offset);
    if (volume === undefined) {
      offset += ALLOC_UNIT;
      continue;
    }
    found.push(volume);
    offset += volume.region.length;
  }
  return found;
}

/** The superblock and record at `offset`; undefined when there is none that can be believed. */
async function probe(device: Device, offset: number): Promise<FoundVolume | undefined> {
  const head = await device.read(offset, VOLUME_RECORD_OFFSET + 4096);
  const { value: superblock } = inspectSuperblock(head);
  if (superblock === undefined) return undefined;
  const { value: record } = inspectVolumeRecord(head, VOLUME_RECORD_OFFSET, superblock.uuid);
  const length = record?.regionLength ?? superblock.daxdevSize;
  if (length % ALLOC_UNIT !== 0 || length < LOG_OFFSET || offset + length > device.sizeBytes) return undefined;
  return { region: { offset, length }, record, uuid: superblock.uuid };
}
