import { type Extent, FamfsError } from "../base/index.ts";
import { crcHolds, sealCrc } from "./crc.ts";
import {
  MAX_RESERVED_RANGES,
  ReservedRangeStruct,
  SLOT_PAGE_MAGIC,
  SLOT_PAGES_OFFSET,
  SlotPageStruct,
} from "./extension-structs.ts";
import { type Inspected, inspect } from "./finding.ts";
import { ALL_ONES, isZero } from "./integers.ts";

/** What does not have to be looked at on each append: the detail page of an owner slot. */
export interface OwnerSlot {
  readonly slot: number;
  /** Of the claim it belongs to. */
  readonly epoch: number;
  readonly nodeId: string;
  /** Of the host when it claimed: a successor may reclaim the reservations of an older boot. */
  readonly bootId: string;
  /** Index of the filler entry this epoch began with; undefined before it is appended. */
  readonly fillerIndex: number | undefined;
  readonly reserved: readonly Extent[];
}

export const SLOT_PAGE_SIZE = SlotPageStruct.size;

/** Where the page of `slot` is, from the start of the region. */
export function slotPageOffset(slot: number): number {
  return SLOT_PAGES_OFFSET + slot * SLOT_PAGE_SIZE;
}

/** INVALID_ARGUMENT with more ranges than fit: `coverRanges` first. */
export function encodeOwnerSlot(slot: OwnerSlot): Uint8Array {
  if (slot.reserved.length > MAX_RESERVED_RANGES) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `owner slot ${slot.slot}: ${slot.reserved.length} reserved ranges, room for ${MAX_RESERVED_RANGES}`,
    );
  }
  const ranges = new Uint8Array(slot.reserved.length * ReservedRangeStruct.size);
  slot.reserved.forEach((range, position) => {
    ReservedRangeStruct.encode(
      { rr_offset: range.offset, rr_length: range.length },
      ranges,
      position * ReservedRangeStruct.size,
    );
  });
  const bytes = SlotPageStruct.encode({
    sp_magic: SLOT_PAGE_MAGIC,
    sp_slot: slot.slot,
    sp_count: slot.reserved.length,
    sp_epoch: slot.epoch,
    sp_filler_index: slot.fillerIndex === undefined ? ALL_ONES : BigInt(slot.fillerIndex),
    sp_boot_id: Buffer.from(slot.bootId, "utf8").toString("latin1"),
    sp_node_id: Buffer.from(slot.nodeId, "utf8").toString("latin1"),
    sp_ranges: ranges,
    sp_crc: 0n,
  });
  sealCrc(bytes, 0, SlotPageStruct.offsets.sp_crc);
  return bytes;
}

/** The page at `base`; all zero is a slot that nobody used yet: no value, no finding. */
export function inspectOwnerSlot(bytes: Uint8Array, base: number, slot: number): Inspected<OwnerSlot> {
  const refuse = (message: string): Inspected<OwnerSlot> => ({
    value: undefined,
    findings: [{ code: "OWNER_SLOT_CORRUPT", offset: base, message: `owner slot ${slot}: ${message}` }],
  });
  if (!(base >= 0 && base + SLOT_PAGE_SIZE <= bytes.byteLength)) return refuse("cut off");
  if (isZero(bytes, base, SLOT_PAGE_SIZE)) return { value: undefined, findings: [] };
  if (!crcHolds(bytes, base, SlotPageStruct.offsets.sp_crc)) return refuse("wrong crc");
  const decoded = inspect("OWNER_SLOT_CORRUPT", base, () => SlotPageStruct.decode(bytes, base));
  const raw = decoded.value;
  if (raw === undefined) return { value: undefined, findings: decoded.findings };
  if (raw.sp_magic !== SLOT_PAGE_MAGIC) return refuse("wrong magic");
  if (raw.sp_slot !== slot) return refuse(`says slot ${raw.sp_slot}`);
  if (raw.sp_count > MAX_RESERVED_RANGES) {
    return refuse(`${raw.sp_count} reserved ranges, room for ${MAX_RESERVED_RANGES}`);
  }
  return inspect("OWNER_SLOT_CORRUPT", base, () => {
    const reserved: Extent[] = [];
    for (let position = 0; position < raw.sp_count; position++) {
      const range = ReservedRangeStruct.decode(raw.sp_ranges, position * ReservedRangeStruct.size);
      reserved.push({ offset: range.rr_offset, length: range.rr_length });
    }
    return {
      slot,
      epoch: raw.sp_epoch,
      nodeId: Buffer.from(raw.sp_node_id, "latin1").toString("utf8"),
      bootId: Buffer.from(raw.sp_boot_id, "latin1").toString("utf8"),
      fillerIndex: raw.sp_filler_index > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : Number(raw.sp_filler_index),
      reserved,
    };
  });
}

/**
 * At most `limit` ranges that cover all of `ranges`: sorted, touching ones merged, then the smallest gaps filled.
 * What lies in a gap is withheld from a successor for a while, never lost.
 */
export function coverRanges(ranges: readonly Extent[], limit: number = MAX_RESERVED_RANGES): Extent[] {
  const merged: { offset: number; end: number }[] = [];
  for (const range of [...ranges].sort((a, b) => a.offset - b.offset)) {
    const last = merged.at(-1);
    const end = range.offset + range.length;
    if (last !== undefined && range.offset <= last.end) last.end = Math.max(last.end, end);
    else merged.push({ offset: range.offset, end });
  }
  const gaps = merged.slice(1).map((range, position) => range.offset - (merged[position]?.end ?? 0));
  const filled = new Set(
    gaps
      .map((gap, position) => ({ gap, position }))
      .sort((a, b) => a.gap - b.gap)
      .slice(0, Math.max(0, merged.length - limit))
      .map(({ position }) => position + 1),
  );
  const covering: { offset: number; end: number }[] = [];
  merged.forEach((range, position) => {
    const last = covering.at(-1);
    if (last !== undefined && filled.has(position)) last.end = range.end;
    else covering.push({ ...range });
  });
  return covering.map(({ offset, end }) => ({ offset, length: end - offset }));
}
