import { FamfsError } from "../base/index.ts";
import type { Layout } from "../format/index.ts";
import type { SealedContent } from "./nodes.ts";
import type { MapLayout } from "./ports.ts";
import type { RegionExtent } from "./space.ts";
import { rangesOf, type UnsealedFile } from "./unsealed-file.ts";

const NOTHING: MapLayout = { type: "simple", extents: [] };

/** Where file maps find the bytes. The window maps the whole primary region, so offsets are the same. */
export function mapLayoutOf(content: SealedContent | UnsealedFile): MapLayout {
  if (content.type === "unsealed") return { type: "simple", extents: content.extents };
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
export function contentRanges(content: SealedContent | UnsealedFile, from: number, to: number): RegionExtent[] {
  const layout = mapLayoutOf(content);
  if (layout.type === "simple") return rangesOf(layout.extents, from, to);
  return interleavedRanges(layout, from, to);
}

function interleavedRanges(layout: MapLayout & { type: "interleaved" }, from: number, to: number): RegionExtent[] {
  const { chunkSize, strips } = layout;
  const ranges: RegionExtent[] = [];
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

/** What a log entry says of simple extents in the primary region. */
export function logLayoutOf(extents: readonly RegionExtent[]): Layout {
  return { type: "simple", extents: extents.map((extent) => ({ devindex: 0, ...extent })) };
}
