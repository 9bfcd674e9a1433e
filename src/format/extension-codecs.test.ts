import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGE_COUNTER_OFFSET, readChangeRing } from "./change-ring.ts";
import { encodeDeviceLabel, hasLabelSuperblock, inspectDeviceLabel, parseDeviceLabel } from "./device-label.ts";
import {
  CHANGE_RING_OFFSET,
  CHANGE_RING_SIZE,
  GUARD_OFFSET,
  LABEL_RECORD_OFFSET,
  MAX_SLOTS,
} from "./extension-structs.ts";
import {
  claimOffset,
  encodeClaim,
  encodeIdentity,
  guardLength,
  inspectClaim,
  inspectGuardRange,
  inspectIdentity,
  nodeIdHash,
  type OwnerClaim,
} from "./owner-claims.ts";
import { encodeOwnerSlot, inspectOwnerSlot } from "./owner-slot.ts";
import { inspectSuperblock, parseSuperblock } from "./superblock.ts";
import { encodeVolumeOrigin, readVolumeOrigin } from "./volume-origin.ts";
import { encodeVolumeRecord, inspectVolumeRecord, parseVolumeRecord } from "./volume-record.ts";

const UUID = "00112233-4455-6677-8899-aabbccddeeff";
const OTHER = "ffeeddcc-bbaa-9988-7766-554433221100";

const record = {
  volumeUuid: UUID,
  superblockUuid: OTHER,
  generation: 9,
  capacityBytes: 1 << 30,
  regionLength: 2 ** 45,
  createdSeconds: -1,
  rootUid: 1,
  rootGid: 2,
  rootMode: 0o2775,
  layout: 1 as const,
  slots: 63,
  name: "pvc-0f0e é",
};

test("a volume record survives, belongs to one superblock, and is absent from a stock volume", () => {
  const bytes = encodeVolumeRecord(record);
  assert.deepEqual(inspectVolumeRecord(bytes, 0, OTHER), { value: record, findings: [] });
  assert.equal(parseVolumeRecord(bytes, 0, UUID), undefined, "a stock tool has reformatted");
  assert.equal(inspectVolumeRecord(bytes, 0, UUID).findings[0]?.code, "VOLUME_RECORD_FOREIGN");
  assert.deepEqual(inspectVolumeRecord(new Uint8Array(512), 0, OTHER), { value: undefined, findings: [] });
  bytes[300] = 1;
  assert.throws(() => parseVolumeRecord(bytes, 0, OTHER), { code: "VOLUME_RECORD_CORRUPT" });
  assert.throws(() => parseVolumeRecord(encodeVolumeRecord({ ...record, slots: MAX_SLOTS + 1 }), 0, OTHER), {
    code: "VOLUME_RECORD_CORRUPT",
  });
});

test("a volume's origin survives, belongs to one volume, and is nothing when it cannot be read", () => {
  const origin = { csiName: "pvc-é", fabric: "rack1", parameters: { dataWriters: "any", uid: "7" } };
  const bytes = encodeVolumeOrigin(UUID, origin);
  assert.ok(bytes);
  assert.deepEqual(readVolumeOrigin(bytes, 0, UUID), origin);
  assert.equal(readVolumeOrigin(bytes, 0, OTHER), undefined, "a former volume's");
  assert.equal(readVolumeOrigin(bytes.subarray(0, 3000), 0, UUID), undefined);
  bytes[100] = 0;
  assert.equal(readVolumeOrigin(bytes, 0, UUID), undefined);
  const large = { ...origin, parameters: { pool: "x".repeat(3000) } };
  assert.equal(encodeVolumeOrigin(UUID, large), undefined, "the volume does without");
  const odd = { csiName: "a", fabric: "b", parameters: { ok: "1", not: 2 } } as unknown as typeof origin;
  assert.deepEqual(readVolumeOrigin(encodeVolumeOrigin(UUID, odd) ?? new Uint8Array(), 0, UUID)?.parameters, {
    ok: "1",
  });
});

