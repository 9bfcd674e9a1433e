import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cases } from "../../test/support/cases.ts";
import { ALLOC_UNIT, FamfsError } from "../base/index.ts";
import { changeOffset, encodeChange, encodeChangeRingHeader, readChangeRing } from "./change-ring.ts";
import { sealCrc } from "./crc.ts";
import { encodeDeviceLabel, inspectDeviceLabel } from "./device-label.ts";
import { EntryDecoder } from "./entry-decode.ts";
import { encodeEntry } from "./entry-encode.ts";
import {
  CHANGE_RING_OFFSET,
  CHANGE_RING_SIZE,
  CHANGE_RING_SLOTS,
  ExtensionType,
  GUARD_OFFSET,
  VOLUME_RECORD_OFFSET,
} from "./extension-structs.ts";
import { fsck } from "./fsck.ts";
import { FILLER_RUN } from "./log-entry.ts";
import { encodeLogHeader, entryOffset, inspectLogHeader, lastIndexFor } from "./log-header.ts";
import { formatExtended } from "./mkfs.ts";
import { encodeClaim, inspectGuardRange } from "./owner-claims.ts";
import { coverRanges, encodeOwnerSlot, inspectOwnerSlot } from "./owner-slot.ts";
import { LOG_OFFSET, MIN_LOG_LENGTH } from "./structs.ts";
import { inspectSuperblock } from "./superblock.ts";
import { anyEntry, hostileEntry } from "./testing/arbitraries.ts";
import { inspectVolumeRecord } from "./volume-record.ts";

const LENGTH = LOG_OFFSET + MIN_LOG_LENGTH + 64 * ALLOC_UNIT;
const UUID = "0f0e0d0c-0b0a-0908-0706-050403020100";

/** The first 10 MiB of a fresh extended volume; `entries` follow its log header. */
function image(entries: readonly Uint8Array[]): Uint8Array {
  const formatted = formatExtended({
    regionLength: LENGTH,
    uuid: UUID,
    devUuid: UUID,
    systemUuid: UUID,
    daxdev: "test",
    volumeUuid: UUID,
    generation: 3,
    capacityBytes: 64 * ALLOC_UNIT,
    createdSeconds: 0,
    rootUid: 0,
    rootGid: 0,
    rootMode: 0o755,
    name: "pvc-1",
  });
  const bytes = new Uint8Array(LOG_OFFSET + MIN_LOG_LENGTH);
  for (const piece of formatted.pieces) bytes.set(piece.bytes, piece.offset);
  putEntries(bytes, entries);
  return bytes;
}

function putEntries(bytes: Uint8Array, entries: readonly Uint8Array[]): void {
  const header = { logLength: MIN_LOG_LENGTH, lastIndex: lastIndexFor(MIN_LOG_LENGTH) };
  bytes.set(encodeLogHeader({ ...header, nextSeqnum: entries.length, nextIndex: entries.length }), LOG_OFFSET);
  for (const [index, entry] of entries.entries()) bytes.set(entry, LOG_OFFSET + entryOffset(index));
}

/** A few bytes anywhere in the structure become others, as an attacker with a CRC tool would do it. */
const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 });

function damaged(bytes: Uint8Array, at: readonly (readonly [number, number])[]): Uint8Array {
  const copy = Uint8Array.from(bytes);
  for (const [where, value] of at) copy[where % copy.byteLength] = value;
  return copy;
}

const anyBytes = fc.uint8Array({ maxLength: 9000 });

test("no decoder throws on any bytes", () => {
  fc.assert(
    fc.property(anyBytes, fc.integer({ min: -10, max: 9010 }), (bytes, base) => {
      inspectSuperblock(bytes, base);
      inspectLogHeader(bytes, base, MIN_LOG_LENGTH);
      inspectVolumeRecord(bytes, base, UUID);
      inspectDeviceLabel(bytes);
      inspectGuardRange(bytes, 63);
      inspectOwnerSlot(bytes, base, 0);
      readChangeRing(bytes, 0);
      const decoder = new EntryDecoder(bytes, true);
      assert.notEqual(decoder.check(base, 1), undefined);
      fsck(bytes);
    }),
    cases(200),
  );
});

