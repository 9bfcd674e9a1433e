import type { Field, Struct } from "../base/index.ts";
import { crcHolds, sealCrc } from "./crc.ts";
import { type FindingCode, type Inspected, inspect } from "./finding.ts";
import { isZero } from "./integers.ts";

type Integer = number | bigint;

export interface CheckedOptions<
  Fields extends Record<string, Field>,
  Magic extends string,
  Version extends string,
  Crc extends string,
> {
  /** The structure's name in messages. */
  readonly what: string;
  /** What a damaged one is called. */
  readonly code: FindingCode;
  readonly struct: Struct<Fields>;
  readonly magic: Readonly<Record<Magic, Integer>>;
  /** Other versions are refused before their CRC is looked at: it may cover other bytes. */
  readonly version?: Readonly<Record<Version, Integer>>;
  readonly versionCode?: FindingCode;
  /** A u64: the CRC-32 of all that precedes it. */
  readonly crc: Crc;
  /** Bytes that are no damage but the absence of the structure: nothing but zeros, or any other magic. */
  readonly absent?: "zeros" | "other magic";
}

/**
 * A structure on media that says by magic, version and CRC that it is one (format 4). The checks come in the order of
 * stock (format 8): all its bytes, magic, version, CRC, and then the integers that JavaScript cannot hold.
 */
export class Checked<
  Fields extends Record<string, Field>,
  Magic extends string,
  Version extends string,
  Crc extends string,
> {
  readonly size: number;
  readonly #options: CheckedOptions<Fields, Magic, Version, Crc>;

  constructor(options: CheckedOptions<Fields, Magic, Version, Crc>) {
    this.size = options.struct.size;
    this.#options = options;
  }

  /**
   * Writes `record` with magic, version and CRC at `base`; padding becomes zero. INVALID_ARGUMENT for what does not
   * fit.
   */
  encode(
    record: Omit<Struct<Fields>["$type"], Magic | Version | Crc>,
    target: Uint8Array = new Uint8Array(this.size),
    base = 0,
  ): Uint8Array {
    const { struct, magic, version, crc } = this.#options;
    struct.encode({ ...record, ...magic, ...version, [crc]: 0n } as unknown as Struct<Fields>["$type"], target, base);
    sealCrc(target, base, this.#at(crc));
    return target;
  }

  /** The record at `base`. No value and no finding: there is none (`absent`). Never throws. */
  inspect(bytes: Uint8Array, base = 0): Inspected<Struct<Fields>["$type"]> {
    const { code, struct, magic, version, versionCode, crc, absent } = this.#options;
    if (!(base >= 0 && base + this.size <= bytes.byteLength)) {
      return this.refuse(base, `needs ${this.size} bytes at ${base}, there are ${bytes.byteLength}`);
    }
    if (absent === "zeros" && isZero(bytes, base, this.size)) return { value: undefined, findings: [] };
    const otherMagic = this.#differing(bytes, base, magic);
    if (otherMagic !== undefined) {
      if (absent === "other magic") return { value: undefined, findings: [] };
      return this.refuse(base, `magic 0x${otherMagic.toString(16)} is not that of ${struct.name}`);
    }
    const otherVersion = version === undefined ? undefined : this.#differing(bytes, base, version);
    if (otherVersion !== undefined) {
      const [ours] = Object.values<Integer>(version ?? {});
      return this.refuse(base, `version ${otherVersion}; this program reads and writes ${ours}`, versionCode);
    }
    if (!crcHolds(bytes, base, this.#at(crc))) return this.refuse(base, "wrong crc");
    return inspect(code, base, () => struct.decode(bytes, base));
  }

  /** No value, and a finding about the structure at `base` that says why. */
  refuse(base: number, why: string, code: FindingCode = this.#options.code): Inspected<never> {
    return { value: undefined, findings: [{ code, offset: base, message: `${this.#options.what}: ${why}` }] };
  }

  #at(name: string): number {
    return this.#options.struct.offsets[name] ?? 0;
  }

  /** The integer that is there instead of one of the `expected` values; undefined when all are as they should be. */
  #differing(bytes: Uint8Array, base: number, expected: Readonly<Record<string, Integer>>): bigint | undefined {
    const { struct } = this.#options;
    const view = new DataView(bytes.buffer, bytes.byteOffset + base, this.size);
    for (const [name, value] of Object.entries(expected)) {
      const at = struct.offsets[name] ?? 0;
      const found =
        struct.fields[name]?.type === "u64" ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true));
      if (found !== BigInt(value)) return found;
    }
    return undefined;
  }
}
