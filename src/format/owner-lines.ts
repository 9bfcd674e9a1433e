import { createHash } from "node:crypto";
import { type Ballot, highest } from "./ballot.ts";
import { Checked } from "./checked.ts";
import {
  ACK_LINE_MAGIC,
  AckLineStruct,
  CLAIM_LINE_MAGIC,
  ClaimFlag,
  ClaimLineStruct,
  PLACE_LINE_MAGIC,
  PlaceLineStruct,
} from "./extension-structs.ts";
import type { Finding, Inspected } from "./finding.ts";
import { ALL_ONES } from "./integers.ts";
import {
  CLAIM_LINES_LENGTH,
  CLAIM_LINES_OFFSET,
  LINE,
  OWNER_SLOTS,
  PLACE_LINES_LENGTH,
  PLACE_LINES_OFFSET,
} from "./owner-layout.ts";

/*
 * The lines of layout 2 that each node writes for the others: claim, places of the log, acknowledgement
 * (docs/format-extensions.md). A line is 64 bytes at a multiple of 64, so that a cache writes it back whole.
 */

/** Whose turn it is next, as the holder says that gives the log up: politeness, not a right. */
export interface Successor {
  readonly slot: number;
  /** Number of the ask that it answers. */
  readonly ask: number;
}

/** What the node of a slot says about its ownership of the log. Only that node ever writes it. */
export interface Claim {
  readonly ballot: Ballot;
  /** 32 hex digits, new with each claim: what the guard line says after it. */
  readonly nonce: string;
  /** The node gave the log up; it appends nothing more under this ballot. */
  readonly released: boolean;
  readonly successor?: Successor | undefined;
}

/** Where the log of an owner is, written when its term is ready; also whose ring of changes and size cells count. */
export interface PlaceLine {
  readonly ballot: Ballot;
  /** Grows with each place line of the slot; the lower bit says which of the two lines it is. */
  readonly sequence: number;
  /** Where the log begins, in units of 2 MiB of the region. */
  readonly logUnit: number;
  /** Grows with each log that takes the place of another one. */
  readonly logGeneration: number;
  /** Round and slot of the last term that began unclean: another one means that all contents are doubtful. */
  readonly doubt: { readonly round: number; readonly slot: number };
}

/** What a node that has the volume says that it has applied (docs/format-extensions.md, "Acknowledgements"). */
export interface AckLine {
  readonly slot: number;
  /** 16 hex digits: `incarnationHash`. */
  readonly incarnation: string;
  readonly state: "joining" | "staged" | "gone";
  /** Under which owner's ballot, and how many entries of its log. */
  readonly ballot: Ballot;
  readonly position: number;
  /** It holds every removed file from this log index on; undefined: none but those that its page lists. */
  readonly holdFloor: number | undefined;
}

const STATES = ["joining", "staged", "gone"] as const;
const ACK_VERSION = 1;
const NO_SLOT = 0xffffffff;

const claims = new Checked({
  what: "owner claim",
  code: "OWNER_CLAIM_CORRUPT",
  struct: ClaimLineStruct,
  magic: { cl_magic: CLAIM_LINE_MAGIC },
  crc: "cl_crc",
  absent: "zeros",
});

const places = new Checked({
  what: "place line",
  code: "OWNER_CLAIM_CORRUPT",
  struct: PlaceLineStruct,
  magic: { pl_magic: PLACE_LINE_MAGIC },
  crc: "pl_crc",
  absent: "zeros",
});

const acks = new Checked({
  what: "acknowledgement line",
  code: "OWNER_SLOT_CORRUPT",
  struct: AckLineStruct,
  magic: { ak_magic: ACK_LINE_MAGIC },
  crc: "ak_crc",
  absent: "zeros",
});

/** First 8 bytes of the SHA-256 of the node's UID, a zero byte, and the boot id of its host. */
export function incarnationHash(nodeUid: string, bootId: string): string {
  return createHash("sha256").update(`${nodeUid}\0${bootId}`, "utf8").digest("hex").slice(0, 16);
}

export function encodeClaimLine({ ballot, nonce, released, successor }: Claim): Uint8Array {
  return claims.encode({
    cl_slot: ballot.slot,
    cl_order: ballot.order,
    cl_round: ballot.round,
    cl_nonce: Buffer.from(nonce, "hex"),
    cl_flags: released ? ClaimFlag.RELEASED : 0,
    cl_successor: successor?.slot ?? NO_SLOT,
    cl_ask: successor?.ask ?? 0,
  });
}

/** The claim of `slot` at `base`; all zero: no value, no finding. */
export function inspectClaimLine(bytes: Uint8Array, base: number, slot: number): Inspected<Claim> {
  const { value: raw, findings } = claims.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  if (raw.cl_slot !== slot) return claims.refuse(base, `of slot ${slot} says slot ${raw.cl_slot}`);
  if (raw.cl_successor !== NO_SLOT && raw.cl_successor >= OWNER_SLOTS) {
    return claims.refuse(base, `of slot ${slot} names slot ${raw.cl_successor}, there are ${OWNER_SLOTS}`);
  }
  return {
    value: {
      ballot: { order: raw.cl_order, round: raw.cl_round, slot },
      nonce: Buffer.from(raw.cl_nonce).toString("hex"),
      released: (raw.cl_flags & ClaimFlag.RELEASED) !== 0,
      successor: raw.cl_successor === NO_SLOT ? undefined : { slot: raw.cl_successor, ask: raw.cl_ask },
    },
    findings: [],
  };
}

