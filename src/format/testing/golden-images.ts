/**
 * Images of extended volumes, built entry by entry. What they encode to is kept in test/vectors: a change of any byte
 * is a change of the format. `node src/format/testing/golden-images.ts` writes them anew, after a change that is meant.
 */
import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { ALLOC_UNIT } from "../../base/index.ts";
import { changeOffset, encodeChange, encodeChangeRingHeader } from "../change-ring.ts";
import { encodeEntry } from "../entry-encode.ts";
import { CHANGE_RING_OFFSET, type VolumeLayout } from "../extension-structs.ts";
import { fsck } from "../fsck.ts";
import { type DeviceExtent, FORMER_FILLER_RUN, type LogEntry, MAX_TRANSACTION } from "../log-entry.ts";
import { encodeLogHeader, entryOffset, lastIndexFor } from "../log-header.ts";
import { formatExtended } from "../mkfs.ts";
import { claimOffset, encodeClaim, nodeIdHash } from "../owner-claims.ts";
import { encodeDamage, encodeOwnerDetail, encodeSizeCell } from "../owner-detail.ts";
import {
  ackOffset,
  claimLineOffset,
  damageOffset,
  detailOffset,
  guardOffset,
  ownerRingOffset,
  placeOffset,
  sizeCellOffset,
} from "../owner-layout.ts";
import { encodeAckLine, encodeClaimLine, encodePlaceLine, incarnationHash } from "../owner-lines.ts";
import { encodeOwnerRing } from "../owner-ring.ts";
import { encodeOwnerSlot, slotPageOffset } from "../owner-slot.ts";
import { standInPath } from "../sealed-node.ts";
import { LOG_OFFSET, MIN_LOG_LENGTH } from "../structs.ts";

export const GOLDEN_REGION_LENGTH = 256 * ALLOC_UNIT;
const DATA = LOG_OFFSET + MIN_LOG_LENGTH;

const uuid = (last: string) => `00112233-4455-6677-8899-aabbccddee${last}`;
const unit = (position: number, units = 1): DeviceExtent => ({
  devindex: 0,
  offset: DATA + position * ALLOC_UNIT,
  length: units * ALLOC_UNIT,
});
const time = (seconds: number) => ({ seconds, nanoseconds: 123_456_789 });
const owner = { uid: 1000, gid: 1001, mode: 0o640 };

interface ImageOptions {
  readonly layout?: VolumeLayout;
  /** As a late store of an old owner left it. */
  readonly nextIndex?: number;
}

function build(entries: readonly (LogEntry | "torn")[], options: ImageOptions = {}): Uint8Array {
  const { pieces } = formatExtended({
    regionLength: GOLDEN_REGION_LENGTH,
    uuid: uuid("00"),
    devUuid: uuid("01"),
    systemUuid: uuid("02"),
    daxdev: "/dev/dax0.0",
    volumeUuid: uuid("03"),
    generation: 5,
    capacityBytes: GOLDEN_REGION_LENGTH - DATA,
    createdSeconds: 1_790_000_000,
    rootUid: 1000,
    rootGid: 2000,
    rootMode: 0o2775,
    layout: options.layout ?? 1,
    slots: 4,
    name: "pvc-golden",
  });
  const image = new Uint8Array(DATA);
  for (const piece of pieces) image.set(piece.bytes, piece.offset);
  const nextIndex = options.nextIndex ?? entries.length;
  const header = {
    logLength: MIN_LOG_LENGTH,
    lastIndex: lastIndexFor(MIN_LOG_LENGTH),
    nextSeqnum: nextIndex,
    nextIndex,
  };
  image.set(encodeLogHeader(header), LOG_OFFSET);
  for (const [index, entry] of entries.entries()) {
    const bytes = encodeEntry(index, entry === "torn" ? { type: "invalid" } : entry);
    if (entry === "torn") bytes[100] = 1;
    image.set(bytes, LOG_OFFSET + entryOffset(index));
  }
  return image;
}

/** Every kind of entry that famfs-csi writes, owner slots and the ring of changes. */
function extended(): Uint8Array {
  const image = build([
    { type: "mkdir", path: "models", ...owner, mode: 0o755, mtime: time(1_790_000_001) },
    {
      type: "file",
      path: "models/weights.bin",
      size: 3 * ALLOC_UNIT + 17,
      flags: 2,
      ...owner,
      layout: { type: "simple", extents: [unit(0, 2), unit(9, 2)] },
      mtime: time(1_790_000_002),
    },
    {
      type: "file",
      path: "striped",
      size: 5 * ALLOC_UNIT,
      flags: 2,
      ...owner,
      layout: { type: "interleaved", chunkSize: ALLOC_UNIT, strips: [unit(20, 2), unit(40, 2), unit(60, 2)] },
      mtime: time(-1),
    },
    {
      type: "file",
      path: standInPath(3),
      size: 1,
      flags: 2,
      ...owner,
      layout: { type: "simple", extents: [unit(70)] },
      mtime: time(0),
    },
    { type: "relink", target: 3, link: { parent: 0, name: "n".repeat(255) }, ...owner, mtime: time(1_790_000_003) },
    { type: "node", kind: "file", link: { parent: 0, name: "empty" }, ...owner, mtime: time(1), symlinkTarget: "" },
    {
      type: "node",
      kind: "symlink",
      link: { parent: -1, name: "latest" },
      ...owner,
      mode: 0o777,
      mtime: time(2),
      symlinkTarget: "models/weights.bin",
    },
    {
      type: "relink",
      target: 2,
      link: { parent: 0, name: "\xc3\xa9t\xc3\xa9" },
      ...owner,
      mode: 0o600,
      mtime: time(3),
    },
    { type: "relink", target: 5, link: undefined, ...owner, mtime: undefined },
    { type: "relink", target: -1, link: undefined, uid: 0, gid: 0, mode: 0o755, mtime: time(4) },
  ]);
  const claim = { slot: 2, epoch: 7, nodeIdHash: nodeIdHash("node-a"), nonce: "0f".repeat(16), released: false };
  image.set(encodeClaim(claim), claimOffset(2));
  image.set(
    encodeClaim({ ...claim, slot: 0, epoch: 6, nodeIdHash: nodeIdHash("node-b"), released: true }),
    claimOffset(0),
  );
  const page = encodeOwnerSlot({
    slot: 2,
    epoch: 7,
    nodeId: "node-a",
    bootId: "b7c1f2d4-0000-4000-8000-000000000000",
    fillerIndex: undefined,
    reserved: [{ offset: unit(100).offset, length: 64 * ALLOC_UNIT }],
  });
  image.set(page, slotPageOffset(2));
  image.set(encodeChange({ sequence: 0, epoch: 7, file: 1, generation: 1, mtime: time(9) }), changeOffset(0));
  image.set(encodeChangeRingHeader(1), CHANGE_RING_OFFSET);
  return image;
}

