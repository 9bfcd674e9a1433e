import { ALLOC_UNIT, type Extent, FamfsError } from "../base/index.ts";
import type { FreeSpace } from "./free-space.ts";

/** How new files are striped (format 7). */
export interface Striping {
  /** Equal parts the memory is cut into; the strips of a file lie in different ones. */
  readonly nbuckets: number;
  readonly nstrips: number;
  readonly chunkSize: number;
}

export const MAX_BUCKETS = 64;

/** INVALID_ARGUMENT, naming the rule; `maxStrips` is what a log entry takes (16, 15 on extended volumes). */
export function checkStriping({ nbuckets, nstrips, chunkSize }: Striping, totalBytes: number, maxStrips: number): void {
  const refuse = (message: string): never => {
    throw new FamfsError("INVALID_ARGUMENT", message);
  };
  if (!Number.isInteger(nbuckets) || nbuckets < 1 || nbuckets > MAX_BUCKETS) {
    refuse(`${nbuckets} buckets; write 1 to ${MAX_BUCKETS}`);
  }
  if (!Number.isInteger(nstrips) || nstrips < 1 || nstrips > Math.min(nbuckets, maxStrips)) {
    refuse(`${nstrips} strips; write 1 to ${Math.min(nbuckets, maxStrips)}: at most one per bucket, and ${maxStrips}`);
  }
  if (!(chunkSize >= ALLOC_UNIT && Number.isSafeInteger(chunkSize) && Number.isInteger(Math.log2(chunkSize)))) {
    refuse(`chunk size ${chunkSize}; write a power of two from ${ALLOC_UNIT} on`);
  }
  if (Math.floor(totalBytes / nbuckets) < chunkSize) {
    refuse(`${nbuckets} buckets of ${Math.floor(totalBytes / nbuckets)} bytes hold no chunk of ${chunkSize}`);
  }
}

/** Bytes of each strip of a file of `size` bytes: whole stripes. */
export function stripLength(size: number, { nstrips, chunkSize }: Pick<Striping, "nstrips" | "chunkSize">): number {
  return Math.ceil(size / (nstrips * chunkSize)) * chunkSize;
}

/**
 * Strips for a file of `size` bytes, each in a bucket of its own, visited in random order so that files spread
 * (`random` as Math.random). undefined, and nothing changes, when too few buckets have room. A file shorter than a
 * chunk is not striped: allocate it contiguously.
 */
export function allocateStrips(
  space: FreeSpace,
  size: number,
  striping: Striping,
  { whole, random }: { readonly whole: Extent; readonly random: () => number },
): Extent[] | undefined {
  const length = stripLength(size, striping);
  const bucketLength = Math.floor(whole.length / ALLOC_UNIT / striping.nbuckets) * ALLOC_UNIT;
  const strips: Extent[] = [];
  for (const bucket of shuffled(striping.nbuckets, random)) {
    const from = whole.offset + bucket * bucketLength;
    const strip = space.allocateWithin(from, from + bucketLength, length);
    if (strip !== undefined) strips.push(strip);
    if (strips.length === striping.nstrips) return strips;
  }
  for (const strip of strips) space.free(strip.offset, strip.length);
  return undefined;
}

function shuffled(count: number, random: () => number): number[] {
  const order = Array.from({ length: count }, (_, position) => position);
  for (let position = count - 1; position > 0; position--) {
    const other = Math.floor(random() * (position + 1));
    [order[position], order[other]] = [order[other] as number, order[position] as number];
  }
  return order;
}
