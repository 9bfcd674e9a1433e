import assert from "node:assert/strict";
import { test } from "node:test";
import { ALLOC_UNIT } from "../base/index.ts";
import { sealCrc } from "./crc.ts";
import { encodeEntry } from "./entry-encode.ts";
import { GUARD_OFFSET, VOLUME_RECORD_COPY_OFFSET, VOLUME_RECORD_OFFSET } from "./extension-structs.ts";
import { fsck } from "./fsck.ts";
import { entryOffset, LOG_COUNTERS_OFFSET } from "./log-header.ts";
import { formatStock, regionLengthFor } from "./mkfs.ts";
import { claimOffset, encodeClaim, encodeIdentity } from "./owner-claims.ts";
import { slotPageOffset } from "./owner-slot.ts";
import { LOG_OFFSET, MIN_LOG_LENGTH } from "./structs.ts";
import { encodeSuperblock, parseSuperblock } from "./superblock.ts";
import { GOLDEN_IMAGES, GOLDEN_REGION_LENGTH } from "./testing/golden-images.ts";

const original = GOLDEN_IMAGES["extended"]?.() ?? new Uint8Array();

/** Codes and places of what fsck says after `change`. */
function after(change: (image: Uint8Array) => void, regionLength = GOLDEN_REGION_LENGTH): string[] {
  const image = Uint8Array.from(original);
  change(image);
  return fsck(image, regionLength).findings.map(({ code, index, offset }) => `${code} ${index ?? `@${offset}`}`);
}

const flip = (image: Uint8Array, at: number) => {
  image[at] = (image[at] ?? 0) ^ 0xff;
};
const setU64 = (image: Uint8Array, at: number, value: bigint) =>
  new DataView(image.buffer).setBigUint64(at, value, true);
const entryAt = (index: number) => LOG_OFFSET + entryOffset(index);

test("a sound volume has no findings", () => {
  assert.deepEqual(
    after(() => {}),
    [],
  );
});

test("each kind of damage has a finding of its own, with the place", () => {
  const cases: [string, (image: Uint8Array) => void, string[]][] = [
    ["superblock", (image) => flip(image, 50), ["SUPERBLOCK_CORRUPT @0", "SUPERBLOCK_CORRUPT @1572864"]],
    ["other version", (image) => setU64(image, 8, 47n), ["SUPERBLOCK_VERSION @0", "SUPERBLOCK_CORRUPT @1572864"]],
    ["volume record", (image) => flip(image, VOLUME_RECORD_OFFSET + 40), ["VOLUME_RECORD_CORRUPT @4096"]],
    ["record copy", (image) => flip(image, VOLUME_RECORD_COPY_OFFSET + 40), ["VOLUME_RECORD_CORRUPT @1576960"]],
    ["identity line", (image) => flip(image, GUARD_OFFSET + 20), ["VOLUME_RECORD_CORRUPT @8192"]],
    [
      "another volume's identity line",
      (image) => {
        const volumeUuid = "11111111-1111-1111-1111-111111111111";
        image.set(encodeIdentity({ volumeUuid, generation: 5, layout: 1, slots: 4 }), GUARD_OFFSET);
      },
      ["VOLUME_RECORD_CORRUPT @8192"],
    ],
    ["claim", (image) => flip(image, claimOffset(2) + 8), [`OWNER_CLAIM_CORRUPT @${claimOffset(2)}`]],
    [
      "two claims of one epoch",
      (image) => {
        const claim = { slot: 3, epoch: 7, nodeIdHash: "00".repeat(8), nonce: "00".repeat(16), released: false };
        image.set(encodeClaim(claim), claimOffset(3));
      },
      [`OWNER_CLAIM_CORRUPT @${claimOffset(3)}`],
    ],
    ["detail page", (image) => flip(image, slotPageOffset(2) + 600), [`OWNER_SLOT_CORRUPT @${slotPageOffset(2)}`]],
    ["log header", (image) => flip(image, LOG_OFFSET + 9), ["LOG_HEADER_CORRUPT @2097152"]],
    [
      "counters that differ",
      (image) => setU64(image, LOG_OFFSET + LOG_COUNTERS_OFFSET, 9n),
      [`LOG_COUNTERS @${LOG_OFFSET + LOG_COUNTERS_OFFSET}`],
    ],
    [
      "a counter beyond the log",
      (image) => {
        setU64(image, LOG_OFFSET + LOG_COUNTERS_OFFSET, 20_000n);
        setU64(image, LOG_OFFSET + LOG_COUNTERS_OFFSET + 8, 20_000n);
      },
      [`LOG_COUNTERS @${LOG_OFFSET + LOG_COUNTERS_OFFSET}`, "ENTRY_CORRUPT 10"],
    ],
    ["an entry", (image) => flip(image, entryAt(9) + 30), ["ENTRY_CORRUPT 9"]],
    [
      "an entry in the wrong slot",
      (image) => image.copyWithin(entryAt(9), entryAt(8), entryAt(9)),
      ["ENTRY_CORRUPT 9"],
    ],
    [
      "an entry past the counter",
      (image) => image.set(encodeEntry(10, { type: "delete" }), entryAt(10)),
      ["ENTRY_BEYOND_COUNTER 10"],
    ],
    [
      "a stand-in without its RELINK",
      (image) => image.set(encodeEntry(4, { type: "delete" }), entryAt(4)),
      ["NODE_DETACHED 3"],
    ],
    [
      "an unknown extent type",
      (image) => {
        image[entryAt(2) + 120] = 9;
        sealCrc(image, entryAt(2), 536);
      },
      ["ENTRY_MALFORMED 2", "RELINK_TARGET 7"],
    ],
    [
      "seventeen extents",
      (image) => {
        image[entryAt(1) + 128] = 17;
        sealCrc(image, entryAt(1), 536);
      },
      ["EXTENT_COUNT 1"],
    ],
    [
      "space claimed twice",
      (image) => {
        image.copyWithin(entryAt(3) + 136, entryAt(1) + 136, entryAt(1) + 160);
        sealCrc(image, entryAt(3), 536);
      },
      ["EXTENT_OVERLAP 3", "RELINK_TARGET 4"],
    ],
  ];
  for (const [what, change, expected] of cases) {
    assert.deepEqual(after(change), expected, what);
  }
});

