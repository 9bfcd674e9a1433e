import { FamfsError } from "./error.ts";

/** The 16 raw bytes in the order of the text form, nothing swapped (format 3.1). */
export function uuidToBytes(text: string): Uint8Array {
  const hex = text.replaceAll("-", "");
  if (!/^[0-9a-fA-F]{32}$/.test(hex)) {
    throw new FamfsError("INVALID_ARGUMENT", `"${text}" is not a UUID`);
  }
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

/** Lower-case text with dashes. */
export function uuidFromBytes(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