test("structures with any content behind a right crc are refused or read, never thrown at", () => {
  const record = image([]).slice(VOLUME_RECORD_OFFSET, VOLUME_RECORD_OFFSET + 512);
  const superblock = image([]).slice(0, 200);
  const header = image([]).slice(LOG_OFFSET, LOG_OFFSET + 48);
  const claim = encodeClaim({ slot: 1, epoch: 4, nodeIdHash: "00".repeat(8), nonce: "11".repeat(16), released: false });
  const page = encodeOwnerSlot({
    slot: 2,
    epoch: 4,
    nodeId: "node-a",
    bootId: "boot",
    fillerIndex: 3,
    reserved: [{ offset: 0, length: 10 }],
  });
  const label = encodeDeviceLabel({ uuid: UUID, sizeBytes: 4096, pool: "p", incarnation: 1, createdSeconds: 0 });
  fc.assert(
    fc.property(damage, (at) => {
      const resealed = (bytes: Uint8Array, crcAt: number) => {
        const copy = damaged(bytes, at);
        sealCrc(copy, 0, crcAt);
        return copy;
      };
      inspectSuperblock(resealed(superblock, 96));
      inspectLogHeader(resealed(header, 24), 0, MIN_LOG_LENGTH);
      inspectVolumeRecord(resealed(record, 504), 0, UUID);
      const { value } = inspectOwnerSlot(resealed(page, 8184), 0, 2);
      assert.ok((value?.reserved.length ?? 0) <= 480);
      const guard = new Uint8Array(64 * 64);
      guard.set(resealed(claim, 56), 128);
      inspectGuardRange(guard, 63);
      const copy = damaged(label, at);
      sealCrc(copy, 4096, 504);
      inspectDeviceLabel(copy);
    }),
    cases(500),
  );
});

const types = fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, ...Object.values(ExtensionType)), fc.nat(0xffffffff));

test("fsck survives any entries with right crcs, and what it accepts lies inside the region and overlaps nothing", () => {
  const hostile = fc.oneof(
    fc.record({ type: types, payload: fc.uint8Array({ minLength: 520, maxLength: 520 }) }),
    fc.tuple(anyEntry, damage).map(([entry, at]) => {
      const bytes = encodeEntry(0, entry);
      const type = new DataView(bytes.buffer).getUint32(8, true);
      return { type, payload: damaged(bytes.subarray(16, 536), at) };
    }),
  );
  const MOST = 40;
  const bytes = image([]);
  fc.assert(
    fc.property(fc.array(hostile, { maxLength: MOST }), (entries) => {
      bytes.fill(0, LOG_OFFSET + entryOffset(0), LOG_OFFSET + entryOffset(MOST));
      putEntries(
        bytes,
        entries.map(({ type, payload }, index) => hostileEntry(index, type, payload)),
      );
      const report = fsck(bytes, LENGTH);
      assert.ok(report.tree !== undefined);
      // A filler at the end stands for its whole run, of which the rest may be beyond the counter.
      const { length } = report.entries;
      assert.ok(length >= entries.length && length < entries.length + FILLER_RUN, `${length} of ${entries.length}`);
      for (const { start, end } of report.tree.used(0)) {
        assert.ok(start >= LOG_OFFSET + MIN_LOG_LENGTH && end <= LENGTH && start < end);
      }
      JSON.stringify(report.entries);
    }),
    cases(60),
  );
});

