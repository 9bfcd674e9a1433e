import { ALLOC_UNIT } from "../../base/index.ts";
import {
  CHANGE_COUNTER_OFFSET,
  CHANGE_RING_SLOTS,
  CLAIM_LINES_LENGTH,
  CLAIM_LINES_OFFSET,
  type Claim,
  type Claims,
  changeOffset,
  claimLineOffset,
  claimOffset,
  ENTRY_SIZE,
  encodeClaim,
  encodeClaimLine,
  encodeEntries,
  encodeOwnerRing,
  encodePlaceLine,
  entryOffset,
  FILLER_RUN,
  GUARD_OFFSET,
  guardLength,
  guardOffset,
  highestPlace,
  inspectClaimLines,
  inspectGuardRange,
  inspectPlaceLine,
  LINE,
  LOG_COUNTERS_OFFSET,
  nodeIdHash,
  OWNER_RING_SIZE,
  ownerChangeOffset,
  ownerRingCounterOffset,
  ownerRingOffset,
  PLACE_LINES_LENGTH,
  PLACE_LINES_OFFSET,
  type PlaceLine,
  placeOffset,
  readOwnerRing,
  type VolumeRecord,
} from "../../format/index.ts";
import { durable64, type OwnedLog, type OwnerLines, type OwnerRing } from "./protocol.ts";
import { durable } from "./steps.ts";

/** Where the words of the ownership protocol are in a volume. `nodeId`: whose claims are encoded. */
export function wordsOf(
  volume: { readonly logOffset: number; readonly logSlots: number },
  record: VolumeRecord,
  nodeId: string,
): OwnedLog {
  const { logOffset, logSlots } = volume;
  return {
    name: record.name,
    identity: record,
    guardAt: GUARD_OFFSET,
    countersAt: logOffset + LOG_COUNTERS_OFFSET,
    entryAt: (index) => logOffset + entryOffset(index),
    entries: logSlots,
    entrySize: ENTRY_SIZE,
    run: FILLER_RUN,
    encode: encodeEntries,
    ...(record.layout === 2 ? layout2(logOffset) : layout1(record.slots, nodeId)),
  };
}

type OfLayout = Pick<OwnedLog, "guardLength" | "claims" | "lines" | "ring">;

function layout2(logOffset: number): OfLayout {
  return {
    guardLength: 2 * LINE,
    claims: {
      at: CLAIM_LINES_OFFSET,
      length: CLAIM_LINES_LENGTH,
      inspect: inspectClaimLines,
      ofSlot: claimLineOffset,
      encode: encodeClaimLine,
    },
    lines: ownerLines({
      guardLineAt: guardOffset,
      placesAt: PLACE_LINES_OFFSET,
      placesLength: PLACE_LINES_LENGTH,
      placeAt: placeOffset,
      logUnit: logOffset / ALLOC_UNIT,
    }),
    ring: RING_OF_EACH,
  };
}

/** The lines of layout 2, at these places: the model has fewer of them. */
export function ownerLines(
  places: Pick<OwnerLines, "guardLineAt" | "placesAt" | "placesLength" | "placeAt" | "logUnit">,
): OwnerLines {
  return {
    ...places,
    guardLine: (nonce) => {
      const bytes = new Uint8Array(LINE);
      bytes.set(Buffer.from(nonce, "hex"));
      return bytes;
    },
    inspect(bytes, slot) {
      const own = [0, 1].map((turn) => inspectPlaceLine(bytes, places.placeAt(slot, turn) - places.placesAt, slot));
      return {
        place: highestPlace(bytes),
        sequence: Math.max(0, ...own.map(({ value }) => value?.sequence ?? 0)),
      };
    },
    encode: encodePlaceLine,
  };
}

const RING_OF_EACH: OwnerRing = {
  counterAt: ownerRingCounterOffset,
  changeAt: ownerChangeOffset,
  former: (place) => place && { at: ownerRingOffset(place.ballot.slot), length: OWNER_RING_SIZE },
  begin(ballot, bytes, clean, place) {
    const found = bytes && place ? readOwnerRing(bytes, place.ballot.slot, undefined) : NO_CHANGES;
    const changes = found.type === "changes" && clean ? found.changes : [];
    const ring = encodeOwnerRing(ballot, found.next, changes);
    return {
      next: found.next,
      stores: durable(ownerRingOffset(ballot.slot), ring),
      whole: found.type === "changes",
    };
  },
};

const NO_CHANGES = { type: "changes", next: 0, changes: [] } as const;

function layout1(slots: number, nodeId: string): OfLayout {
  const length = guardLength(slots);
  return {
    guardLength: length,
    claims: {
      at: GUARD_OFFSET,
      length,
      inspect: (bytes) => claimsOfLayout1(bytes, slots),
      ofSlot: claimOffset,
      encode: ({ ballot, nonce, released }) =>
        encodeClaim({ slot: ballot.slot, epoch: ballot.round, nodeIdHash: nodeIdHash(nodeId), nonce, released }),
    },
    lines: undefined,
    ring: SHARED_RING,
  };
}

/** `bytes`: the guard range. */
function claimsOfLayout1(bytes: Uint8Array, slots: number): Claims {
  const { claims, findings } = inspectGuardRange(bytes, slots);
  return {
    claims: claims.map(({ slot, epoch, nonce, released }): Claim => {
      return { ballot: { order: 0, round: epoch, slot }, nonce, released };
    }),
    findings,
  };
}

const SHARED_RING: OwnerRing = {
  counterAt: () => CHANGE_COUNTER_OFFSET,
  changeAt: (_slot, sequence) => changeOffset(sequence),
  former: (_place: PlaceLine | undefined) => ({ at: CHANGE_COUNTER_OFFSET, length: 8 }),
  begin(_ballot, bytes, clean) {
    const counter = readU64(bytes ?? new Uint8Array(8));
    const next = clean ? counter : counter + CHANGE_RING_SLOTS + 1;
    return { next, stores: clean ? [] : durable64(CHANGE_COUNTER_OFFSET, next), whole: true };
  },
};

/** A counter that no program of ours wrote counts as none: what follows it is an overflow for all who saw another. */
function readU64(bytes: Uint8Array): number {
  const value = Buffer.from(bytes).readBigUInt64LE(0);
  return value > 2n ** 52n ? 0 : Number(value);
}
