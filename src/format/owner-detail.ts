import { type Extent, FamfsError } from "../base/index.ts";
import type { Ballot } from "./ballot.ts";
import { Checked } from "./checked.ts";
import {
  DAMAGE_LINE_MAGIC,
  DamageLineStruct,
  DETAIL_PAGE_MAGIC,
  DetailPageStruct,
  MAX_DETAIL_RANGES,
  MAX_HELD,
  MAX_STRUCK,
  ReservedRangeStruct,
  SIZE_CELL_MAGIC,
  SizeCellStruct,
} from "./extension-structs.ts";
import { type Inspected, inspect } from "./finding.ts";
import { ALL_ONES } from "./integers.ts";
import type { Time } from "./log-entry.ts";
import type { OwnerSlot } from "./owner-slot.ts";

/** The detail page of a slot of layout 2. */
export interface OwnerDetail extends OwnerSlot {
  readonly order: number;
  /** Of the node object in the cluster: a node that is made anew under an old name has another one. */
  readonly nodeUid: string;
  /** Log indexes of removed files that the node still holds. */
  readonly held: readonly number[];
  /** Incarnations that the store has struck: 16 hex digits each, `incarnationHash`. */
  readonly struck: readonly string[];
}

/** The size of a file inside extents that the log gave it, said outside the log. */
export interface SizeCell {
  readonly ballot: Ballot;
  /** Index of the file's entry. */
  readonly file: number;
  readonly size: number;
  readonly mtime: Time;
  /** Grows with each store of the cell; the lower bit says which of its two lines it is. */
  readonly sequence: number;
}

/** Bytes of a file that a write of a former owner may have reached after it had lost the log. */
export interface Damage {
  readonly ballot: Ballot;
  /** From 1; entry n is in line n mod DAMAGE_LINES of the slot. */
  readonly sequence: number;
  /** Index of the file's entry. */
  readonly file: number;
  readonly offset: number;
  readonly length: number;
}

const pages = new Checked({
  what: "detail page",
  code: "OWNER_SLOT_CORRUPT",
  struct: DetailPageStruct,
  magic: { dp_magic: DETAIL_PAGE_MAGIC },
  crc: "dp_crc",
  absent: "zeros",
});

const cells = new Checked({
  what: "size cell",
  code: "OWNER_SLOT_CORRUPT",
  struct: SizeCellStruct,
  magic: { sc_magic: SIZE_CELL_MAGIC },
  crc: "sc_crc",
  absent: "zeros",
});

const damages = new Checked({
  what: "damage line",
  code: "OWNER_SLOT_CORRUPT",
  struct: DamageLineStruct,
  magic: { dm_magic: DAMAGE_LINE_MAGIC },
  crc: "dm_crc",
  absent: "zeros",
});

/** INVALID_ARGUMENT with more ranges, files or incarnations than fit. */
export function encodeOwnerDetail(detail: OwnerDetail): Uint8Array {
  const { slot, reserved, held, struck } = detail;
  for (const [what, count, most] of [
    ["reserved ranges", reserved.length, MAX_DETAIL_RANGES],
    ["held files", held.length, MAX_HELD],
    ["struck incarnations", struck.length, MAX_STRUCK],
  ] as const) {
    if (count > most)
      throw new FamfsError("INVALID_ARGUMENT", `owner slot ${slot}: ${count} ${what}, room for ${most}`);
  }
  const ranges = new Uint8Array(reserved.length * ReservedRangeStruct.size);
  for (const [position, { offset, length }] of reserved.entries()) {
    ReservedRangeStruct.encode({ rr_offset: offset, rr_length: length }, ranges, position * ReservedRangeStruct.size);
  }
  return pages.encode({
    dp_slot: slot,
    dp_range_count: reserved.length,
    dp_order: detail.order,
    dp_round: detail.epoch,
    dp_filler_index: detail.fillerIndex === undefined ? ALL_ONES : BigInt(detail.fillerIndex),
    dp_held_count: held.length,
    dp_struck_count: struck.length,
    dp_boot_id: latin1(detail.bootId),
    dp_node_uid: latin1(detail.nodeUid),
    dp_node_id: latin1(detail.nodeId),
    dp_ranges: ranges,
    dp_held: new Uint8Array(BigUint64Array.from(held, BigInt).buffer),
    dp_struck: Buffer.from(struck.join(""), "hex"),
  });
}

