/** The little-endian u64 at `at`; 0 when it is not there. */
export function readU64(bytes: Uint8Array, at: number): bigint {
  if (!(at >= 0 && at + 8 <= bytes.byteLength)) return 0n;
  return new DataView(bytes.buffer, bytes.byteOffset + at, 8).getBigUint64(0, true);
}

/** Whether bytes [base, base + length) are all zero. */
export function isZero(bytes: Uint8Array, base = 0, length = bytes.byteLength - base): boolean {
  const end = Math.min(base + length, bytes.byteLength);
  for (let at = base; at < end; at++) if (bytes[at] !== 0) return false;
  return true;
}

/** Index on media of the root, and of "none": all ones. */
export const ALL_ONES = 0xffffffffffffffffn;

/** `index` for a u64 field that says ROOT_INDEX as all ones. */
export function encodeIndex(index: number): bigint {
  return index < 0 ? ALL_ONES : BigInt(index);
}

/** ROOT_INDEX for all ones; undefined for a number no log index can be. */
export function decodeIndex(value: bigint): number | undefined {
  if (value === ALL_ONES) return -1;
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined;
}
