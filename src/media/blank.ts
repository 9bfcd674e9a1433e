import { FamfsError } from "../base/index.ts";
import type { Device } from "./device.ts";
import { showContents } from "./device-contents.ts";
import { firstVolumeBehind } from "./volume-scan.ts";

/**
 * Before anything is made over a whole device. A device whose start alone is blank is not: somebody wiped its label,
 * and the volumes behind it are there still. DEVICE_NOT_BLANK, which names what it holds.
 */
export async function assertBlank(device: Device): Promise<void> {
  const contents = await device.inspect();
  const refuse = (what: string) =>
    new FamfsError(
      "DEVICE_NOT_BLANK",
      `${device.path} ${what}; only --force overwrites that, and what it holds is lost`,
    );
  if (contents.type !== "blank") throw refuse(showContents(contents));
  const found = await firstVolumeBehind(device);
  if (found === undefined) return;
  throw refuse(`has lost its label and holds volume ${found.record?.name ?? found.uuid} at ${found.region.offset}`);
}