export function encodePlaceLine({ ballot, sequence, logUnit, logGeneration, doubt }: PlaceLine): Uint8Array {
  return places.encode({
    pl_slot: ballot.slot,
    pl_order: ballot.order,
    pl_round: ballot.round,
    pl_sequence: sequence,
    pl_log_unit: logUnit,
    pl_doubt_slot: doubt.slot,
    pl_log_generation: logGeneration,
    pl_doubt_round: doubt.round,
  });
}

/** The place line of `slot` at `base`; all zero: no value, no finding. */
export function inspectPlaceLine(bytes: Uint8Array, base: number, slot: number): Inspected<PlaceLine> {
  const { value: raw, findings } = places.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  if (raw.pl_slot !== slot) return places.refuse(base, `of slot ${slot} says slot ${raw.pl_slot}`);
  return {
    value: {
      ballot: { order: raw.pl_order, round: raw.pl_round, slot },
      sequence: raw.pl_sequence,
      logUnit: raw.pl_log_unit,
      logGeneration: raw.pl_log_generation,
      doubt: { round: raw.pl_doubt_round, slot: raw.pl_doubt_slot },
    },
    findings: [],
  };
}

export function encodeAckLine(ack: AckLine): Uint8Array {
  return acks.encode({
    ak_slot: ack.slot,
    ak_incarnation: Buffer.from(ack.incarnation, "hex"),
    ak_state: STATES.indexOf(ack.state),
    ak_version: ACK_VERSION,
    ak_ballot_slot: ack.ballot.slot,
    ak_ballot_order: ack.ballot.order,
    ak_ballot_round: ack.ballot.round,
    ak_position: ack.position,
    ak_hold_floor: ack.holdFloor === undefined ? ALL_ONES : BigInt(ack.holdFloor),
  });
}

/** The acknowledgement of `slot` at `base`; all zero: no value, no finding. */
export function inspectAckLine(bytes: Uint8Array, base: number, slot: number): Inspected<AckLine> {
  const { value: raw, findings } = acks.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  if (raw.ak_slot !== slot) return acks.refuse(base, `of slot ${slot} says slot ${raw.ak_slot}`);
  if (raw.ak_version !== ACK_VERSION) {
    return acks.refuse(base, `of slot ${slot} has version ${raw.ak_version}, this program reads ${ACK_VERSION}`);
  }
  const state = STATES[raw.ak_state];
  if (state === undefined) return acks.refuse(base, `of slot ${slot} has state ${raw.ak_state}, known are 0 to 2`);
  const floor = raw.ak_hold_floor;
  if (floor !== ALL_ONES && floor > BigInt(Number.MAX_SAFE_INTEGER)) {
    return acks.refuse(base, `of slot ${slot} holds from log entry ${floor} on, which no log has`);
  }
  return {
    value: {
      slot,
      incarnation: Buffer.from(raw.ak_incarnation).toString("hex"),
      state,
      ballot: { order: raw.ak_ballot_order, round: raw.ak_ballot_round, slot: raw.ak_ballot_slot },
      position: raw.ak_position,
      holdFloor: floor === ALL_ONES ? undefined : Number(floor),
    },
    findings: [],
  };
}

export interface Claims<Line = Claim> {
  /** In order of slot. */
  readonly claims: readonly Line[];
  readonly findings: readonly Finding[];
}

const NO_CHUNK = new Uint8Array(16 * LINE);

/** The lines in `bytes`, `perSlot` of each slot; what was never written is passed over in pieces. */
function inspectLines<Line>(
  bytes: Uint8Array,
  perSlot: number,
  inspect: (bytes: Uint8Array, base: number, slot: number) => Inspected<Line>,
): { readonly lines: Line[]; readonly findings: Finding[] } {
  const lines: Line[] = [];
  const findings: Finding[] = [];
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let chunk = 0; chunk < all.byteLength; chunk += NO_CHUNK.byteLength) {
    const end = Math.min(chunk + NO_CHUNK.byteLength, all.byteLength);
    if (all.compare(NO_CHUNK, 0, end - chunk, chunk, end) === 0) continue;
    for (let base = chunk; base + LINE <= end; base += LINE) {
      const found = inspect(bytes, base, Math.floor(base / LINE / perSlot));
      if (found.value !== undefined) lines.push(found.value);
      findings.push(...found.findings);
    }
  }
  return { lines, findings };
}

/** All claims: `bytes` is a copy of the claim lines. */
export function inspectClaimLines(bytes: Uint8Array): Claims {
  const { lines, findings } = inspectLines(bytes, 1, inspectClaimLine);
  return { claims: lines, findings: findings.map((finding) => moved(finding, CLAIM_LINES_OFFSET)) };
}

/** The highest place line; of two of one ballot the later one. A line that cannot be read counts as not there. */
export function highestPlace(bytes: Uint8Array): PlaceLine | undefined {
  const { lines } = inspectLines(bytes, 2, inspectPlaceLine);
  return highest(
    lines.toSorted((a, b) => b.sequence - a.sequence),
    ({ ballot }) => ballot,
  );
}

/** What cannot be read among claims and places of an image of the region. */
export function inspectOwnerLines(image: Uint8Array): readonly Finding[] {
  const area = (offset: number, length: number) => image.subarray(offset, offset + length);
  const found = inspectLines(area(PLACE_LINES_OFFSET, PLACE_LINES_LENGTH), 2, inspectPlaceLine);
  return [
    ...inspectClaimLines(area(CLAIM_LINES_OFFSET, CLAIM_LINES_LENGTH)).findings,
    ...found.findings.map((finding) => moved(finding, PLACE_LINES_OFFSET)),
  ];
}

function moved(finding: Finding, by: number): Finding {
  return { ...finding, offset: (finding.offset ?? 0) + by };
}