test("identity line and claims survive, and a claim in the wrong slot is refused", () => {
  const identity = { volumeUuid: UUID, generation: 3, layout: 1, slots: 63 } as const;
  assert.deepEqual(inspectIdentity(encodeIdentity(identity), 0).value, identity);
  const claim: OwnerClaim = {
    slot: 5,
    epoch: 2 ** 40,
    nodeIdHash: nodeIdHash("node-a"),
    nonce: "a5".repeat(16),
    released: true,
  };
  const bytes = encodeClaim(claim);
  assert.deepEqual(inspectClaim(bytes, 0, 5).value, claim);
  assert.match(inspectClaim(bytes, 0, 6).findings[0]?.message ?? "", /says slot 5/);
  assert.deepEqual(inspectClaim(new Uint8Array(64), 0, 6), { value: undefined, findings: [] });
});

/** A guard range with these claims. */
function guard(...claims: { slot: number; epoch: number; released?: boolean }[]): Uint8Array {
  const bytes = new Uint8Array(guardLength(4));
  bytes.set(encodeIdentity({ volumeUuid: UUID, generation: 1, layout: 1, slots: 4 }));
  for (const { slot, epoch, released = false } of claims) {
    const claim = encodeClaim({ slot, epoch, nodeIdHash: nodeIdHash(`n${slot}`), nonce: "00".repeat(16), released });
    bytes.set(claim, claimOffset(slot) - GUARD_OFFSET);
  }
  return bytes;
}

test("the highest epoch owns the log, and nobody does when two slots claim it", () => {
  assert.deepEqual([inspectGuardRange(guard(), 4).owner, inspectGuardRange(guard(), 4).highestEpoch], [undefined, 0]);
  const two = inspectGuardRange(guard({ slot: 0, epoch: 7 }, { slot: 3, epoch: 9 }), 4);
  assert.deepEqual([two.owner?.slot, two.highestEpoch, two.findings], [3, 9, []]);
  const equal = inspectGuardRange(guard({ slot: 0, epoch: 9 }, { slot: 1, epoch: 8 }, { slot: 3, epoch: 9 }), 4);
  assert.equal(equal.owner, undefined);
  assert.equal(equal.highestEpoch, 9, "the next epoch is still above it");
  assert.match(equal.findings[0]?.message ?? "", /epoch 9 is claimed by slots 0 and 3/);
  const damaged = guard({ slot: 0, epoch: 7 }, { slot: 3, epoch: 9 });
  damaged[claimOffset(3) - GUARD_OFFSET + 8] = 0xff;
  assert.deepEqual(
    inspectGuardRange(damaged, 4).findings.map((finding) => finding.offset),
    [claimOffset(3)],
  );
});

test("the detail page of a slot survives", () => {
  const slot = {
    slot: 2,
    epoch: 4,
    nodeId: "node-é",
    bootId: "b",
    fillerIndex: 0,
    reserved: [{ offset: 10, length: 20 }],
  };
  assert.deepEqual(inspectOwnerSlot(encodeOwnerSlot(slot), 0, 2).value, slot);
  const none = { ...slot, fillerIndex: undefined, reserved: [] };
  assert.deepEqual(inspectOwnerSlot(encodeOwnerSlot(none), 0, 2).value, none);
});

test("a ring that is not one tells its reader to drop what it has", () => {
  assert.deepEqual(readChangeRing(new Uint8Array(CHANGE_RING_SIZE), 3), { type: "overflow", next: 3 });
  assert.equal(CHANGE_COUNTER_OFFSET, CHANGE_RING_OFFSET + 24);
});

test("a device label survives, and stock tools take it for a file system of another version", () => {
  const label = { uuid: UUID, sizeBytes: 2 ** 42, pool: "rack-7 é", incarnation: 3, createdSeconds: 1_790_000_000 };
  const bytes = encodeDeviceLabel(label);
  assert.deepEqual(parseDeviceLabel(bytes), label);
  // What stock mkfs looks at: its magic, and a version that is not 48.
  assert.equal(Buffer.from(bytes.subarray(0, 8)).toString("hex"), "ff82b28700000000");
  assert.equal(inspectSuperblock(bytes).findings[0]?.code, "SUPERBLOCK_VERSION");
  assert.throws(() => parseSuperblock(bytes), { code: "SUPERBLOCK_VERSION" });
  bytes[LABEL_RECORD_OFFSET + 40] = 1;
  assert.ok(hasLabelSuperblock(bytes));
  assert.throws(() => parseDeviceLabel(bytes), { code: "LABEL_CORRUPT" });
  assert.deepEqual(inspectDeviceLabel(new Uint8Array(8192)), { value: undefined, findings: [] });
});