/** The page of `slot` at `base`; all zero: no value, no finding. */
export function inspectOwnerDetail(bytes: Uint8Array, base: number, slot: number): Inspected<OwnerDetail> {
  const { value: raw, findings } = pages.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  if (raw.dp_slot !== slot) return pages.refuse(base, `of slot ${slot} says slot ${raw.dp_slot}`);
  const { dp_range_count: ranges, dp_held_count: held, dp_struck_count: struck } = raw;
  if (ranges > MAX_DETAIL_RANGES || held > MAX_HELD || struck > MAX_STRUCK) {
    return pages.refuse(
      base,
      `of slot ${slot} counts ${ranges} ranges, ${held} held files and ${struck} struck incarnations; ` +
        `room for ${MAX_DETAIL_RANGES}, ${MAX_HELD} and ${MAX_STRUCK}`,
    );
  }
  return inspect("OWNER_SLOT_CORRUPT", base, () => ({
    slot,
    order: raw.dp_order,
    epoch: raw.dp_round,
    nodeId: utf8(raw.dp_node_id),
    nodeUid: utf8(raw.dp_node_uid),
    bootId: utf8(raw.dp_boot_id),
    fillerIndex: raw.dp_filler_index > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : Number(raw.dp_filler_index),
    reserved: Array.from({ length: ranges }, (_, at) => rangeAt(raw.dp_ranges, at)),
    held: Array.from({ length: held }, (_, at) => safe(Buffer.from(raw.dp_held).readBigUInt64LE(8 * at))),
    struck: Array.from({ length: struck }, (_, at) =>
      Buffer.from(raw.dp_struck.subarray(8 * at, 8 * at + 8)).toString("hex"),
    ),
  }));
}

export function encodeSizeCell({ ballot, file, size, mtime, sequence }: SizeCell): Uint8Array {
  return cells.encode({
    sc_slot: ballot.slot,
    sc_order: ballot.order,
    sc_round: ballot.round,
    sc_file: file,
    sc_size: size,
    sc_mtime_sec: mtime.seconds,
    sc_mtime_nsec: mtime.nanoseconds,
    sc_sequence: sequence,
  });
}

/** The cell of `slot` at `base`; all zero: no value, no finding. */
export function inspectSizeCell(bytes: Uint8Array, base: number, slot: number): Inspected<SizeCell> {
  const { value: raw, findings } = cells.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  if (raw.sc_slot !== slot) return cells.refuse(base, `of slot ${slot} says slot ${raw.sc_slot}`);
  return {
    value: {
      ballot: { order: raw.sc_order, round: raw.sc_round, slot },
      file: raw.sc_file,
      size: raw.sc_size,
      mtime: { seconds: raw.sc_mtime_sec, nanoseconds: raw.sc_mtime_nsec % 1_000_000_000 },
      sequence: raw.sc_sequence,
    },
    findings: [],
  };
}

export function encodeDamage({ ballot, sequence, file, offset, length }: Damage): Uint8Array {
  return damages.encode({
    dm_slot: ballot.slot,
    dm_order: ballot.order,
    dm_round: ballot.round,
    dm_file: file,
    dm_offset: offset,
    dm_length: length,
    dm_sequence: sequence,
  });
}

/** The damage line of `slot` at `base`; all zero: no value, no finding. */
export function inspectDamage(bytes: Uint8Array, base: number, slot: number): Inspected<Damage> {
  const { value: raw, findings } = damages.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  if (raw.dm_slot !== slot) return damages.refuse(base, `of slot ${slot} says slot ${raw.dm_slot}`);
  return {
    value: {
      ballot: { order: raw.dm_order, round: raw.dm_round, slot },
      sequence: raw.dm_sequence,
      file: raw.dm_file,
      offset: raw.dm_offset,
      length: raw.dm_length,
    },
    findings: [],
  };
}

function rangeAt(ranges: Uint8Array, position: number): Extent {
  const { rr_offset, rr_length } = ReservedRangeStruct.decode(ranges, position * ReservedRangeStruct.size);
  return { offset: rr_offset, length: rr_length };
}

function safe(value: bigint): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  throw new FamfsError("OUT_OF_RANGE", `log index ${value}: no log has that many entries`);
}

const latin1 = (text: string) => Buffer.from(text, "utf8").toString("latin1");
const utf8 = (text: string) => Buffer.from(text, "latin1").toString("utf8");
