import { Struct } from "../base/index.ts";
import { Checked } from "./checked.ts";
import type { Inspected } from "./finding.ts";

/** What the node of a slot says to the others about turns at the log. Only that node ever writes its line. */
export interface Ask {
  readonly slot: number;
  /** Grows with each word that the node says, so that no bell of it ever rings twice alike. */
  readonly number: number;
  /** Place in the queue: the lowest one comes next, then the lowest slot. 0: it waits for nothing. */
  readonly ticket: number;
}

/** An ask line without its last words, which the thread that watches the bell stores by itself. */
export const AskStruct = new Struct("famfs_x_ask", 48, {
  al_magic: { at: 0, type: "u32", show: "hex" },
  al_slot: { at: 4, type: "u32" },
  al_number: { at: 8, type: "size" },
  al_ticket: { at: 16, type: "size" },
  al_reserved: { at: 24, type: "pad", length: 16 },
  al_crc: { at: 40, type: "u64", show: "hex" }, // of bytes [0, 40)
});
export const ASK_MAGIC = 0x316b7361; // "ask1"
export const ASK_LINE_SIZE = 64;
/** From the start of the line, behind its CRC: the bell that this node heard last, as it was. */
export const HEARD_OFFSET = 48;

const askLine = new Checked({
  what: "ask line",
  code: "OWNER_CLAIM_CORRUPT",
  struct: AskStruct,
  magic: { al_magic: ASK_MAGIC },
  crc: "al_crc",
  absent: "other magic",
});

/** The line up to its CRC. */
export function encodeAsk({ slot, number, ticket }: Ask): Uint8Array {
  return askLine.encode({ al_slot: slot, al_number: number, al_ticket: ticket });
}

/** The line at `base`; without its magic, of a node that never asked: no value, no finding. */
export function inspectAsk(bytes: Uint8Array, base: number, slot: number): Inspected<Ask> {
  const { value: raw, findings } = askLine.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  if (raw.al_slot !== slot) return askLine.refuse(base, `of slot ${slot} says slot ${raw.al_slot}`);
  if (raw.al_number > LARGEST || raw.al_ticket > LARGEST) {
    return askLine.refuse(
      base,
      `number ${raw.al_number}, ticket ${raw.al_ticket}: nobody asked more than ${LARGEST} times`,
    );
  }
  return { value: { slot, number: raw.al_number, ticket: raw.al_ticket }, findings: [] };
}

/** So that the next one is still a number, and fits a bell. */
const LARGEST = 2 ** 47;

/** Slots that a bell can name. */
const BELL_SLOTS = 65_536n;

/**
 * The bell line's only word: anybody stores it, after each word that it says in its own line. Its value only says that
 * somebody spoke: the number and the slot make it another one each time.
 */
export function encodeBell({ slot, number }: Pick<Ask, "slot" | "number">): bigint {
  return BigInt.asUintN(64, BigInt(number) * BELL_SLOTS + BigInt(slot));
}
