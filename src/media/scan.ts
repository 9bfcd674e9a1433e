import { lstat, readdir, readlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { FamfsError, messageOf } from "../base/index.ts";
import type { DeviceLabel } from "../format/index.ts";
import { Device } from "./device.ts";
import { type DeviceContents, showContents } from "./device-contents.ts";
import { type DeviceSpec, parseDeviceSpec } from "./device-spec.ts";

export interface ScannedDevice {
  readonly path: string;
  readonly label: DeviceLabel;
}

export interface ScanResult {
  readonly devices: readonly ScannedDevice[];
  /** What carries no label, and why. */
  readonly skipped: readonly { readonly path: string; readonly reason: string }[];
}

/** devdax devices of this host, and the regular files in /dev/shm (where simulated devices usually are). */
export async function deviceCandidates(): Promise<string[]> {
  const dax = (await names("/dev"))
    .filter((name) => /^dax[0-9]+\.[0-9]+$/.test(name))
    .map((name) => join("/dev", name));
  const simulated: string[] = [];
  for (const name of await names("/dev/shm")) {
    const path = join("/dev/shm", name);
    const status = await lstat(path).catch(() => undefined); // gone meanwhile
    if (status?.isFile() === true) simulated.push(path);
  }
  return [...dax.sort(), ...simulated.sort()];
}

/** The devdax devices of this host as sysfs lists them; those bound to other drivers (system RAM, fsdax) are not. */
export async function devdaxPaths(sysfs = "/sys"): Promise<string[]> {
  const folder = join(sysfs, "bus/dax/devices");
  const paths: string[] = [];
  for (const name of await names(folder)) {
    const driver = await readlink(join(folder, name, "driver")).catch(() => ""); // bound to none
    if (basename(driver) === "device_dax") paths.push(join("/dev", name));
  }
  return paths.sort();
}

/** Reads the labels of `paths`. A device that cannot be read is skipped with its reason. */
export async function scanDevices(paths: readonly string[]): Promise<ScanResult> {
  const devices: ScannedDevice[] = [];
  const skipped: { path: string; reason: string }[] = [];
  for (const path of paths) {
    try {
      const contents = await inspectPath(path);
      if (contents.type === "label") devices.push({ path, label: contents.label });
      else skipped.push({ path, reason: showContents(contents) });
    } catch (error) {
      skipped.push({ path, reason: messageOf(error) });
    }
  }
  return { devices, skipped };
}

/** The path of the device with this UUID on this host. DEVICE_NOT_FOUND; two of them (a copy) are refused too. */
export async function findDevice(uuid: string, paths?: readonly string[]): Promise<string> {
  const { devices, skipped } = await scanDevices(paths ?? (await deviceCandidates()));
  const found = devices.filter((device) => device.label.uuid === uuid);
  const [device, other] = found;
  if (device === undefined) {
    throw new FamfsError(
      "DEVICE_NOT_FOUND",
      `no device here has the UUID ${uuid}; looked at ${devices.length + skipped.length} devices and files in /dev/shm`,
    );
  }
  if (other !== undefined) {
    throw new FamfsError(
      "DEVICE_NOT_FOUND",
      `${device.path} and ${other.path} both have the UUID ${uuid}: one is a copy; name the device by its path`,
    );
  }
  return device.path;
}

/** Opens what a user or a record calls a device, by path or by UUID. Errors of `parseDeviceSpec` and `Device.open`. */
export async function openDevice(
  spec: DeviceSpec | string,
  options: { readonly writable: boolean; readonly create?: boolean },
): Promise<Device> {
  const parsed = typeof spec === "string" ? parseDeviceSpec(spec) : spec;
  const path =
    parsed.type === "path"
      ? parsed
      : { type: "path" as const, path: await findDevice(parsed.uuid), sizeBytes: undefined };
  return Device.open(path, options);
}

async function inspectPath(path: string): Promise<DeviceContents> {
  await using device = await Device.open({ type: "path", path, sizeBytes: undefined }, { writable: false });
  return await device.inspect(); // before the device closes
}

async function names(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []); // absent in some containers
}
