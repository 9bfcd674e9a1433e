import type { Ballot } from "./ballot.ts";
import { encodeChange, type InPlaceChange, inspectChange, type RingReading } from "./change-ring.ts";
import { Checked } from "./checked.ts";
import { OWNER_RING_MAGIC, OwnerRingStruct } from "./extension-structs.ts";
import type { Inspected } from "./finding.ts";
import { LINE, OWNER_RING_CHANGES, OWNER_RING_SIZE, ownerRingOffset } from "./owner-layout.ts";

/*
 * The ring of changes in place that an owner keeps in its own page. Numbers go on from owner to owner: a successor that
 * begins clean takes the changes that its predecessor's ring still has over into its own, so that readers that come
 * late miss none.
 */

const checked = new Checked({
  what: "ring of changes",
  code: "OWNER_SLOT_CORRUPT",
  struct: OwnerRingStruct,
  magic: { or_magic: OWNER_RING_MAGIC },
  crc: "or_crc",
  absent: "zeros",
});

/** Where the number of the next change of `slot` is, from the start of the region. */
export function ownerRingCounterOffset(slot: number): number {
  return ownerRingOffset(slot) + OwnerRingStruct.offsets.or_next;
}

/** Where change `sequence` of the ring of `slot` is, from the start of the region. */
export function ownerChangeOffset(slot: number, sequence: number): number {
  return ownerRingOffset(slot) + lineOf(sequence);
}

function lineOf(sequence: number): number {
  return LINE * (1 + (sequence % OWNER_RING_CHANGES));
}

/** The ring that a term begins with: `next` is the number of its first change, `changes` are former ones. */
export function encodeOwnerRing(ballot: Ballot, next: number, changes: readonly InPlaceChange[]): Uint8Array {
  const bytes = new Uint8Array(OWNER_RING_SIZE);
  const { order: or_order, round: or_round, slot: or_slot } = ballot;
  checked.encode({ or_slot, or_changes: OWNER_RING_CHANGES, or_order, or_round, or_next: 0 }, bytes);
  new DataView(bytes.buffer).setBigUint64(OwnerRingStruct.offsets.or_next, BigInt(next), true);
  for (const change of changes) bytes.set(encodeChange(change), lineOf(change.sequence));
  return bytes;
}

/** The header of the ring of `slot`. */
export function inspectOwnerRing(
  bytes: Uint8Array,
  base: number,
  slot: number,
): Inspected<{ readonly ballot: Ballot; readonly next: number }> {
  const { value: raw, findings } = checked.inspect(bytes, base);
  if (raw === undefined) return { value: undefined, findings };
  if (raw.or_slot !== slot) return checked.refuse(base, `of slot ${slot} says slot ${raw.or_slot}`);
  if (raw.or_changes !== OWNER_RING_CHANGES) {
    return checked.refuse(base, `${raw.or_changes} changes, expected ${OWNER_RING_CHANGES}`);
  }
  return {
    value: { ballot: { order: raw.or_order, round: raw.or_round, slot }, next: raw.or_next },
    findings: [],
  };
}

/** What changed since a reader had seen `seen` changes; undefined: as many as the ring still has. */
export function readOwnerRing(bytes: Uint8Array, slot: number, seen: number | undefined): RingReading {
  const { value: header } = inspectOwnerRing(bytes, 0, slot);
  if (header === undefined) return { type: "overflow", next: seen ?? 0 };
  const { next } = header;
  const from = seen ?? Math.max(0, next - OWNER_RING_CHANGES);
  if (next < from || next - from > OWNER_RING_CHANGES) return { type: "overflow", next };
  const changes: InPlaceChange[] = [];
  for (let sequence = from; sequence < next; sequence++) {
    const change = inspectChange(bytes, lineOf(sequence), sequence);
    if (change !== undefined) changes.push(change);
    else if (seen !== undefined) return { type: "overflow", next };
  }
  return { type: "changes", next, changes };
}
