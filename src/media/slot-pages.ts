import {
  DETAIL_PAGE_SIZE,
  detailOffset,
  encodeOwnerDetail,
  encodeOwnerSlot,
  type Inspected,
  inspectOwnerDetail,
  inspectOwnerSlot,
  MAX_DETAIL_RANGES,
  MAX_RESERVED_RANGES,
  type OwnerDetail,
  SLOT_PAGE_SIZE,
  slotPageOffset,
  type VolumeRecord,
  WRITER_SLOTS,
} from "../format/index.ts";

/** Where the detail pages of a volume are, and how they are written. */
export interface SlotPages {
  /** Slots that have one: those of nodes that may write. */
  readonly count: number;
  readonly size: number;
  /** Reserved ranges that one has room for. */
  readonly ranges: number;
  offset(slot: number): number;
  encode(page: OwnerDetail): Uint8Array;
  inspect(bytes: Uint8Array, slot: number): Inspected<OwnerDetail>;
}

export function pagesOf({ layout, slots }: VolumeRecord): SlotPages {
  return layout === 2 ? LAYOUT_2 : { ...LAYOUT_1, count: slots };
}

const LAYOUT_2: SlotPages = {
  count: WRITER_SLOTS,
  size: DETAIL_PAGE_SIZE,
  ranges: MAX_DETAIL_RANGES,
  offset: detailOffset,
  encode: encodeOwnerDetail,
  inspect: (bytes, slot) => inspectOwnerDetail(bytes, 0, slot),
};

const LAYOUT_1: Omit<SlotPages, "count"> = {
  size: SLOT_PAGE_SIZE,
  ranges: MAX_RESERVED_RANGES,
  offset: slotPageOffset,
  encode: encodeOwnerSlot,
  inspect(bytes, slot) {
    const { value, findings } = inspectOwnerSlot(bytes, 0, slot);
    return { value: value && { ...value, order: 0, nodeUid: "", held: [], struck: [] }, findings };
  },
};
