import { ALLOC_UNIT, hasCode, roundDown } from "../base/index.ts";
import { regionLengthFor } from "../format/index.ts";
import { parseVolumeParameters } from "../state/index.ts";
import type { ControllerContext } from "./context.ts";
import { MIN_VOLUME_BYTES } from "./create-volume.ts";
import { candidateDevices } from "./placement.ts";

export interface Capacity {
  /** All that could be claimed now, by volumes of any size. */
  readonly availableBytes: number;
  /** The largest volume that could be made now; 0 when none could. */
  readonly maximumVolumeBytes: number;
  readonly minimumVolumeBytes: number;
}

/** Capacity for volumes with these parameters in these fabrics. A pool or place that does not exist has none. */
export async function getCapacity(
  { store, volumes }: ControllerContext,
  { parameters, fabrics }: { parameters: Readonly<Record<string, string>>; fabrics: readonly string[] | undefined },
): Promise<Capacity> {
  const { pool, logLengthBytes } = parseVolumeParameters(parameters);
  const overhead = regionLengthFor(0, logLengthBytes);
  const devices = await store.list("devices");
  let candidates: typeof devices = [];
  try {
    candidates = candidateDevices(devices, { pool, fabrics }).flat();
  } catch (error) {
    if (!hasCode(error, "POOL_NOT_FOUND", "TOPOLOGY_UNSATISFIABLE")) throw error;
  }
  const space = volumes.spaceOn(candidates, { intents: true });
  const payload = (bytes: number) => Math.max(0, roundDown(bytes - overhead, ALLOC_UNIT));
  return {
    availableBytes: payload(space.freeBytes),
    maximumVolumeBytes: payload(space.largestFreeBytes),
    minimumVolumeBytes: MIN_VOLUME_BYTES,
  };
}