test("fsck survives a damaged image", () => {
  const good = image([
    encodeEntry(0, { type: "mkdir", path: "d", uid: 0, gid: 0, mode: 0o755 }),
    encodeEntry(1, {
      type: "file",
      path: "d/f",
      size: 5,
      flags: 2,
      uid: 0,
      gid: 0,
      mode: 0o644,
      layout: { type: "simple", extents: [{ devindex: 0, offset: LOG_OFFSET + MIN_LOG_LENGTH, length: ALLOC_UNIT }] },
    }),
  ]);
  assert.deepEqual(fsck(good, LENGTH).findings, []);
  const where = fc.oneof(
    fc.nat(200),
    fc.nat(600).map((at) => VOLUME_RECORD_OFFSET + at),
    fc.nat(200).map((at) => GUARD_OFFSET + at),
    fc.nat(1200).map((at) => LOG_OFFSET + at),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(where, fc.nat(255)), { maxLength: 4 }), fc.nat(good.byteLength), (at, length) => {
      const saved = at.map(([offset]) => [offset, good[offset] ?? 0] as const);
      for (const [offset, value] of at) good[offset] = value;
      fsck(good, LENGTH);
      fsck(good.subarray(0, length), LENGTH);
      for (const [offset, value] of saved.reverse()) good[offset] = value;
    }),
    cases(100),
  );
});

test("a reader of the change ring gets every change since it looked, or is told that it missed some", () => {
  fc.assert(
    fc.property(fc.nat(3000), fc.nat(1100), fc.option(fc.nat(63), { nil: undefined }), (start, count, torn) => {
      const ring = new Uint8Array(CHANGE_RING_SIZE);
      const next = start + count;
      ring.set(encodeChangeRingHeader(next));
      for (let sequence = Math.max(0, next - CHANGE_RING_SLOTS); sequence < next; sequence++) {
        const mtime = { seconds: sequence, nanoseconds: 1 };
        const change = encodeChange({ sequence, epoch: 1, file: sequence * 3, generation: 2, mtime });
        ring.set(change, changeOffset(sequence) - CHANGE_RING_OFFSET);
      }
      if (torn !== undefined && count > 0) {
        const at = changeOffset(start) - CHANGE_RING_OFFSET + torn;
        ring[at] = (ring[at] ?? 0) ^ 1;
      }
      const reading = readChangeRing(ring, start);
      assert.equal(reading.next, next);
      if (count > CHANGE_RING_SLOTS || (torn !== undefined && count > 0)) assert.equal(reading.type, "overflow");
      else {
        assert.ok(reading.type === "changes");
        assert.deepEqual(
          reading.changes.map((change) => change.file),
          Array.from({ length: count }, (_, position) => (start + position) * 3),
        );
      }
    }),
    cases(40),
  );
});

test("covering ranges hold all that is reserved, in at most so many pieces", () => {
  const range = fc.record({ offset: fc.nat(500), length: fc.integer({ min: 1, max: 20 }) });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 60 }), fc.integer({ min: 1, max: 12 }), (ranges, limit) => {
      const covering = coverRanges(ranges, limit);
      assert.ok(covering.length <= limit);
      for (const { offset, length } of ranges) {
        assert.ok(covering.some((cover) => cover.offset <= offset && cover.offset + cover.length >= offset + length));
      }
      for (const [position, cover] of covering.entries()) {
        assert.ok((covering[position + 1]?.offset ?? Number.POSITIVE_INFINITY) > cover.offset + cover.length);
      }
    }),
  );
});

test("more reserved ranges than a page holds are refused", () => {
  const reserved = Array.from({ length: 481 }, (_, position) => ({ offset: position * 10, length: 5 }));
  const slot = { slot: 0, epoch: 1, nodeId: "n", bootId: "b", fillerIndex: undefined };
  assert.throws(
    () => encodeOwnerSlot({ ...slot, reserved }),
    (error) => error instanceof FamfsError,
  );
  const page = encodeOwnerSlot({ ...slot, reserved: coverRanges(reserved) });
  assert.equal(inspectOwnerSlot(page, 0, 0).value?.reserved.length, 480);
});
