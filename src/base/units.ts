import { FamfsError } from "./error.ts";

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

/** Extents, regions and labels are aligned to this on every device (kernel and devdax alignment). */
export const ALLOC_UNIT = 2 * MIB;

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

/** Branded where a swap would corrupt data. All are bytes and safe integers. */
export type DeviceOffset = Branded<"DeviceOffset">;
/** Offset within a volume's region: what the media format calls a device offset. */
export type RegionOffset = Branded<"RegionOffset">;
export type FileOffset = Branded<"FileOffset">;
/** Our fencing number; never a time. */
export type Epoch = Branded<"Epoch">;

export const deviceOffset = (bytes: number): DeviceOffset => bytes as DeviceOffset;
export const regionOffset = (bytes: number): RegionOffset => bytes as RegionOffset;
export const fileOffset = (bytes: number): FileOffset => bytes as FileOffset;
export const epoch = (value: number): Epoch => value as Epoch;

export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

export function roundDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}

const SUFFIXES: Record<string, number> = {
  "": 1,
  B: 1,
  k: KIB,
  K: KIB,
  Ki: KIB,
  KiB: KIB,
  m: MIB,
  M: MIB,
  Mi: MIB,
  MiB: MIB,
  g: GIB,
  G: GIB,
  Gi: GIB,
  GiB: GIB,
  t: TIB,
  T: TIB,
  Ti: TIB,
  TiB: TIB,
};

/** Sizes as the stock tools and Kubernetes write them: `4096`, `0x400000`, `2m`, `4Gi`. Suffixes are powers of 1024. */
export function parseSize(text: string): number {
  const match = /^(0x[0-9a-fA-F]+|[0-9]+)([A-Za-z]*)$/.exec(text.trim());
  const unit = SUFFIXES[match?.[2] ?? "?"];
  const value = Number(match?.[1]) * (unit ?? Number.NaN);
  if (!Number.isSafeInteger(value)) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `"${text}" is not a size; write bytes or a number with Ki, Mi, Gi or Ti, such as 4Gi`,
    );
  }
  return value;
}

/** `1.5 GiB`: for people. Programs get bytes. */
export function formatSize(bytes: number): string {
  for (const [unit, name] of [
    [TIB, "TiB"],
    [GIB, "GiB"],
    [MIB, "MiB"],
    [KIB, "KiB"],
  ] as const) {
    if (bytes >= unit) return `${Number((bytes / unit).toFixed(bytes % unit === 0 ? 0 : 1))} ${name}`;
  }
  return `${bytes} B`;
}

/** `1.5 GiB (1610612736 bytes)`: where a reader may have to write the number down again. */
export function describeSize(bytes: number): string {
  return `${formatSize(bytes)} (${bytes} bytes)`;
}