/**
 * A take-over: a late transaction of the old owner, half of it torn, lies on the fillers, and its counter came last.
 */
function takeover(): Uint8Array {
  const filler: LogEntry = {
    type: "filler",
    first: 1,
    run: FORMER_FILLER_RUN,
    epoch: 8,
    nodeIdHash: nodeIdHash("node-b"),
  };
  const late = (path: string): LogEntry => ({ type: "mkdir", path, ...owner });
  return build(
    [
      late("before"),
      late("late"),
      "torn",
      ...Array.from({ length: MAX_TRANSACTION - 1 }, () => filler),
      { type: "mkdir", path: "after", ...owner, mtime: time(5) },
    ],
    { nextIndex: 3 },
  );
}

/** Layout 2: slot 2 owns the log after slot 0, which released it to slot 2 and lost a write in a term before. */
function layout2(): Uint8Array {
  const image = build([{ type: "mkdir", path: "d", ...owner }], { layout: 2 });
  const ballot = { order: 1, round: 9, slot: 2 };
  const former = { order: 1, round: 8, slot: 0 };
  const claim = { ballot: former, nonce: "0e".repeat(16), released: true, successor: { slot: 2, ask: 77 } };
  const doubt = { round: 6, slot: 1 };
  image.set(encodeClaimLine(claim), claimLineOffset(0));
  image.set(encodeClaimLine({ ballot, nonce: "0f".repeat(16), released: false }), claimLineOffset(2));
  image.set(Buffer.from("0f".repeat(16), "hex"), guardOffset);
  const place = { logUnit: LOG_OFFSET / ALLOC_UNIT, logGeneration: 0, doubt };
  image.set(encodePlaceLine({ ...place, ballot: former, sequence: 4 }), placeOffset(0, 0));
  image.set(encodePlaceLine({ ...place, ballot: { ...former, round: 5 }, sequence: 3 }), placeOffset(0, 1));
  image.set(encodePlaceLine({ ...place, ballot, sequence: 1 }), placeOffset(2, 1));
  const incarnation = incarnationHash("uid-a", "b7c1f2d4-0000-4000-8000-000000000000");
  const ack = { slot: 511, incarnation, state: "staged", ballot, position: 1, holdFloor: 1 } as const;
  image.set(encodeAckLine(ack), ackOffset(511));
  const page = encodeOwnerDetail({
    slot: 2,
    order: 1,
    epoch: 9,
    nodeId: "node-a",
    nodeUid: "uid-a",
    bootId: "b7c1f2d4-0000-4000-8000-000000000000",
    fillerIndex: undefined,
    reserved: [{ offset: unit(100).offset, length: 64 * ALLOC_UNIT }],
    held: [3, 2 ** 40],
    struck: [incarnationHash("uid-c", "boot")],
  });
  image.set(page, detailOffset(2));
  const change = { sequence: 2, epoch: 8, file: 0, generation: 1, mtime: time(9) };
  image.set(encodeOwnerRing(ballot, 3, [change]), ownerRingOffset(2));
  const cell = { ballot, file: 0, size: 4097, mtime: time(10), sequence: 1 };
  image.set(encodeSizeCell(cell), sizeCellOffset(2, 15, 1));
  const damage = { ballot: { ...former, round: 5 }, sequence: 1, file: 0, offset: 65536, length: 4096 };
  image.set(encodeDamage(damage), damageOffset(0, 1));
  return image;
}

export const GOLDEN_IMAGES: Readonly<Record<string, () => Uint8Array>> = { extended, takeover, layout2 };

/** What fsck must say of an image. */
export function goldenJson(image: Uint8Array): unknown {
  const { superblock, log, entries, findings, summary } = fsck(image, GOLDEN_REGION_LENGTH);
  return { superblock, log, entries, findings, summary };
}

if (import.meta.main) {
  for (const [name, make] of Object.entries(GOLDEN_IMAGES)) {
    const image = make();
    const folder = new URL("../../../test/vectors/", import.meta.url);
    writeFileSync(new URL(`${name}.img.gz`, folder), gzipSync(image, { level: 9 }));
    writeFileSync(new URL(`${name}.json`, folder), `${JSON.stringify(goldenJson(image), undefined, 2)}\n`);
  }
}
