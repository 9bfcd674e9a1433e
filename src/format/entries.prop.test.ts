import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cases } from "../../test/support/cases.ts";
import { EntryDecoder } from "./entry-decode.ts";
import { encodeEntries, encodeEntry } from "./entry-encode.ts";
import { EXTENSION_VERSION, ExtensionType, MAX_SYMLINK_TARGET } from "./extension-structs.ts";
import type { LogEntry } from "./log-entry.ts";
import { ENTRY_SIZE } from "./structs.ts";
import { anyEntry } from "./testing/arbitraries.ts";

test("every entry decodes to what was encoded, and nothing else passes its check", () => {
  fc.assert(
    fc.property(anyEntry, fc.nat(100_000), fc.nat(ENTRY_SIZE * 8 - 1), (entry, index, bit) => {
      const bytes = encodeEntry(index, entry);
      const decoder = new EntryDecoder(bytes, true);
      assert.equal(decoder.check(0, index), undefined);
      assert.equal(decoder.check(0, index + 1)?.code, "ENTRY_CORRUPT");
      assert.deepEqual(decoder.decode(0, index), { entry });
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.equal(decoder.check(0, index)?.code, "ENTRY_CORRUPT", `bit ${bit} flipped`);
    }),
    cases(100),
  );
});

test("a transaction is its entries one after the other", () => {
  fc.assert(
    fc.property(fc.array(anyEntry, { maxLength: 8 }), fc.nat(1000), (entries, first) => {
      const bytes = encodeEntries(first, entries);
      assert.equal(bytes.byteLength, entries.length * ENTRY_SIZE);
      const decoder = new EntryDecoder(bytes, true);
      for (const [position, entry] of entries.entries()) {
        assert.equal(decoder.check(position * ENTRY_SIZE, first + position), undefined);
        assert.deepEqual(decoder.decode(position * ENTRY_SIZE, first + position), { entry });
      }
    }),
    cases(30),
  );
});

const link = { parent: -1, name: "n" };
const attributes = { mode: 0o644, uid: 1, gid: 2, mtime: { seconds: -5, nanoseconds: 7 } };

test("on a stock volume an extension entry is an unknown type, and a trailer does not count", () => {
  const relink: LogEntry = { type: "relink", target: 3, link, ...attributes };
  const { entry } = new EntryDecoder(encodeEntry(0, relink), false).decode(0, 0);
  assert.equal(entry?.type === "unknown" && entry.code, ExtensionType.RELINK);
  const mkdir = encodeEntry(0, { type: "mkdir", path: "d", mode: 0o755, uid: 0, gid: 0, mtime: attributes.mtime });
  const decoded = new EntryDecoder(mkdir, false).decode(0, 0);
  assert.ok(decoded.entry !== undefined && !("mtime" in decoded.entry));
});

test("what an entry cannot say is refused before a byte is written", () => {
  const extent = { devindex: 0, offset: 0, length: 1 };
  const file = { type: "file", path: "f", size: 1, flags: 2, uid: 0, gid: 0, mode: 0 } as const;
  const refusals: [string, LogEntry][] = [
    ["NAME_TOO_LONG", { ...file, path: "x".repeat(80), layout: { type: "simple", extents: [extent] } }],
    ["INVALID_ARGUMENT", { ...file, layout: { type: "simple", extents: [] } }],
    ["INVALID_ARGUMENT", { ...file, layout: { type: "simple", extents: Array(17).fill(extent) } }],
    [
      "INVALID_ARGUMENT",
      { ...file, mtime: attributes.mtime, layout: { type: "simple", extents: Array(16).fill(extent) } },
    ],
    ["INVALID_ARGUMENT", { ...file, size: -1, layout: { type: "simple", extents: [extent] } }],
    ["NAME_TOO_LONG", { type: "relink", target: 1, link: { parent: -1, name: "x".repeat(256) }, ...attributes }],
    ["NAME_INVALID", { type: "relink", target: 1, link: { parent: -1, name: "a/b" }, ...attributes }],
    ["NAME_INVALID", { type: "relink", target: 1, link: { parent: -1, name: ".." }, ...attributes }],
    [
      "NAME_TOO_LONG",
      { type: "node", kind: "symlink", link, ...attributes, symlinkTarget: "x".repeat(MAX_SYMLINK_TARGET) },
    ],
  ];
  for (const [code, entry] of refusals) assert.throws(() => encodeEntry(0, entry), { code }, JSON.stringify(entry));
});

test("an extension entry of another version is malformed, not ignored", () => {
  const bytes = encodeEntry(0, { type: "relink", target: 3, link: undefined, ...attributes });
  assert.equal(bytes[16], EXTENSION_VERSION);
  bytes[16] = EXTENSION_VERSION + 1;
  const decoded = new EntryDecoder(bytes, true).decode(0, 0);
  assert.ok(decoded.entry === undefined);
  assert.match(decoded.finding.message, /version 2 needs a newer famfs-csi/);
});
