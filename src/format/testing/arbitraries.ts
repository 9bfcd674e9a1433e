/** Generators for property tests. */
import fc from "fast-check";
import { ALLOC_UNIT } from "../../base/index.ts";
import { sealCrc } from "../crc.ts";
import { MAX_PLACEMENT_HEAP } from "../extension-structs.ts";
import { type DeviceExtent, FILLER_RUN, type Layout, type Link, type LogEntry, type Time } from "../log-entry.ts";
import { ENTRY_CRC_OFFSET, ENTRY_SIZE } from "../structs.ts";

const u32 = fc.nat(0xffffffff);
const size = fc.maxSafeNat();
const byteChar = fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code));
const bytes = (length: { minLength: number; maxLength: number }) =>
  fc.array(byteChar, length).map((chars) => chars.join(""));

export const time: fc.Arbitrary<Time> = fc.record({
  seconds: fc.oneof(fc.integer(), fc.maxSafeInteger()),
  nanoseconds: fc.nat(999_999_999),
});

export const name: fc.Arbitrary<string> = fc
  .oneof(bytes({ minLength: 1, maxLength: 12 }), bytes({ minLength: 250, maxLength: 255 }))
  .map((text) => text.replaceAll("/", "_"))
  .filter((text) => text !== "." && text !== "..");

const link: fc.Arbitrary<Link> = fc.record({ parent: fc.oneof(fc.constant(-1), fc.nat(50), size), name });

const anyExtent: fc.Arbitrary<DeviceExtent> = fc.record({ devindex: fc.nat(3), offset: size, length: size });
const anyLayout = (limit: number): fc.Arbitrary<Layout> =>
  fc.oneof(
    fc.record({
      type: fc.constant("simple" as const),
      extents: fc.array(anyExtent, { minLength: 1, maxLength: limit }),
    }),
    fc.record({
      type: fc.constant("interleaved" as const),
      chunkSize: size,
      strips: fc.array(anyExtent, { minLength: 1, maxLength: limit }),
    }),
  );

const owner = { uid: u32, gid: u32, mode: u32 };
const placement = { ...owner, mtime: fc.option(time, { nil: undefined }), link: fc.option(link, { nil: undefined }) };
const hex = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((value) => Buffer.from(value).toString("hex"));

/** What an entry of an extended volume can say, sensible or not. */
export const anyEntry: fc.Arbitrary<LogEntry> = fc
  .oneof(
    fc.record({
      type: fc.constant("file" as const),
      path: bytes({ minLength: 0, maxLength: 79 }),
      size,
      flags: u32,
      ...owner,
      layout: anyLayout(16),
    }),
    fc.record({
      type: fc.constant("file" as const),
      path: bytes({ minLength: 0, maxLength: 79 }),
      size,
      flags: u32,
      ...owner,
      layout: anyLayout(15),
      mtime: time,
    }),
    fc.record(
      { type: fc.constant("mkdir" as const), path: bytes({ minLength: 0, maxLength: 79 }), ...owner, mtime: time },
      { requiredKeys: ["type", "path", "uid", "gid", "mode"] },
    ),
    fc.record({ type: fc.constant("delete" as const) }),
    fc.record({ type: fc.constant("invalid" as const) }),
    fc.record({ type: fc.constant("addDaxdev" as const), size, uuid: fc.uuid(), index: u32 }),
    fc.record({ type: fc.constant("relink" as const), target: fc.oneof(fc.constant(-1), size), ...placement }),
    fc.record({
      type: fc.constant("node" as const),
      kind: fc.constant("file" as const),
      symlinkTarget: fc.constant(""),
      ...placement,
    }),
    fc
      .record({
        type: fc.constant("node" as const),
        kind: fc.constant("symlink" as const),
        symlinkTarget: bytes({ minLength: 1, maxLength: MAX_PLACEMENT_HEAP }),
        ...placement,
      })
      .map((entry) => ({
        ...entry,
        symlinkTarget: entry.symlinkTarget.slice(0, MAX_PLACEMENT_HEAP - (entry.link?.name.length ?? 0)),
      })),
    fc.record({
      type: fc.constant("filler" as const),
      first: size,
      run: fc.integer({ min: 1, max: FILLER_RUN }),
      epoch: size,
      nodeIdHash: hex(8),
    }),
    fc.record({
      type: fc.constant("unknown" as const),
      code: fc.integer({ min: 5, max: 0x66780000 }),
      payload: fc.uint8Array({ minLength: 520, maxLength: 520 }),
    }),
  )
  // Records have no prototype: a clone has.
  .map((entry) => structuredClone(entry));

