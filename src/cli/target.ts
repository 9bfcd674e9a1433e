import { type Extent, FamfsError } from "../base/index.ts";
import { type Device, type FoundVolume, openDevice, scanVolumes, showContents } from "../media/index.ts";

/** The file system a command works on: a whole device, or one volume of a managed device. */
export interface Target extends AsyncDisposable {
  readonly device: Device;
  readonly region: Extent;
}

export interface TargetOptions {
  /** Volume id or UUID, for a managed device. */
  readonly volume?: string | undefined;
  readonly writable: boolean;
}

/**
 * Opens DEVICE and finds the region: the whole device, unless it carries a label; then `volume` says which one, and
 * may be left out when there is just one. DEVICE_NOT_FOUND, VOLUME_NOT_FOUND, INVALID_ARGUMENT.
 */
export async function openTarget(name: string, options: TargetOptions): Promise<Target> {
  const device = await openDevice(name, { writable: options.writable, create: false });
  try {
    const region = await findRegion(device, options.volume);
    return { device, region, [Symbol.asyncDispose]: () => device[Symbol.asyncDispose]() };
  } catch (error) {
    await device[Symbol.asyncDispose]();
    throw error;
  }
}

async function findRegion(device: Device, volume: string | undefined): Promise<Extent> {
  const contents = await device.inspect();
  if (contents.type !== "label") {
    if (volume === undefined) return device.whole;
    throw new FamfsError("VOLUME_NOT_FOUND", `${device.path} ${showContents(contents)}; leave out --volume`);
  }
  const volumes = await scanVolumes(device);
  const [only] = volumes;
  if (volume === undefined) {
    if (only !== undefined && volumes.length === 1) return only.region;
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `${device.path} has ${volumes.length} volumes; say which with --volume${volumes.length === 0 ? "" : `: ${volumes.map(volumeName).join(", ")}`}`,
    );
  }
  const found = volumes.find(({ record }) => record?.name === volume || record?.volumeUuid === volume);
  if (found === undefined) {
    throw new FamfsError(
      "VOLUME_NOT_FOUND",
      `${device.path} has no volume "${volume}"; it has ${volumes.length === 0 ? "none" : volumes.map(volumeName).join(", ")}`,
    );
  }
  return found.region;
}

export function volumeName({ record, uuid }: FoundVolume): string {
  return record === undefined ? uuid : record.name === "" ? record.volumeUuid : record.name;
}
