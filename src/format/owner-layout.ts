/*
 * Layout 2 of what an extended volume keeps in the first 2 MiB of its region, from byte 0x2000 on. Every word has one
 * writer, the node that its slot was given to, but for the two doorbells. docs/format-extensions.md has it for people.
 *
 *   8 KiB      identity line, guard line, bell line: a look compares the first two
 *   16 KiB     claim lines, one per slot
 *   48 KiB     place lines, two per slot, written by turns
 *   112 KiB    ask lines, one per slot
 *   144 KiB    acknowledgement lines, one per slot
 *   256 KiB    of each slot that may write: its detail page (4 KiB) and its ring of changes (6 KiB)
 *   1536 KiB   repair copies, as in layout 1
 *   1600 KiB   of each slot that may write: size cells (2 KiB), damage lines (1 KiB), 512 bytes for later
 */

/** Slots of a volume of layout 2: nodes that can have it at the same time. */
export const OWNER_SLOTS = 512;
/** The first slots have a detail page: nodes that may write are given one of these. */
export const WRITER_SLOTS = 128;

export const LINE = 64;

const IDENTITY_OFFSET = 0x2000;
/** The nonce of the last claim: written by each taker, never by a holder. */
export const guardOffset = IDENTITY_OFFSET + LINE;
/** Number and slot of the last ask: written by each waiter. */
export const bellOffset = guardOffset + LINE;

export const CLAIM_LINES_OFFSET = 0x4000;
export const CLAIM_LINES_LENGTH = OWNER_SLOTS * LINE;
export const PLACE_LINES_OFFSET = CLAIM_LINES_OFFSET + CLAIM_LINES_LENGTH;
export const PLACE_LINES_LENGTH = 2 * OWNER_SLOTS * LINE;
export const ASK_LINES_OFFSET = PLACE_LINES_OFFSET + PLACE_LINES_LENGTH;
export const ACK_LINES_OFFSET = ASK_LINES_OFFSET + OWNER_SLOTS * LINE;

const DETAIL_PAGES_OFFSET = 0x40000;
export const DETAIL_PAGE_SIZE = 4096;
/** Changes that the ring of one owner holds. */
export const OWNER_RING_CHANGES = 95;
export const OWNER_RING_SIZE = (1 + OWNER_RING_CHANGES) * LINE;
const DETAIL_STRIDE = DETAIL_PAGE_SIZE + OWNER_RING_SIZE;

const CELLS_OFFSET = 0x190000;
const CELLS_STRIDE = 3584;
/** Files whose size a node can say outside the log at the same time: two lines each, by turns. */
export const SIZE_CELLS = 16;
export const DAMAGE_LINES = 16;

export function claimLineOffset(slot: number): number {
  return CLAIM_LINES_OFFSET + slot * LINE;
}

/** `turn`: 0 or 1. */
export function placeOffset(slot: number, turn: number): number {
  return PLACE_LINES_OFFSET + (2 * slot + turn) * LINE;
}

export function askOffset(slot: number): number {
  return ASK_LINES_OFFSET + slot * LINE;
}

export function ackOffset(slot: number): number {
  return ACK_LINES_OFFSET + slot * LINE;
}

/** Of a slot below WRITER_SLOTS, as all that follow. */
export function detailOffset(slot: number): number {
  return DETAIL_PAGES_OFFSET + slot * DETAIL_STRIDE;
}

/** Where the ring of changes of `slot` begins: its header, then OWNER_RING_CHANGES lines. */
export function ownerRingOffset(slot: number): number {
  return detailOffset(slot) + DETAIL_PAGE_SIZE;
}

/** `turn`: 0 or 1. */
export function sizeCellOffset(slot: number, cell: number, turn: number): number {
  return CELLS_OFFSET + slot * CELLS_STRIDE + (2 * cell + turn) * LINE;
}

export function damageOffset(slot: number, line: number): number {
  return CELLS_OFFSET + slot * CELLS_STRIDE + (2 * SIZE_CELLS + line) * LINE;
}
