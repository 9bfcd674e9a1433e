import { crcHolds, sealCrc } from "./crc.ts";
import {
  CHANGE_RING_MAGIC,
  CHANGE_RING_OFFSET,
  CHANGE_RING_SLOTS,
  ChangeRingStruct,
  ChangeStruct,
  EXTENSION_VERSION,
} from "./extension-structs.ts";
import { inspect } from "./finding.ts";
import type { Time } from "./log-entry.ts";

/** A sealed file was written in place and closed or synced. Only the log owner writes changes. */
export interface InPlaceChange {
  /** Counts all changes ever; also says in which slot of the ring it is. */
  readonly sequence: number;
  readonly epoch: number;
  /** Index of the file's entry. */
  readonly file: number;
  /** Grows with each change of the file. */
  readonly generation: number;
  readonly mtime: Time;
}

/** The header's counter, from the start of the region: stored after the change it counts. */
export const CHANGE_COUNTER_OFFSET = CHANGE_RING_OFFSET + ChangeRingStruct.offsets.cr_next;

/** Where change `sequence` is written, from the start of the region. */
export function changeOffset(sequence: number): number {
  return CHANGE_RING_OFFSET + ChangeRingStruct.size + (sequence % CHANGE_RING_SLOTS) * ChangeStruct.size;
}

export function encodeChangeRingHeader(next = 0): Uint8Array {
  const bytes = ChangeRingStruct.encode({
    cr_magic: CHANGE_RING_MAGIC,
    cr_version: EXTENSION_VERSION,
    cr_slots: CHANGE_RING_SLOTS,
    cr_crc: 0n,
    cr_next: next,
  });
  sealCrc(bytes, 0, ChangeRingStruct.offsets.cr_crc);
  return bytes;
}

export function encodeChange(change: InPlaceChange): Uint8Array {
  const bytes = ChangeStruct.encode({
    ch_sequence: change.sequence,
    ch_epoch: change.epoch,
    ch_file: change.file,
    ch_generation: change.generation,
    ch_mtime_sec: change.mtime.seconds,
    ch_mtime_nsec: change.mtime.nanoseconds,
    ch_crc: 0n,
  });
  sealCrc(bytes, 0, ChangeStruct.offsets.ch_crc);
  return bytes;
}

export type RingReading =
  | { readonly type: "changes"; readonly next: number; readonly changes: readonly InPlaceChange[] }
  /** Changes were lost (overwritten, torn or unreadable): invalidate every file, go on from `next`. */
  | { readonly type: "overflow"; readonly next: number };

/**
 * What changed since a reader had seen `seen` changes. `ring` is a copy of the whole ring (CHANGE_RING_SIZE bytes).
 * A ring whose header is not one of ours holds nothing.
 */
export function readChangeRing(ring: Uint8Array, seen: number): RingReading {
  const { value: header } = inspect("OWNER_SLOT_CORRUPT", CHANGE_RING_OFFSET, () => ChangeRingStruct.decode(ring, 0));
  if (
    header === undefined ||
    header.cr_magic !== CHANGE_RING_MAGIC ||
    header.cr_slots !== CHANGE_RING_SLOTS ||
    !crcHolds(ring, 0, ChangeRingStruct.offsets.cr_crc)
  ) {
    return { type: "overflow", next: seen };
  }
  const next = header.cr_next;
  if (next < seen || next - seen > CHANGE_RING_SLOTS) return { type: "overflow", next };
  const changes: InPlaceChange[] = [];
  for (let sequence = seen; sequence < next; sequence++) {
    const change = inspectChange(ring, changeOffset(sequence) - CHANGE_RING_OFFSET, sequence);
    if (change === undefined) return { type: "overflow", next };
    changes.push(change);
  }
  return { type: "changes", next, changes };
}

/** The change at `at` when it is whole and number `sequence`. */
export function inspectChange(ring: Uint8Array, at: number, sequence: number): InPlaceChange | undefined {
  if (at + ChangeStruct.size > ring.byteLength || !crcHolds(ring, at, ChangeStruct.offsets.ch_crc)) return undefined;
  const { value: raw } = inspect("OWNER_SLOT_CORRUPT", at, () => ChangeStruct.decode(ring, at));
  if (raw === undefined || raw.ch_sequence !== sequence) return undefined;
  return {
    sequence,
    epoch: raw.ch_epoch,
    file: raw.ch_file,
    generation: raw.ch_generation,
    mtime: { seconds: raw.ch_mtime_sec, nanoseconds: raw.ch_mtime_nsec % 1_000_000_000 },
  };
}
