import { FamfsError } from "../base/index.ts";
import { type DeviceLabel, LABEL_LENGTH, parseDeviceLabel } from "../format/index.ts";
import type { Device } from "./device.ts";

/** The label of a managed device; undefined when it has none. LABEL_CORRUPT. */
export async function readLabel(device: Device): Promise<DeviceLabel | undefined> {
  const bytes = await device.read(0, Math.min(LABEL_LENGTH, device.sizeBytes));
  const label = parseDeviceLabel(bytes);
  if (label !== undefined && label.sizeBytes > device.sizeBytes) {
    throw new FamfsError(
      "LABEL_CORRUPT",
      `${device.path} has ${device.sizeBytes} bytes, its label says ${label.sizeBytes}: it was truncated`,
    );
  }
  return label;
}
