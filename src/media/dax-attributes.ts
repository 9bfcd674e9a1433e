import { readFile, readlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { FamfsError, fromSystemError, parseSize } from "../base/index.ts";

export interface DaxAttributes {
  readonly sizeBytes: number;
  /** Offsets and lengths of mappings are multiples of this. */
  readonly alignBytes: number;
}

/** Linux has 12 bits of major and 20 of minor number in an st_rdev of 32 bits. */
export function deviceNumbers(rdev: number): { readonly major: number; readonly minor: number } {
  return { major: (rdev >>> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
}

/** What sysfs says about the devdax device `rdev`. DEVICE_MODE for anything that is not devdax. */
export async function readDaxAttributes(path: string, rdev: number, sysfs = "/sys"): Promise<DaxAttributes> {
  const { major, minor } = deviceNumbers(rdev);
  const folder = join(sysfs, "dev/char", `${major}:${minor}`);
  const subsystem = await link(join(folder, "subsystem"));
  if (subsystem !== "dax") throw new FamfsError("DEVICE_MODE", `${path} is a character device, but not a dax device`);
  const driver = await link(join(folder, "driver"));
  if (driver !== "device_dax") {
    throw new FamfsError(
      "DEVICE_MODE",
      `${path} is bound to the driver ${driver ?? "(none)"}, not device_dax; reconfigure it to devdax mode`,
    );
  }
  return {
    sizeBytes: await number(join(folder, "size")),
    alignBytes: await number(join(folder, "align")),
  };
}

async function link(path: string): Promise<string | undefined> {
  try {
    return basename(await readlink(path));
  } catch {
    return undefined; // not there: not bound, or no dax device
  }
}

async function number(path: string): Promise<number> {
  try {
    return parseSize(await readFile(path, "utf8"));
  } catch (error) {
    throw fromSystemError(error, "read", path);
  }
}
