/** Bytes of the files that clients write: each block says which file it is of, and which write filled it. */
import { TORN, ZERO } from "./history.ts";

export const BLOCK = 2048;
export const BLOCKS = 6;
export const FILE_BYTES = BLOCK * BLOCKS;

const UNIT = 64;

/** Block `index` of file `version`, filled by write `id`: one line, over and over. */
export function fillBlock(version: string, index: number, id: string): Buffer {
  return Buffer.alloc(BLOCK, `${version} ${index} ${id}`.padEnd(UNIT - 1, ".").concat("\n"), "latin1");
}

export interface Content {
  /** What the blocks say they are of; several only if something is wrong. */
  readonly versions: readonly string[];
  /** Per block the write that filled it, ZERO or TORN. Fewer than BLOCKS: the file is shorter. */
  readonly blocks: readonly string[];
  /** What no write of any client can have left. */
  readonly damage: string | undefined;
}

export function inspectContent(bytes: Buffer): Content {
  const versions = new Set<string>();
  const blocks: string[] = [];
  let damage: string | undefined;
  for (let index = 0; index * BLOCK < bytes.byteLength; index++) {
    const lines = unitsOf(bytes.subarray(index * BLOCK, (index + 1) * BLOCK));
    const ids = new Set<string>();
    for (const line of lines) {
      if (line === undefined) {
        ids.add(ZERO);
        continue;
      }
      const [version = "", at = "", id = ""] = line.replace(/\.*\n$/, "").split(" ");
      if (id === "") damage ??= `block ${index} has bytes that nobody wrote: ${JSON.stringify(line)}`;
      else if (at !== String(index)) damage ??= `block ${index} has bytes of block ${at} of ${version}`;
      versions.add(version);
      ids.add(id);
    }
    blocks.push(ids.size === 1 ? ([...ids][0] ?? TORN) : TORN);
  }
  return { versions: [...versions], blocks, damage };
}

/** Each unit as text; undefined when it is all zero. */
function unitsOf(block: Buffer): (string | undefined)[] {
  const units: (string | undefined)[] = [];
  for (let at = 0; at < block.byteLength; at += UNIT) {
    const unit = block.subarray(at, at + UNIT);
    units.push(unit.every((byte) => byte === 0) ? undefined : unit.toString("latin1"));
  }
  return units;
}
