import { createHash } from "node:crypto";
import { uuidFromBytes, uuidToBytes } from "../base/index.ts";
import { crcHolds, sealCrc } from "./crc.ts";
import {
  CLAIM_MAGIC,
  ClaimFlag,
  ClaimStruct,
  GUARD_OFFSET,
  IDENTITY_MAGIC,
  IdentityStruct,
  type VolumeLayout,
} from "./extension-structs.ts";
import { type Finding, type Inspected, inspect } from "./finding.ts";
import { isZero, readU64 } from "./integers.ts";

/** First line of the guard range: which volume this memory is. */
export interface Identity {
  readonly volumeUuid: string;
  readonly generation: number;
  readonly layout: VolumeLayout;
  readonly slots: number;
}

/** What the node of a slot says about its ownership of the log. Only that node ever writes it. */
export interface OwnerClaim {
  readonly slot: number;
  readonly epoch: number;
  /** 16 hex digits: `nodeIdHash(nodeId)`. */
  readonly nodeIdHash: string;
  /** 32 hex digits, new with each claim: tells apart two claims of one node. */
  readonly nonce: string;
  /** The node gave the log up; it appends nothing more under this epoch. */
  readonly released: boolean;
}

export const IDENTITY_SIZE = IdentityStruct.size;
export const CLAIM_SIZE = ClaimStruct.size;

/** Bytes of the guard range of a volume with `slots` owner slots. */
export function guardLength(slots: number): number {
  return IDENTITY_SIZE + slots * CLAIM_SIZE;
}

/** Where the claim of `slot` is, from the start of the region. */
export function claimOffset(slot: number): number {
  return GUARD_OFFSET + IDENTITY_SIZE + slot * CLAIM_SIZE;
}

/** First 8 bytes of the SHA-256 of the node id. */
export function nodeIdHash(nodeId: string): string {
  return createHash("sha256").update(nodeId, "utf8").digest("hex").slice(0, 16);
}

export function encodeIdentity(identity: Identity): Uint8Array {
  const bytes = IdentityStruct.encode({
    id_magic: IDENTITY_MAGIC,
    id_version: identity.layout,
    id_slots: identity.slots,
    id_volume_uuid: uuidToBytes(identity.volumeUuid),
    id_generation: identity.generation,
    id_crc: 0n,
  });
  sealCrc(bytes, 0, IdentityStruct.offsets.id_crc);
  return bytes;
}

export function inspectIdentity(bytes: Uint8Array, base: number): Inspected<Identity> {
  const refuse = (message: string): Inspected<Identity> => ({
    value: undefined,
    findings: [{ code: "VOLUME_RECORD_CORRUPT", offset: base, message: `identity line: ${message}` }],
  });
  if (readU64(bytes, base) !== IDENTITY_MAGIC) return refuse("wrong magic");
  if (base + IDENTITY_SIZE > bytes.byteLength) return refuse("cut off");
  if (!crcHolds(bytes, base, IdentityStruct.offsets.id_crc)) return refuse("wrong crc");
  return inspect("VOLUME_RECORD_CORRUPT", base, () => {
    const raw = IdentityStruct.decode(bytes, base);
    const layout: VolumeLayout = raw.id_version === 2 ? 2 : 1;
    return {
      volumeUuid: uuidFromBytes(raw.id_volume_uuid),
      generation: raw.id_generation,
      layout,
      slots: raw.id_slots,
    };
  });
}

export function encodeClaim(claim: OwnerClaim): Uint8Array {
  const bytes = ClaimStruct.encode({
    oc_magic: CLAIM_MAGIC,
    oc_slot: claim.slot,
    oc_epoch: claim.epoch,
    oc_node_hash: Buffer.from(claim.nodeIdHash, "hex"),
    oc_nonce: Buffer.from(claim.nonce, "hex"),
    oc_flags: claim.released ? ClaimFlag.RELEASED : 0,
    oc_crc: 0n,
  });
  sealCrc(bytes, 0, ClaimStruct.offsets.oc_crc);
  return bytes;
}

/** The claim at `base`; all zero is a slot that nobody used yet: no value, no finding. */
export function inspectClaim(bytes: Uint8Array, base: number, slot: number): Inspected<OwnerClaim> {
  const refuse = (message: string): Inspected<OwnerClaim> => ({
    value: undefined,
    findings: [{ code: "OWNER_CLAIM_CORRUPT", offset: base, message: `owner claim of slot ${slot}: ${message}` }],
  });
  if (!(base >= 0 && base + CLAIM_SIZE <= bytes.byteLength)) return refuse("cut off");
  if (isZero(bytes, base, CLAIM_SIZE)) return { value: undefined, findings: [] };
  if (!crcHolds(bytes, base, ClaimStruct.offsets.oc_crc)) return refuse("wrong crc");
  const decoded = inspect("OWNER_CLAIM_CORRUPT", base, () => ClaimStruct.decode(bytes, base));
  const raw = decoded.value;
  if (raw === undefined) return { value: undefined, findings: decoded.findings };
  if (raw.oc_magic !== CLAIM_MAGIC) return refuse("wrong magic");
  if (raw.oc_slot !== slot) return refuse(`says slot ${raw.oc_slot}`);
  return {
    value: {
      slot,
      epoch: raw.oc_epoch,
      nodeIdHash: Buffer.from(raw.oc_node_hash).toString("hex"),
      nonce: Buffer.from(raw.oc_nonce).toString("hex"),
      released: (raw.oc_flags & ClaimFlag.RELEASED) !== 0,
    },
    findings: [],
  };
}

export interface GuardRange {
  readonly identity: Identity | undefined;
  /** In order of slot. */
  readonly claims: readonly OwnerClaim[];
  /**
   * The claim that owns the log: the highest epoch wins. Two slots with one epoch are both named in a finding and
   * neither owns.
   */
  readonly owner: OwnerClaim | undefined;
  /** The highest epoch in memory, 0 when there is none. */
  readonly highestEpoch: number;
  /** Offsets are those in the region. */
  readonly findings: readonly Finding[];
}

/** Judges a copy of the guard range: identity line and `slots` claims, beginning at `bytes[0]`. */
export function inspectGuardRange(bytes: Uint8Array, slots: number): GuardRange {
  const identity = inspectIdentity(bytes, 0);
  const findings: Finding[] = identity.findings.map((finding) => ({ ...finding, offset: GUARD_OFFSET }));
  const claims: OwnerClaim[] = [];
  for (let slot = 0; slot < slots; slot++) {
    const claim = inspectClaim(bytes, IDENTITY_SIZE + slot * CLAIM_SIZE, slot);
    if (claim.value !== undefined) claims.push(claim.value);
    findings.push(...claim.findings.map((finding) => ({ ...finding, offset: claimOffset(slot) })));
  }
  let highestEpoch = 0;
  for (const claim of claims) highestEpoch = Math.max(highestEpoch, claim.epoch);
  const holders = claims.filter((claim) => claim.epoch === highestEpoch);
  const [owner] = holders;
  if (holders.length > 1) {
    findings.push({
      code: "OWNER_CLAIM_CORRUPT",
      offset: claimOffset(holders[1]?.slot ?? 0),
      message: `epoch ${highestEpoch} is claimed by slots ${holders.map((claim) => claim.slot).join(" and ")}`,
    });
  }
  return {
    identity: identity.value,
    claims,
    owner: holders.length === 1 ? owner : undefined,
    highestEpoch,
    findings,
  };
}
