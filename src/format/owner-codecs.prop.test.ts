/** What nodes say in layout 2: each structure survives, any bytes are refused or read, and each damage is named. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cases } from "../../test/support/cases.ts";
import { compareBallots } from "./ballot.ts";
import type { InPlaceChange } from "./change-ring.ts";
import { sealCrc } from "./crc.ts";
import { MAX_DETAIL_RANGES, MAX_HELD, MAX_STRUCK } from "./extension-structs.ts";
import type { Inspected } from "./finding.ts";
import { fsck } from "./fsck.ts";
import {
  encodeDamage,
  encodeOwnerDetail,
  encodeSizeCell,
  inspectDamage,
  inspectOwnerDetail,
  inspectSizeCell,
} from "./owner-detail.ts";
import * as layout from "./owner-layout.ts";
import {
  encodeAckLine,
  encodeClaimLine,
  encodePlaceLine,
  highestPlace,
  inspectAckLine,
  inspectClaimLine,
  inspectClaimLines,
  inspectPlaceLine,
} from "./owner-lines.ts";
import { encodeOwnerRing, inspectOwnerRing, readOwnerRing } from "./owner-ring.ts";
import { GOLDEN_IMAGES, GOLDEN_REGION_LENGTH } from "./testing/golden-images.ts";

const u32 = fc.nat(0xffffffff);
const size = fc.maxSafeNat();
const hex = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((value) => Buffer.from(value).toString("hex"));
const SLOT = 5;
const ballot = fc.record({ order: size, round: size, slot: fc.constant(SLOT) });
const anyBallot = fc.record({ order: fc.nat(3), round: fc.nat(3), slot: fc.nat(3) });
const mtime = fc.record({ seconds: fc.maxSafeInteger(), nanoseconds: fc.nat(999_999_999) });
const text = fc.string({ maxLength: 16, unit: "grapheme" }).map((value) => value.replaceAll("\0", ""));

interface Codec {
  readonly name: string;
  readonly value: fc.Arbitrary<unknown>;
  readonly encode: (value: never) => Uint8Array;
  readonly inspect: (bytes: Uint8Array, base: number, slot: number) => Inspected<unknown>;
  readonly crcAt: number;
}

const CODECS: readonly Codec[] = [
  {
    name: "claim line",
    value: fc.record({
      ballot,
      nonce: hex(16),
      released: fc.boolean(),
      successor: fc.option(fc.record({ slot: fc.nat(511), ask: size }), { nil: undefined }),
    }),
    encode: encodeClaimLine,
    inspect: inspectClaimLine,
    crcAt: 56,
  },
  {
    name: "place line",
    value: fc.record({
      ballot,
      sequence: size,
      logUnit: u32,
      logGeneration: size,
      doubt: fc.record({ round: size, slot: u32 }),
    }),
    encode: encodePlaceLine,
    inspect: inspectPlaceLine,
    crcAt: 56,
  },
  {
    name: "acknowledgement line",
    value: fc.record({
      slot: fc.constant(SLOT),
      incarnation: hex(8),
      state: fc.constantFrom("joining", "staged", "gone"),
      ballot: fc.record({ order: size, round: size, slot: u32 }),
      position: size,
      holdFloor: fc.option(size, { nil: undefined }),
    }),
    encode: encodeAckLine,
    inspect: inspectAckLine,
    crcAt: 56,
  },
  {
    name: "detail page",
    value: fc.record({
      slot: fc.constant(SLOT),
      order: size,
      epoch: size,
      nodeId: text,
      nodeUid: text,
      bootId: text,
      fillerIndex: fc.option(size, { nil: undefined }),
      reserved: fc.array(fc.record({ offset: size, length: size }), { maxLength: MAX_DETAIL_RANGES }),
      held: fc.array(size, { maxLength: MAX_HELD }),
      struck: fc.array(hex(8), { maxLength: MAX_STRUCK }),
    }),
    encode: encodeOwnerDetail,
    inspect: inspectOwnerDetail,
    crcAt: 4088,
  },
  {
    name: "size cell",
    value: fc.record({ ballot, file: size, size, mtime, sequence: u32 }),
    encode: encodeSizeCell,
    inspect: inspectSizeCell,
    crcAt: 56,
  },
  {
    name: "damage line",
    value: fc.record({ ballot, sequence: size, file: size, offset: size, length: size }),
    encode: encodeDamage,
    inspect: inspectDamage,
    crcAt: 56,
  },
];

for (const { name, value, encode, inspect, crcAt } of CODECS) {
  test(`a ${name} survives, belongs to its slot, and is nothing where only zeros are`, () => {
    fc.assert(
      fc.property(value, (original) => {
        const bytes = encode(original as never);
        assert.deepEqual(inspect(bytes, 0, SLOT), { value: structuredClone(original), findings: [] });
        assert.match(inspect(bytes, 0, SLOT + 1).findings[0]?.message ?? "", /says slot 5/);
        assert.deepEqual(inspect(new Uint8Array(bytes.byteLength), 0, SLOT), { value: undefined, findings: [] });
      }),
      cases(100),
    );
  });

  test(`a ${name} with a flipped bit is refused, and with any content behind a right crc refused or read`, () => {
    fc.assert(
      fc.property(value, fc.nat(), fc.integer({ min: 1, max: 255 }), fc.nat(), (original, where, bits, base) => {
        const bytes = encode(original as never);
        const at = where % bytes.byteLength;
        bytes[at] = (bytes[at] ?? 0) ^ bits;
        const { value: read, findings } = inspect(bytes, 0, SLOT);
        assert.deepEqual([read, findings.length], [undefined, 1]);
        sealCrc(bytes, 0, crcAt);
        inspect(bytes, 0, SLOT);
        inspect(bytes, base - 10, SLOT);
        assert.ok((inspect(bytes, bytes.byteLength - 63, SLOT).findings[0]?.message.length ?? 0) > 0);
      }),
      cases(200),
    );
  });
}

test("any lines: what can be read is read, the highest place is one of them, and nothing throws", () => {
  const line = fc.oneof(
    anyBallot.map((one) => encodeClaimLine({ ballot: one, nonce: "00".repeat(16), released: false })),
    fc
      .tuple(anyBallot, fc.nat(9))
      .map(([one, sequence]) =>
        encodePlaceLine({ ballot: one, sequence, logUnit: 1, logGeneration: 0, doubt: { round: 0, slot: 0 } }),
      ),
    fc.uint8Array({ minLength: 64, maxLength: 64 }),
    fc.constant(new Uint8Array(64)),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 40 }), (lines) => {
      const bytes = Buffer.concat(lines);
      const { claims, findings } = inspectClaimLines(bytes);
      assert.ok(claims.length + findings.length <= lines.length);
      for (const { ballot: each } of claims) assert.ok(each.slot < lines.length);
      const place = highestPlace(bytes);
      for (let at = 0; at < lines.length; at++) {
        const other = inspectPlaceLine(bytes, 64 * at, at >> 1).value;
        if (other === undefined) continue;
        assert.ok(place !== undefined && compareBallots(place.ballot, other.ballot) >= 0);
        if (compareBallots(place.ballot, other.ballot) === 0) assert.ok(place.sequence >= other.sequence);
      }
    }),
    cases(200),
  );
});

test("a ring says what a reader has not seen, or that it cannot say", () => {
  const changes = (from: number, to: number): InPlaceChange[] =>
    Array.from({ length: to - from }, (_, at) => ({
      sequence: from + at,
      epoch: 3,
      file: at,
      generation: at,
      mtime: { seconds: at, nanoseconds: 1 },
    }));
  fc.assert(
    fc.property(
      fc.nat(500),
      fc.nat(layout.OWNER_RING_CHANGES),
      fc.integer({ min: -9, max: 999 }),
      (from, count, seen) => {
        const next = from + count;
        const written = changes(from, next);
        const bytes = encodeOwnerRing({ order: 1, round: 2, slot: SLOT }, next, written);
        const read = readOwnerRing(bytes, SLOT, seen < 0 ? undefined : seen);
        if (seen < 0) assert.deepEqual(read, { type: "changes", next, changes: written });
        else if (seen > next || seen < from) assert.deepEqual(read, { type: "overflow", next });
        else assert.deepEqual(read, { type: "changes", next, changes: written.slice(seen - from) });
        assert.equal(readOwnerRing(bytes, SLOT + 1, 0).type, "overflow", "of another slot");
      },
    ),
    cases(200),
  );
});

test("any bytes are no ring, or one that is read", () => {
  const good = encodeOwnerRing({ order: 1, round: 2, slot: SLOT }, 3, []);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 }), fc.nat(), (damage, seen) => {
      const bytes = Uint8Array.from(good);
      for (const [at, value] of damage) bytes[at % 64] = value;
      sealCrc(bytes, 0, 32);
      readOwnerRing(bytes, SLOT, seen);
      readOwnerRing(bytes, SLOT, undefined);
      readOwnerRing(bytes.subarray(0, seen % 64), SLOT, seen);
      inspectOwnerRing(bytes, seen, SLOT);
    }),
    cases(300),
  );
});

test("fsck names each damaged structure of layout 2 by its place", () => {
  const make = GOLDEN_IMAGES["layout2"];
  assert.ok(make !== undefined);
  assert.deepEqual(fsck(make(), GOLDEN_REGION_LENGTH).findings, []);
  const places: readonly [string, number, number][] = [
    ["OWNER_CLAIM_CORRUPT", layout.claimLineOffset(2), 9],
    ["OWNER_CLAIM_CORRUPT", layout.placeOffset(0, 1), 9],
    ["OWNER_SLOT_CORRUPT", layout.ackOffset(511), 41],
    ["OWNER_SLOT_CORRUPT", layout.detailOffset(2), 600],
    ["OWNER_SLOT_CORRUPT", layout.ownerRingOffset(2), 17],
    ["OWNER_SLOT_CORRUPT", layout.sizeCellOffset(2, 15, 1), 33],
    ["OWNER_SLOT_CORRUPT", layout.damageOffset(0, 1), 33],
  ];
  for (const [code, offset, within] of places) {
    const image: Uint8Array = make();
    image[offset + within] = (image[offset + within] ?? 0) ^ 1;
    const found = fsck(image, GOLDEN_REGION_LENGTH).findings;
    assert.deepEqual(
      found.map((finding) => [finding.code, finding.offset]),
      [[code, offset]],
    );
  }
});
