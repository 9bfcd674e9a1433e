import { ALLOC_UNIT, FamfsError } from "../base/index.ts";
import {
  type DeviceLabel,
  encodeDeviceLabel,
  LABEL_LENGTH,
  LABEL_RECORD_OFFSET,
  SUPERBLOCK_MAGIC,
} from "../format/index.ts";
import { assertBlank } from "./blank.ts";
import type { Device } from "./device.ts";

export interface DeviceInit {
  readonly uuid: string;
  readonly pool: string;
  readonly incarnation: number;
  readonly createdSeconds: number;
  /** Overwrite whatever is there. */
  readonly force: boolean;
}

/**
 * Makes `device` a managed one: regions for volumes are after the label. With force the volumes of an earlier label are
 * forgotten, so that no scan takes them for volumes of this one. DEVICE_NOT_BLANK, DEVICE_TOO_SMALL.
 */
export async function initDevice(device: Device, init: DeviceInit): Promise<DeviceLabel> {
  if (!init.force) await assertBlank(device);
  if (device.sizeBytes <= LABEL_LENGTH) {
    throw new FamfsError(
      "DEVICE_TOO_SMALL",
      `${device.path} has ${device.sizeBytes} bytes; its label alone takes ${LABEL_LENGTH}`,
    );
  }
  const label: DeviceLabel = {
    uuid: init.uuid,
    sizeBytes: device.sizeBytes,
    pool: init.pool,
    incarnation: init.incarnation,
    createdSeconds: init.createdSeconds,
  };
  if (init.force) await forgetVolumes(device);
  const bytes = encodeDeviceLabel(label);
  await using window = device.mapRegion({ offset: 0, length: device.alignBytes }, { writable: true });
  // The old superblock goes first and the new one comes last, so a crash in between leaves no label and no file system.
  window.zero(0, LABEL_RECORD_OFFSET);
  window.zero(LABEL_RECORD_OFFSET, LABEL_LENGTH - LABEL_RECORD_OFFSET);
  window.copyInDurable(LABEL_RECORD_OFFSET, bytes.subarray(LABEL_RECORD_OFFSET));
  window.copyInDurable(0, bytes.subarray(0, LABEL_RECORD_OFFSET));
  return label;
}

async function forgetVolumes(device: Device): Promise<void> {
  for (let from = LABEL_LENGTH; ; ) {
    const offset = await device.findUnit(SUPERBLOCK_MAGIC, { from, end: device.sizeBytes });
    if (offset === undefined) return;
    await device.zero(offset, ALLOC_UNIT);
    from = offset + ALLOC_UNIT;
  }
}
