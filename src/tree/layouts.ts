import { stripLength } from "../alloc/index.ts";
import { ALLOC_UNIT, type Extent, FamfsError, roundUp } from "../base/index.ts";
import type { Layout } from "../format/index.ts";
import type { SealedContent } from "./nodes.ts";
import type { MapLayout } from "./ports.ts";
import { rangesOf, splitExtents, type UnsealedFile } from "./unsealed-file.ts";

export const NOTHING: MapLayout = { type: "simple", extents: [] };

/** Where file maps find the bytes. The window maps the whole primary region, so offsets are the same. */
export function mapLayoutOf(content: SealedContent | UnsealedFile): MapLayout {
  if (content.type === "unsealed") {
    const { extents, chunkSize } = content;
    if (chunkSize === undefined) return { type: "simple", extents };
    return { type: "interleaved", chunkSize, strips: extents };
  }
  const { layout } = content;
  if (layout === undefined) return NOTHING;
  const parts = layout.type === "simple" ? layout.extents : layout.strips;
  if (parts.some((part) => part.devindex !== 0)) {
    throw new FamfsError("NOT_SUPPORTED", "the file lies in a further region of its volume; only the first is mapped");
  }
  const plain = parts.map(({ offset, length }) => ({ offset, length }));
  return layout.type === "simple"
    ? { type: "simple", extents: plain }
    : { type: "interleaved", chunkSize: layout.chunkSize, strips: plain };
}

/** Bytes [from, to) of a file as ranges of the region, in order (format 6.4, 6.5). */
export function contentRanges(content: SealedContent | UnsealedFile, from: number, to: number): Extent[] {
  return layoutRanges(mapLayoutOf(content), from, to);
}

export function layoutRanges(layout: MapLayout, from: number, to: number): Extent[] {
  if (layout.type === "simple") return rangesOf(layout.extents, from, to);
  return interleavedRanges(layout, from, to);
}

function interleavedRanges(layout: MapLayout & { type: "interleaved" }, from: number, to: number): Extent[] {
  const { chunkSize, strips } = layout;
  const ranges: Extent[] = [];
  for (let at = from; at < to; ) {
    const chunk = Math.floor(at / chunkSize);
    const strip = strips[chunk % strips.length];
    if (strip === undefined) break;
    const within = at % chunkSize;
    const length = Math.min(chunkSize - within, to - at);
    ranges.push({ offset: strip.offset + Math.floor(chunk / strips.length) * chunkSize + within, length });
    at += length;
  }
  return ranges;
}

/** Extents of an unsealed file, as `UnsealedFile` has them. */
export interface Extents {
  readonly extents: Extent[];
  readonly chunkSize: number | undefined;
}

/**
 * What `content` needs for its first `length` bytes, and the rest. Interleaved content keeps whole stripes, but what
 * fits in one chunk is no longer interleaved: the same bytes are at the start of the first strip.
 */
export function splitContent(content: Extents, length: number): { readonly head: Extents; readonly tail: Extent[] } {
  const { extents, chunkSize } = content;
  const whole = roundUp(length, ALLOC_UNIT);
  if (chunkSize === undefined || whole <= chunkSize) {
    const { head, tail } = splitExtents(extents, whole);
    return { head: { extents: head, chunkSize: undefined }, tail };
  }
  const needed = stripLength(whole, { nstrips: extents.length, chunkSize });
  const parts = extents.map((strip) => splitExtents([strip], needed));
  return {
    head: { extents: parts.flatMap(({ head }) => head), chunkSize },
    tail: parts.flatMap(({ tail }) => tail),
  };
}

/** What a log entry says of extents in the primary region. */
export function logLayoutOf({ extents, chunkSize }: Extents): Layout {
  const parts = extents.map((extent) => ({ devindex: 0, ...extent }));
  if (chunkSize === undefined) return { type: "simple", extents: parts };
  return { type: "interleaved", chunkSize, strips: parts };
}
