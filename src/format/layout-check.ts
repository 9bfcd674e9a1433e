import type { RangeSet } from "../base/index.ts";
import type { FindingCode } from "./finding.ts";
import type { DeviceExtent, Layout } from "./log-entry.ts";

export interface Problem {
  readonly code: FindingCode;
  readonly message: string;
}

/** A daxdev of a volume as replay sees it. */
export interface Daxdev {
  readonly size: number;
  /** Where files may begin: behind superblock and log, or behind the header of a further region. */
  readonly dataOffset: number;
  readonly used: RangeSet;
}

export function extentsOf(layout: Layout): readonly DeviceExtent[] {
  return layout.type === "simple" ? layout.extents : layout.strips;
}

/** Whether a file of `size` bytes can have this layout at all; overlap is for `claimExtents`. */
export function layoutProblem(
  layout: Layout,
  size: number,
  allocUnit: number,
  daxdevs: ReadonlyMap<number, Daxdev>,
): Problem | undefined {
  if (layout.type === "interleaved") {
    const problem = stripeProblem(layout.chunkSize, allocUnit);
    if (problem !== undefined) return problem;
  }
  for (const extent of extentsOf(layout)) {
    const problem = extentProblem(extent, allocUnit, daxdevs);
    if (problem !== undefined) return problem;
  }
  return layout.type === "simple" ? simpleSizeProblem(layout.extents, size) : stripSizeProblem(layout, size);
}

function stripeProblem(chunkSize: number, allocUnit: number): Problem | undefined {
  if (chunkSize > 0 && chunkSize % allocUnit === 0 && Number.isInteger(Math.log2(chunkSize))) return undefined;
  return { code: "STRIPE_INVALID", message: `chunk size ${chunkSize} is not a power of two times ${allocUnit}` };
}

function extentProblem(
  { devindex, offset, length }: DeviceExtent,
  allocUnit: number,
  daxdevs: ReadonlyMap<number, Daxdev>,
): Problem | undefined {
  // Messages are made only for what is wrong: replay runs through here for every extent of the log.
  const where = () => `extent ${offset}+${length} of daxdev ${devindex}`;
  const daxdev = daxdevs.get(devindex);
  if (daxdev === undefined) return { code: "DAXDEV_UNKNOWN", message: `${where()}: no such daxdev` };
  if (offset % allocUnit !== 0 || length % allocUnit !== 0 || length === 0) {
    return { code: "EXTENT_MISALIGNED", message: `${where()} is not in units of ${allocUnit}` };
  }
  if (offset < daxdev.dataOffset || length > daxdev.size - offset) {
    return { code: "EXTENT_OUT_OF_RANGE", message: `${where()} is outside ${daxdev.dataOffset} to ${daxdev.size}` };
  }
  return undefined;
}

function simpleSizeProblem(extents: readonly DeviceExtent[], size: number): Problem | undefined {
  let room = 0;
  for (const extent of extents) room += extent.length;
  return size <= room ? undefined : { code: "EXTENT_TOO_SHORT", message: `${size} bytes in extents that hold ${room}` };
}

/** Each strip holds every nth chunk, whole (format 6.5). */
function stripSizeProblem(
  { chunkSize, strips }: { readonly chunkSize: number; readonly strips: readonly DeviceExtent[] },
  size: number,
): Problem | undefined {
  const chunks = Math.ceil(size / chunkSize);
  for (const [position, strip] of strips.entries()) {
    const needed = Math.ceil((chunks - position) / strips.length) * chunkSize;
    if (strip.length < needed) {
      return { code: "EXTENT_TOO_SHORT", message: `strip ${position} holds ${strip.length} bytes, needs ${needed}` };
    }
  }
  return undefined;
}

/** Takes all extents of a checked layout, or none when one of them is taken already. */
export function claimExtents(layout: Layout, daxdevs: ReadonlyMap<number, Daxdev>): Problem | undefined {
  const extents = extentsOf(layout);
  let taken = 0;
  for (const { devindex, offset, length } of extents) {
    if (daxdevs.get(devindex)?.used.add(offset, offset + length) !== true) {
      releaseExtents(extents.slice(0, taken), daxdevs);
      return {
        code: "EXTENT_OVERLAP",
        message: `extent ${offset}+${length} of daxdev ${devindex} is claimed already`,
      };
    }
    taken++;
  }
  return undefined;
}

export function releaseExtents(extents: readonly DeviceExtent[], daxdevs: ReadonlyMap<number, Daxdev>): void {
  for (const { devindex, offset, length } of extents) daxdevs.get(devindex)?.used.delete(offset, offset + length);
}