test("a volume that stock mkfs reformatted is a stock one, and the old record is named", () => {
  const found = after((image) => {
    image.set(encodeSuperblock({ ...parseSuperblock(image), uuid: "ffffffff-0000-0000-0000-000000000000" }));
    image.fill(0, LOG_OFFSET + LOG_COUNTERS_OFFSET, LOG_OFFSET + MIN_LOG_LENGTH);
  });
  assert.deepEqual(found, [`VOLUME_RECORD_FOREIGN @${VOLUME_RECORD_OFFSET}`]);
});

test("a region that is shorter than its superblock says is found, and so are files behind its end", () => {
  const found = after(() => {}, LOG_OFFSET + MIN_LOG_LENGTH + 66 * ALLOC_UNIT);
  assert.deepEqual(found, ["SUPERBLOCK_GEOMETRY @0", "EXTENT_OUT_OF_RANGE 3", "RELINK_TARGET 4"]);
});

test("a log of bad entries yields a bounded list of findings", () => {
  const image = Uint8Array.from(original);
  const count = 1500;
  for (let index = 0; index < count; index++) {
    image.set(encodeEntry(index, { type: "mkdir", path: "..", uid: 0, gid: 0, mode: 0 }), entryAt(index));
  }
  setU64(image, LOG_OFFSET + LOG_COUNTERS_OFFSET, BigInt(count));
  setU64(image, LOG_OFFSET + LOG_COUNTERS_OFFSET + 8, BigInt(count));
  const { findings, omittedFindings } = fsck(image, GOLDEN_REGION_LENGTH);
  assert.deepEqual([findings.length, omittedFindings], [1000, 500]);
});

test("mkfs makes what fsck finds sound, and refuses what holds no file system", () => {
  const uuid = "00112233-4455-6677-8899-aabbccddeeff";
  const base = { uuid, devUuid: uuid, systemUuid: uuid, daxdev: "/dev/dax0.0" };
  const regionLength = regionLengthFor(ALLOC_UNIT);
  const { pieces, zeroLength, record } = formatStock({ ...base, regionLength });
  const image = new Uint8Array(zeroLength);
  for (const piece of pieces) image.set(piece.bytes, piece.offset);
  const { findings, summary } = fsck(image, regionLength);
  assert.deepEqual([findings, record], [[], undefined]);
  assert.equal(summary?.freeBytes, ALLOC_UNIT);
  assert.equal(pieces.at(-1)?.offset, 0, "the superblock is written last");
  assert.throws(() => formatStock({ ...base, regionLength: regionLength - 1 }), { code: "DEVICE_TOO_SMALL" });
  assert.throws(() => formatStock({ ...base, regionLength, logLength: 12 * 1024 * 1024 }), {
    code: "INVALID_ARGUMENT",
  });
});