const smallName = fc.constantFrom("a", "b", "c", "d");
const smallIndex = fc.integer({ min: -1, max: 24 });
const smallPath = fc.array(smallName, { minLength: 1, maxLength: 3 }).map((names) => names.join("/"));
const smallExtent = fc.record({
  devindex: fc.constant(0),
  offset: fc.integer({ min: 4, max: 40 }).map((unit) => unit * ALLOC_UNIT),
  length: fc.integer({ min: 1, max: 3 }).map((unit) => unit * ALLOC_UNIT),
});
const smallLink = fc.option(fc.record({ parent: smallIndex, name: smallName }), { nil: undefined, freq: 6 });
const fixed = { uid: fc.nat(2), gid: fc.nat(2), mode: fc.constantFrom(0o644, 0o755) };

/** Entries over so few names, nodes and units that they collide all the time. */
export const collidingEntry = (index: number): fc.Arbitrary<LogEntry> =>
  fc.oneof(
    fc.record({
      type: fc.constant("file" as const),
      path: fc.oneof(smallPath, fc.constant(`.famfs-${index}`), fc.constantFrom("", "/a", "..", "a/../b", "a//b")),
      size: fc.integer({ min: 0, max: 4 * ALLOC_UNIT }),
      flags: fc.constant(2),
      ...fixed,
      layout: fc.oneof(
        fc.record({
          type: fc.constant("simple" as const),
          extents: fc.array(smallExtent, { minLength: 1, maxLength: 3 }),
        }),
        fc.record({
          type: fc.constant("interleaved" as const),
          chunkSize: fc.constantFrom(ALLOC_UNIT, 2 * ALLOC_UNIT, 4096),
          strips: fc.array(smallExtent, { minLength: 1, maxLength: 3 }),
        }),
      ),
    }),
    fc.record({
      type: fc.constant("mkdir" as const),
      path: fc.oneof(smallPath, fc.constant(`.famfs-${index}`)),
      ...fixed,
    }),
    fc.record({
      type: fc.constant("relink" as const),
      target: smallIndex,
      link: smallLink,
      ...fixed,
      mtime: fc.constant(undefined),
    }),
    fc.record({
      type: fc.constant("node" as const),
      kind: fc.constant("symlink" as const),
      link: smallLink,
      ...fixed,
      mtime: fc.constant(undefined),
      symlinkTarget: fc.constant("a"),
    }),
    fc.record({
      type: fc.constant("addDaxdev" as const),
      size: fc.constant(100 * ALLOC_UNIT),
      uuid: fc.constant("00112233-4455-6677-8899-aabbccddeeff"),
      index: fc.nat(2),
    }),
    fc.record({ type: fc.constantFrom("delete" as const, "invalid" as const) }),
  );

/** Bytes of an entry with hostile content behind a valid seqnum and crc. */
export function hostileEntry(index: number, type: number, payload: Uint8Array): Uint8Array {
  const entry = new Uint8Array(ENTRY_SIZE);
  const view = new DataView(entry.buffer);
  view.setBigUint64(0, BigInt(index), true);
  view.setUint32(8, type, true);
  entry.set(payload.subarray(0, 520), 16);
  sealCrc(entry, 0, ENTRY_CRC_OFFSET);
  return entry;
}
