import { crc32 } from "node:zlib";

/** zlib's CRC-32 of bytes [base, base + length): what every structure of the format uses (format 4). */
export function crcOf(bytes: Uint8Array, base: number, length: number): number {
  return crc32(bytes.subarray(base, base + length));
}

/** Writes the CRC of what precedes the u64 at `base + at` into it; the high half is zero. */
export function sealCrc(bytes: Uint8Array, base: number, at: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint32(base + at, crcOf(bytes, base, at), true);
  view.setUint32(base + at + 4, 0, true);
}

/** Whether the u64 at `base + at` is the CRC of bytes [base, base + at). */
export function crcHolds(bytes: Uint8Array, base: number, at: number): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(base + at + 4, true) === 0 && view.getUint32(base + at, true) === crcOf(bytes, base, at);
}
