import { FamfsError } from "./error.ts";

/**
 * Declarative tables of C structures: one table drives decode, encode, the size check, debug print and the
 * documentation. Byte order is little-endian throughout (format 1).
 *
 * Field types and what they decode to:
 *   u8 u16 u32 s32   number
 *   u64              bigint: any bit pattern may arrive (magic, crc)
 *   size, ssize      number: a 64-bit integer checked to be a safe integer
 *   bytes            Uint8Array of `length`: a view on decode, copied and zero padded on encode
 *   text             string of `length` bytes, NUL padded, unterminated when full; one char per byte (latin1),
 *                    so that names of any bytes survive
 *   pad              `length` bytes, zero on write, ignored on read
 */
export type Field =
  | { at: number; type: "u8" | "u16" | "u32" | "s32" | "u64" | "size" | "ssize"; show?: "hex" }
  | { at: number; type: "bytes" | "text" | "pad"; length: number };

type Value<F extends Field> = F extends { type: "u8" | "u16" | "u32" | "s32" | "size" | "ssize" }
  ? number
  : F extends { type: "u64" }
    ? bigint
    : F extends { type: "bytes" }
      ? Uint8Array
      : F extends { type: "text" }
        ? string
        : never;

type Record_<Fields extends Record<string, Field>> = {
  -readonly [Name in keyof Fields as Fields[Name] extends { type: "pad" } ? never : Name]: Value<Fields[Name]>;
};

const WIDTH = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8, size: 8, ssize: 8 } as const;

function widthOf(field: Field): number {
  return "length" in field ? field.length : WIDTH[field.type];
}

export class Struct<const Fields extends Record<string, Field>> {
  readonly name: string;
  readonly size: number;
  readonly fields: Fields;
  /** Byte offsets by field name, for readers on the request path that build no object. */
  readonly offsets: { readonly [Name in keyof Fields]: Fields[Name]["at"] };
  /** Record type of this table: `typeof LogHeader.$type`. Never set. */
  declare readonly $type: Record_<Fields>;
  readonly #list: [string, Field][];

  /** Throws when `fields` leave a gap, overlap or do not end at `size`. */
  constructor(name: string, size: number, fields: Fields) {
    this.name = name;
    this.size = size;
    this.fields = fields;
    this.#list = Object.entries(fields);
    const offsets: Record<string, number> = {};
    let end = 0;
    for (const [field, spec] of this.#list) {
      if (spec.at !== end)
        throw new Error(`struct ${name}: ${field} is at ${spec.at}, the field before ends at ${end}`);
      offsets[field] = spec.at;
      end += widthOf(spec);
    }
    if (end !== size) throw new Error(`struct ${name}: fields end at ${end}, size is ${size}`);
    this.offsets = offsets as { readonly [Name in keyof Fields]: Fields[Name]["at"] };
  }

  /** Bytes [base, base + size) of `bytes` as a record. Throws OUT_OF_RANGE when they are not all there. */
  decode(bytes: Uint8Array, base = 0): Record_<Fields> {
    this.#check(bytes, base);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const record: Record<string, unknown> = {};
    for (const [name, field] of this.#list) {
      if (field.type !== "pad") record[name] = this.#read(view, bytes, base, name, field);
    }
    return record as Record_<Fields>;
  }

  /** Writes `record` at `base`; padding becomes zero. */
  encode(record: Record_<Fields>, target: Uint8Array = new Uint8Array(this.size), base = 0): Uint8Array {
    this.#check(target, base);
    const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
    target.fill(0, base, base + this.size);
    const values = record as Record<string, unknown>;
    for (const [name, field] of this.#list) {
      if (field.type !== "pad") this.#write(view, target, base, name, field, values[name]);
    }
    return target;
  }

  /** One line for people and debug logs. */
  show(record: Record_<Fields>): string {
    const values = record as Record<string, unknown>;
    const parts = this.#list
      .filter(([, field]) => field.type !== "pad")
      .map(([name, field]) => {
        const value = values[name];
        if (value instanceof Uint8Array) return `${name}=${Buffer.from(value).toString("hex")}`;
        if ("show" in field && typeof value !== "string") return `${name}=0x${(value as number | bigint).toString(16)}`;
        return `${name}=${typeof value === "string" ? JSON.stringify(value) : String(value)}`;
      });
    return `${this.name}{${parts.join(" ")}}`;
  }

  #check(bytes: Uint8Array, base: number): void {
    if (!(base >= 0 && base + this.size <= bytes.byteLength)) {
      throw new FamfsError(
        "OUT_OF_RANGE",
        `${this.name}: needs ${this.size} bytes at ${base}, there are ${bytes.byteLength}`,
      );
    }
  }

  #read(view: DataView, bytes: Uint8Array, base: number, name: string, field: Field): unknown {
    const at = base + field.at;
    switch (field.type) {
      case "u8":
        return view.getUint8(at);
      case "u16":
        return view.getUint16(at, true);
      case "u32":
        return view.getUint32(at, true);
      case "s32":
        return view.getInt32(at, true);
      case "u64":
        return view.getBigUint64(at, true);
      case "size":
        return this.#safe(name, view.getBigUint64(at, true));
      case "ssize":
        return this.#safe(name, view.getBigInt64(at, true));
      case "bytes":
        return bytes.subarray(at, at + field.length);
      case "text": {
        const end = bytes.subarray(at, at + field.length).indexOf(0);
        const length = end < 0 ? field.length : end;
        return Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString("latin1");
      }
      case "pad":
        return undefined;
    }
  }

  #write(view: DataView, target: Uint8Array, base: number, name: string, field: Field, value: unknown): void {
    const at = base + field.at;
    switch (field.type) {
      case "u8":
        view.setUint8(at, value as number);
        return;
      case "u16":
        view.setUint16(at, value as number, true);
        return;
      case "u32":
        view.setUint32(at, value as number, true);
        return;
      case "s32":
        view.setInt32(at, value as number, true);
        return;
      case "u64":
        view.setBigUint64(at, value as bigint, true);
        return;
      case "size":
      case "ssize": {
        const number = value as number;
        if (!Number.isSafeInteger(number) || (field.type === "size" && number < 0)) {
          throw new FamfsError("INVALID_ARGUMENT", `${this.name}.${name}: ${number} is not a safe 64-bit value`);
        }
        view.setBigInt64(at, BigInt(number), true);
        return;
      }
      case "bytes":
      case "text": {
        const data = typeof value === "string" ? Buffer.from(value, "latin1") : (value as Uint8Array);
        if (data.byteLength > field.length) {
          throw new FamfsError(
            "INVALID_ARGUMENT",
            `${this.name}.${name}: ${data.byteLength} bytes, room for ${field.length}`,
          );
        }
        target.set(data, at);
        return;
      }
      case "pad":
        return;
    }
  }

  #safe(name: string, value: bigint): number {
    const number = Number(value);
    if (!Number.isSafeInteger(number)) {
      throw new FamfsError("OUT_OF_RANGE", `${this.name}.${name}: ${value} is beyond 2^53 - 1`);
    }
    return number;
  }
}
