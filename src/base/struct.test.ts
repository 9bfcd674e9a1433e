import assert from "node:assert/strict";
import { test } from "node:test";
import { Struct } from "./struct.ts";

const Example = new Struct("example", 48, {
  a_u8: { at: 0, type: "u8" },
  pad: { at: 1, type: "pad", length: 1 },
  a_u16: { at: 2, type: "u16" },
  a_u32: { at: 4, type: "u32", show: "hex" },
  a_size: { at: 8, type: "size" },
  a_ssize: { at: 16, type: "ssize" },
  a_u64: { at: 24, type: "u64" },
  a_bytes: { at: 32, type: "bytes", length: 4 },
  a_s32: { at: 36, type: "s32" },
  a_text: { at: 40, type: "text", length: 8 },
});

const record = {
  a_u8: 255,
  a_u16: 0xfffe,
  a_u32: 0xfffffffd,
  a_size: 2 ** 53 - 1,
  a_ssize: -5,
  a_u64: 2n ** 64n - 1n,
  a_bytes: Uint8Array.of(1, 2, 3, 4),
  a_s32: -7,
  a_text: "ab\xff",
};

test("a record survives encoding, with zeros in its padding", () => {
  const target = new Uint8Array(60).fill(0xee);
  Example.encode(record, target, 6);
  assert.equal(target[6 + 1], 0);
  assert.deepEqual([target[5], target[54]], [0xee, 0xee], "nothing outside is touched");
  assert.deepEqual(Example.decode(target, 6), record);
});

test("text that fills its field has no terminator, and ends there", () => {
  const bytes = Example.encode({ ...record, a_text: "12345678" });
  assert.equal(Example.decode(bytes).a_text, "12345678");
  assert.throws(() => Example.encode({ ...record, a_text: "123456789" }), { code: "INVALID_ARGUMENT" });
});

test("integers beyond 2^53 - 1 and bytes that are not there are OUT_OF_RANGE", () => {
  const bytes = Example.encode(record);
  new DataView(bytes.buffer).setBigUint64(8, 2n ** 53n, true);
  assert.throws(() => Example.decode(bytes), { code: "OUT_OF_RANGE" });
  assert.throws(() => Example.decode(bytes, 1), { code: "OUT_OF_RANGE" });
  assert.throws(() => Example.decode(bytes, -1), { code: "OUT_OF_RANGE" });
  assert.throws(() => Example.decode(bytes, Number.NaN), { code: "OUT_OF_RANGE" });
  assert.throws(() => Example.encode({ ...record, a_size: -1 }), { code: "INVALID_ARGUMENT" });
  assert.throws(() => Example.encode({ ...record, a_size: 0.5 }), { code: "INVALID_ARGUMENT" });
});

test("a table with a gap, an overlap or a wrong size does not load", () => {
  assert.throws(
    () => new Struct("gap", 9, { a: { at: 0, type: "u32" }, b: { at: 5, type: "u32" } }),
    /before ends at 4/,
  );
  assert.throws(() => new Struct("overlap", 7, { a: { at: 0, type: "u32" }, b: { at: 3, type: "u32" } }), /ends at 4/);
  assert.throws(() => new Struct("short", 9, { a: { at: 0, type: "u64" } }), /end at 8, size is 9/);
});

test("a record prints as one line", () => {
  assert.equal(
    Example.show(record),
    "example{a_u8=255 a_u16=65534 a_u32=0xfffffffd a_size=9007199254740991 a_ssize=-5 a_u64=18446744073709551615 " +
      'a_bytes=01020304 a_s32=-7 a_text="abÿ"}',
  );
});
