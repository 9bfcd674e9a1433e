import { highest } from "./ballot.ts";
import { describeEntry, describeLogHeader, describeSuperblock, type JsonObject } from "./describe.ts";
import {
  GUARD_OFFSET,
  SUPERBLOCK_COPY_OFFSET,
  VOLUME_RECORD_COPY_OFFSET,
  VOLUME_RECORD_OFFSET,
} from "./extension-structs.ts";
import type { Finding } from "./finding.ts";
import { inspectLogHeader, type StoredLogHeader } from "./log-header.ts";
import { scanLog } from "./log-scan.ts";
import { guardLength, inspectGuardRange, inspectIdentity } from "./owner-claims.ts";
import { inspectDamage, inspectOwnerDetail, inspectSizeCell } from "./owner-detail.ts";
import {
  ackOffset,
  CLAIM_LINES_LENGTH,
  CLAIM_LINES_OFFSET,
  DAMAGE_LINES,
  damageOffset,
  detailOffset,
  OWNER_SLOTS,
  ownerRingOffset,
  SIZE_CELLS,
  sizeCellOffset,
  WRITER_SLOTS,
} from "./owner-layout.ts";
import { inspectAckLine, inspectClaimLines, inspectOwnerLines } from "./owner-lines.ts";
import { inspectOwnerRing } from "./owner-ring.ts";
import { inspectOwnerSlot, slotPageOffset } from "./owner-slot.ts";
import { SealedTree } from "./sealed-tree.ts";
import { LOG_OFFSET } from "./structs.ts";
import { inspectSuperblock, type StoredSuperblock } from "./superblock.ts";
import { inspectVolumeRecord, type VolumeRecord } from "./volume-record.ts";

/** More findings than this are counted, not kept: a hostile log has millions. */
const MAX_FINDINGS = 1000;

export interface FsckSummary {
  /** Bytes of the region. */
  readonly capacityBytes: number;
  /** Superblock, log and the extents of all files. */
  readonly allocatedBytes: number;
  readonly freeBytes: number;
  /** Sum of the sizes of all files. */
  readonly fileBytes: number;
  readonly files: number;
  readonly directories: number;
  readonly logEntries: number;
  readonly logCapacity: number;
  readonly extended: boolean;
  /** Of the owner slot that owns the log; 0 for none. */
  readonly epoch: number;
}

/** `superblock`, `log` and `entries` as describe.ts shapes them; null and empty where they cannot be believed. */
export interface FsckReport {
  readonly superblock: JsonObject | null;
  readonly log: JsonObject | null;
  readonly entries: readonly JsonObject[];
  readonly findings: readonly Finding[];
  /** Findings beyond those listed. */
  readonly omittedFindings: number;
  readonly summary: FsckSummary | undefined;
  readonly record: VolumeRecord | undefined;
  /** What the valid entries describe. */
  readonly tree: SealedTree | undefined;
}

/**
 * Checks a file system. `image` is the start of its region: superblock and log at least (what is cut off is a
 * finding). `regionLength`: bytes the region really has; without it the superblock is believed. Never throws.
 */
export function fsck(image: Uint8Array, regionLength?: number): FsckReport {
  const findings = new Findings();
  const { value: superblock, findings: problems } = inspectSuperblock(image);
  findings.add(problems);
  if (superblock === undefined) {
    if (inspectSuperblock(image, SUPERBLOCK_COPY_OFFSET).value !== undefined) {
      findings.add([
        {
          code: "SUPERBLOCK_CORRUPT",
          offset: SUPERBLOCK_COPY_OFFSET,
          message: "superblock: its repair copy is intact",
        },
      ]);
    }
    return { ...nothing(findings), superblock: null };
  }
  const described = describeSuperblock(superblock);
  const length = Math.min(regionLength ?? superblock.daxdevSize, superblock.daxdevSize);
  if (regionLength !== undefined && regionLength < superblock.daxdevSize) {
    findings.add([
      {
        code: "SUPERBLOCK_GEOMETRY",
        offset: 0,
        message: `superblock: device size ${superblock.daxdevSize}, but there are ${regionLength} bytes`,
      },
    ]);
  }
  const { value: stored, findings: recordProblems } = inspectVolumeRecord(image, VOLUME_RECORD_OFFSET, superblock.uuid);
  findings.add(recordProblems);
  // A damaged record is no reason to read the log in stock terms while its copy is good.
  const damaged = recordProblems.some((finding) => finding.code === "VOLUME_RECORD_CORRUPT");
  const record = damaged ? inspectVolumeRecord(image, VOLUME_RECORD_COPY_OFFSET, superblock.uuid).value : stored;
  const epoch = record === undefined ? 0 : checkOwners(image, record, findings);
  const header = inspectLogHeader(image, LOG_OFFSET, superblock.logLength);
  findings.add(header.findings);
  if (header.value === undefined) {
    return { ...nothing(findings), superblock: described, record };
  }
  const { slots, findings: bad } = scanLog(image.subarray(LOG_OFFSET), header.value, record !== undefined);
  findings.add(bad);
  const tree = new SealedTree({
    regionLength: length,
    dataOffset: LOG_OFFSET + superblock.logLength,
    allocUnit: superblock.allocUnit,
    extended: record !== undefined,
    rootUid: record?.rootUid ?? 0,
    rootGid: record?.rootGid ?? 0,
    rootMode: record?.rootMode ?? 0o755,
  });
  const entries: JsonObject[] = [];
  for (const { index, crc, typeCode, entry, covered } of slots) {
    findings.add(tree.apply(index, covered ? undefined : entry).findings);
    const content =
      entry === undefined ? { type: covered ? "retracted" : "malformed", code: typeCode } : describeEntry(entry);
    entries.push({ seqnum: index, crc, ...content });
  }
  for (const node of tree.byIndex.values()) {
    if (node.parent !== undefined || node === tree.root) continue;
    const message = `log entry ${node.index}: makes a ${node.kind} that no later entry gives a place`;
    findings.add([{ code: "NODE_DETACHED", index: node.index, message }]);
  }
  return {
    superblock: described,
    log: describeLogHeader(header.value),
    entries,
    findings: findings.kept,
    omittedFindings: findings.omitted,
    summary: { ...summarize(tree, superblock, header.value, length), logEntries: slots.length, epoch },
    record,
    tree,
  };
}

