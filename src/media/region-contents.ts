import { ALLOC_UNIT, type Extent } from "../base/index.ts";
import { GUARD_OFFSET, IDENTITY_SIZE, inspectIdentity } from "../format/index.ts";
import type { Device } from "./device.ts";
import { type BeingErased, type FoundVolume, isVolumeRegion, scanRegions } from "./volume-scan.ts";

/** The account that the memory gives of a region, which a record gives to a volume. */
export interface RegionContents {
  /** The volume is there, whole; or what is left of it while it is erased. */
  readonly own: "volume" | "erasing" | undefined;
  /** A volume that is not this one and has some of the region: nothing there may be written. */
  readonly other: OtherVolume | undefined;
  /** Where the marks are of other volumes, being erased, that had some of it. */
  readonly leftovers: readonly Extent[];
}

export interface OtherVolume {
  /** Empty when it cannot be read any more. */
  readonly name: string;
  readonly uuid: string;
  readonly generation: number;
  readonly offset: number;
}

export interface LookOptions {
  readonly signal?: AbortSignal;
  /** Where other volumes are said to be on the device. Only makes the search shorter: the memory has to agree. */
  readonly known?: readonly Extent[];
}

/** Finds out which volume a region is of, whatever any record outside says. Reads only. MEMORY_ERROR, LABEL_CORRUPT. */
export async function lookAtRegion(
  device: Device,
  region: Extent,
  volume: { readonly uuid: string; readonly generation: number },
  { signal, known = [] }: LookOptions = {},
): Promise<RegionContents> {
  const from = await endOfLastBefore(device, region, known);
  const within = { from, end: region.offset + region.length };
  const seen = await scanRegions(device, { within, ...(signal === undefined ? {} : { signal }) });
  const inIt = seen.filter(({ region: { offset, length } }) => offset + length > region.offset);
  const isPlace = ({ offset, length }: Extent) => offset === region.offset && length === region.length;
  let own: RegionContents["own"];
  let other: OtherVolume | undefined;
  const leftovers: Extent[] = [];
  for (const each of inIt) {
    const { uuid, generation } = ownerOf(each) ?? {};
    const isOwn = isPlace(each.region) && uuid === volume.uuid && generation === volume.generation;
    if (isOwn) own = "erasing" in each ? "erasing" : "volume";
    else if ("erasing" in each) leftovers.push(each.region);
    // A stock file system in a region is what a file held, or was there before the label: no volume of this driver.
    else other ??= ownerOf(each);
  }
  if (!inIt.some((each) => each.region.offset === region.offset)) {
    // Its superblock may be damaged, which is no reason to take it for nothing.
    const { value: identity } = inspectIdentity(await device.read(region.offset + GUARD_OFFSET, IDENTITY_SIZE), 0);
    if (identity !== undefined && identity.volumeUuid !== volume.uuid) {
      other ??= { name: "", uuid: identity.volumeUuid, generation: identity.generation, offset: region.offset };
    }
  }
  return { own, other, leftovers };
}

/** Whether the volume is in its region, whole: as long as it is, nobody was given that. MEMORY_ERROR, LABEL_CORRUPT. */
export async function isInMemory(
  device: Device,
  { offset, length }: Extent,
  { uuid, generation }: { readonly uuid: string; readonly generation: number },
): Promise<boolean> {
  const [seen] = await scanRegions(device, { within: { from: offset, end: offset + ALLOC_UNIT } });
  if (seen === undefined || "erasing" in seen || seen.region.length !== length) return false;
  const owner = ownerOf(seen);
  return owner?.uuid === uuid && owner.generation === generation;
}

function ownerOf(seen: FoundVolume | BeingErased): OtherVolume | undefined {
  const { offset } = seen.region;
  if ("erasing" in seen) {
    const { volumeUuid: uuid, generation } = seen.erasing;
    return { name: "", uuid, generation, offset };
  }
  const { record, identity } = seen;
  const owner = record ?? identity;
  return owner && { name: record?.name ?? "", uuid: owner.volumeUuid, generation: owner.generation, offset };
}

/** Volumes may begin before the region and reach into it, but not over the end of one that is there. */
async function endOfLastBefore(device: Device, region: Extent, known: readonly Extent[]): Promise<number> {
  const before = known
    .filter(({ offset, length }) => offset + length <= region.offset)
    .toSorted((a, b) => b.offset + b.length - (a.offset + a.length));
  for (const each of before) if (await isVolumeRegion(device, each)) return each.offset + each.length;
  return 0;
}
