import { encodeStoreMark, readStoreMark, STORE_MARK_OFFSET, STORE_MARK_SIZE } from "../format/index.ts";
import type { Device } from "./device.ts";

/** The highest revision of the device's record that any node remembers, in the label; 0: none. MEMORY_ERROR. */
export async function rememberedRevision(device: Device): Promise<number> {
  return readStoreMark(await device.read(STORE_MARK_OFFSET, STORE_MARK_SIZE));
}

/** Nodes may write at once, each what it has seen: the one that comes last may be the lower, and soon is not. */
export async function rememberRevision(device: Device, revision: number): Promise<void> {
  await using window = device.mapRegion({ offset: 0, length: device.alignBytes }, { writable: true });
  window.copyInDurable(STORE_MARK_OFFSET, encodeStoreMark(revision));
}
