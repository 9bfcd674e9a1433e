import { type FsckReport, fsck, inspectSuperblock, LOG_OFFSET, MIN_LOG_LENGTH } from "../format/index.ts";
import type { Target } from "./target.ts";

/** Everything the superblock and the log of `target` say, read once; nothing is mapped for writing or changed. */
export async function readVolume({ device, region }: Target): Promise<FsckReport> {
  const head = await device.read(region.offset, Math.min(LOG_OFFSET, region.length));
  const logLength = inspectSuperblock(head).value?.logLength ?? MIN_LOG_LENGTH;
  const image = await device.read(region.offset, Math.min(LOG_OFFSET + logLength, region.length));
  return fsck(image, region.length);
}
