import { FamfsError } from "../base/index.ts";

/** CSI "Size Limits": 128 bytes for a string, 4 KiB for a map or a list of strings, unless a field says otherwise. */
const STRING_BYTES = 128;
const COLLECTION_BYTES = 4096;
/** The longest path the kernel takes. */
const PATH_BYTES = 4096;

/** Fields whose limit is not the general one. */
const OVERRIDES: Readonly<Record<string, number>> = {
  stagingTargetPath: PATH_BYTES,
  targetPath: PATH_BYTES,
  volumePath: PATH_BYTES,
  nodeId: 256, // CSI NodeGetInfoResponse
  error: PATH_BYTES, // the kubelet's reason in a registration status
};

/** Maps of strings; every other object is a message. */
const MAPS: ReadonlySet<string> = new Set([
  "parameters",
  "mutableParameters",
  "volumeContext",
  "publishContext",
  "segments",
]);

/** Never looked at: their contents are not ours to judge, nor to name in a message. */
const SKIPPED: ReadonlySet<string> = new Set(["secrets"]);

/**
 * Refuses a request with an oversized field (INVALID_ARGUMENT) before anything reads it. Walks whatever is there, so
 * that a new message needs no entry here. Messages nest a few levels at most; protobuf bounds the depth on receipt.
 */
export function checkFieldSizes(message: object, path = ""): void {
  for (const [name, value] of Object.entries(message)) {
    if (SKIPPED.has(name)) continue;
    const field = path === "" ? name : `${path}.${name}`;
    if (typeof value === "string") check(field, Buffer.byteLength(value), OVERRIDES[name] ?? STRING_BYTES);
    else if (Array.isArray(value)) {
      const items: readonly unknown[] = value;
      check(field, bytesOf(items.flatMap((item) => (typeof item === "string" ? [item] : []))), COLLECTION_BYTES);
      items.forEach((item, index) => {
        if (typeof item === "object" && item !== null) checkFieldSizes(item, `${field}[${index}]`);
      });
    } else if (typeof value === "object" && value !== null) {
      if (MAPS.has(name))
        check(field, bytesOf(Object.entries(value as Record<string, string>).flat()), COLLECTION_BYTES);
      else checkFieldSizes(value, field);
    }
  }
}

function bytesOf(strings: readonly string[]): number {
  return strings.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
}

function check(field: string, bytes: number, limit: number): void {
  if (bytes > limit) throw new FamfsError("INVALID_ARGUMENT", `${field} has ${bytes} bytes, the limit is ${limit}`);
}