/** Identity, claims, detail pages and repair copies of an extended volume; the epoch of the owner. */
function checkOwners(image: Uint8Array, record: VolumeRecord, findings: Findings): number {
  const { value: identity, findings: unreadable } = inspectIdentity(image, GUARD_OFFSET);
  findings.add(unreadable);
  if (
    identity !== undefined &&
    (identity.volumeUuid !== record.volumeUuid ||
      identity.generation !== record.generation ||
      identity.layout !== record.layout ||
      identity.slots !== record.slots)
  ) {
    findings.add([
      {
        code: "VOLUME_RECORD_CORRUPT",
        offset: GUARD_OFFSET,
        message:
          `identity line: volume ${identity.volumeUuid} generation ${identity.generation} layout ${identity.layout} with ` +
          `${identity.slots} slots; the record says ${record.volumeUuid} generation ${record.generation} ` +
          `layout ${record.layout} with ${record.slots}`,
      },
    ]);
  }
  const owner = record.layout === 2 ? checkLines(image, findings) : checkClaims(image, record.slots, findings);
  const copy = inspectVolumeRecord(image, VOLUME_RECORD_COPY_OFFSET, record.superblockUuid);
  if (copy.value?.generation !== record.generation || copy.value.volumeUuid !== record.volumeUuid) {
    findings.add([
      {
        code: "VOLUME_RECORD_CORRUPT",
        offset: VOLUME_RECORD_COPY_OFFSET,
        message: "volume record: its repair copy is not the same",
      },
    ]);
  }
  return owner;
}

/** Layout 1; the epoch of the owner. */
function checkClaims(image: Uint8Array, slots: number, findings: Findings): number {
  const guard = inspectGuardRange(image.subarray(GUARD_OFFSET, GUARD_OFFSET + guardLength(slots)), slots);
  findings.add(guard.findings.filter(({ code }) => code !== "VOLUME_RECORD_CORRUPT"));
  for (let slot = 0; slot < slots; slot++) {
    findings.add(inspectOwnerSlot(image, slotPageOffset(slot), slot).findings);
  }
  return guard.owner?.epoch ?? 0;
}

/** Layout 2; the round of the owner. */
function checkLines(image: Uint8Array, findings: Findings): number {
  findings.add(inspectOwnerLines(image));
  for (let slot = 0; slot < OWNER_SLOTS; slot++) findings.add(inspectAckLine(image, ackOffset(slot), slot).findings);
  for (let slot = 0; slot < WRITER_SLOTS; slot++) {
    findings.add(inspectOwnerDetail(image, detailOffset(slot), slot).findings);
    findings.add(inspectOwnerRing(image, ownerRingOffset(slot), slot).findings);
    for (let line = 0; line < DAMAGE_LINES; line++) {
      findings.add(inspectDamage(image, damageOffset(slot, line), slot).findings);
    }
    for (let line = 0; line < 2 * SIZE_CELLS; line++) {
      findings.add(inspectSizeCell(image, sizeCellOffset(slot, line >> 1, line & 1), slot).findings);
    }
  }
  const { claims } = inspectClaimLines(image.subarray(CLAIM_LINES_OFFSET, CLAIM_LINES_OFFSET + CLAIM_LINES_LENGTH));
  return highest(claims, ({ ballot }) => ballot)?.ballot.round ?? 0;
}

function summarize(
  tree: SealedTree,
  superblock: StoredSuperblock,
  header: StoredLogHeader,
  capacityBytes: number,
): Omit<FsckSummary, "logEntries" | "epoch"> {
  const allocatedBytes = LOG_OFFSET + superblock.logLength + tree.used(0).total;
  return {
    capacityBytes,
    allocatedBytes,
    freeBytes: Math.max(0, capacityBytes - allocatedBytes),
    ...tree.counts,
    logCapacity: header.lastIndex + 1,
    extended: tree.extended,
  };
}

function nothing(findings: Findings): FsckReport {
  return {
    superblock: null,
    log: null,
    entries: [],
    findings: findings.kept,
    omittedFindings: findings.omitted,
    summary: undefined,
    record: undefined,
    tree: undefined,
  };
}

class Findings {
  readonly kept: Finding[] = [];
  omitted = 0;

  add(findings: readonly Finding[]): void {
    for (const finding of findings) {
      if (this.kept.length < MAX_FINDINGS) this.kept.push(finding);
      else this.omitted++;
    }
  }
}
