import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Struct } from "../base/index.ts";
import * as extensions from "./extension-structs.ts";
import * as layout from "./owner-layout.ts";
import * as stock from "./structs.ts";

interface Table {
  readonly name: string;
  readonly size: number;
  readonly fields: Readonly<Record<string, { readonly at: number; readonly type: string; readonly length?: number }>>;
}

const TABLES: Table[] = [...Object.values(stock), ...Object.values(extensions)].filter(
  (value): value is Table & typeof value => typeof value === "object" && "fields" in value && "size" in value,
);

/** Fields that C has inside another structure or under a name per arm. */
const C_NAMES: Record<string, string> = {
  "famfs_superblock.dd_size": "ts_daxdev.dd_size",
  "famfs_superblock.dd_uuid": "ts_daxdev.dd_uuid",
  "famfs_superblock.dd_daxdev": "ts_daxdev.dd_daxdev",
  "famfs_log_fmap.fmap_count": "fmap_nextents",
  "famfs_log_fmap.ext": "ie",
};

const WIDTHS: Record<string, number> = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8, size: 8, ssize: 8 };

/** Padding that the compiler puts in has no name in C. */
const inC = (table: Table) =>
  Object.entries(table.fields).filter(([name, field]) => field.type !== "pad" || name.includes("_"));

function program(): string {
  const lines = TABLES.flatMap((table) => [
    `  printf("${table.name} %zu\\n", sizeof(struct ${table.name}));`,
    ...inC(table).map(([name]) => {
      const member = C_NAMES[`${table.name}.${name}`] ?? name;
      const where = `offsetof(struct ${table.name}, ${member}), sizeof(((struct ${table.name} *)0)->${member})`;
      return `  printf("${table.name}.${name} %zu %zu\\n", ${where});`;
    }),
  ]);
  const header = fileURLToPath(new URL("structs.test.h", import.meta.url));
  return `#include "${header}"\n#include <stdio.h>\nint main(void) {\n${lines.join("\n")}\n  return 0;\n}\n`;
}

test("a C compiler lays the structures out as the tables say", () => {
  const folder = mkdtempSync(join(tmpdir(), "famfs-structs-"));
  try {
    const source = join(folder, "layout.c");
    const binary = join(folder, "layout");
    writeFileSync(source, program());
    execFileSync("cc", ["-std=gnu11", "-Wall", "-o", binary, source]);
    const printed = execFileSync(binary, { encoding: "utf8" }).trim().split("\n");
    const expected = TABLES.flatMap((table) => [
      `${table.name} ${table.size}`,
      ...inC(table).map(([name, field]) => `${table.name}.${name} ${field.at} ${field.length ?? WIDTHS[field.type]}`),
    ]);
    assert.ok(expected.length > 100);
    assert.deepEqual(printed, expected);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("docs/format-extensions.md has the offsets and sizes of the tables", () => {
  const text = readFileSync(new URL("../../docs/format-extensions.md", import.meta.url), "utf8");
  const documented = new Map<string, string[]>();
  for (const section of text.split(/^### /m).slice(1)) {
    const heading = /^(famfs_x_\w+) \((\d+) bytes\)/.exec(section);
    if (heading?.[1] === undefined) continue;
    const rows = [...section.matchAll(/^\| (\d+) \| (\d+) \| `(\w+)` \|/gm)].map((row) => row.slice(1, 4).join(" "));
    documented.set(heading[1], [String(heading[2]), ...rows]);
  }
  for (const table of Object.values(extensions).filter((value) => value instanceof Struct)) {
    const fields = Object.entries((table as unknown as Table).fields);
    assert.deepEqual(documented.get(table.name), [
      String(table.size),
      ...fields.map(([name, field]) => `${field.at} ${field.length ?? WIDTHS[field.type]} ${name}`),
    ]);
    documented.delete(table.name);
  }
  assert.deepEqual([...documented.keys()], []);
});

test("the areas of an extended volume's first 2 MiB do not touch each other", () => {
  const areas: [string, number, number][] = [
    ["superblock", 0, stock.SuperblockStruct.size],
    ["erase mark", extensions.ERASE_MARK_OFFSET, extensions.EraseMarkStruct.size],
    ["volume record", extensions.VOLUME_RECORD_OFFSET, extensions.VolumeRecordStruct.size],
    ["volume origin", extensions.VOLUME_ORIGIN_OFFSET, extensions.VolumeOriginStruct.size],
    ["guard range", extensions.GUARD_OFFSET, 64 * (1 + extensions.MAX_SLOTS)],
    ["slot pages", extensions.SLOT_PAGES_OFFSET, extensions.SlotPageStruct.size * extensions.MAX_SLOTS],
    ["superblock copy", extensions.SUPERBLOCK_COPY_OFFSET, stock.SuperblockStruct.size],
    ["record copy", extensions.VOLUME_RECORD_COPY_OFFSET, extensions.VolumeRecordStruct.size],
    ["change ring", extensions.CHANGE_RING_OFFSET, extensions.CHANGE_RING_SIZE],
    ["log", stock.LOG_OFFSET, stock.MIN_LOG_LENGTH],
  ];
  assertApart(areas);
  assert.equal(extensions.CHANGE_RING_SIZE, extensions.ChangeRingStruct.size + 1023 * extensions.ChangeStruct.size);
});

test("the areas of layout 2 touch neither each other nor what both layouts have, and lines are lines", () => {
  const { LINE, OWNER_SLOTS, WRITER_SLOTS } = layout;
  const last = { slot: OWNER_SLOTS - 1, writer: WRITER_SLOTS - 1 };
  const areas: [string, number, number][] = [
    ["identity", extensions.GUARD_OFFSET, LINE],
    ["guard line", layout.guardOffset, LINE],
    ["bell line", layout.bellOffset, LINE],
    ["claims", layout.claimLineOffset(0), layout.claimLineOffset(last.slot) + LINE - layout.claimLineOffset(0)],
    ["places", layout.placeOffset(0, 0), layout.placeOffset(last.slot, 1) + LINE - layout.placeOffset(0, 0)],
    ["asks", layout.askOffset(0), layout.askOffset(last.slot) + LINE - layout.askOffset(0)],
    ["acknowledgements", layout.ackOffset(0), layout.ackOffset(last.slot) + LINE - layout.ackOffset(0)],
    ["first detail page", layout.detailOffset(0), layout.DETAIL_PAGE_SIZE],
    ["first ring", layout.ownerRingOffset(0), layout.OWNER_RING_SIZE],
    ["second detail page", layout.detailOffset(1), layout.DETAIL_PAGE_SIZE],
    ["last ring", layout.ownerRingOffset(last.writer), layout.OWNER_RING_SIZE],
    ["superblock copy", extensions.SUPERBLOCK_COPY_OFFSET, stock.SuperblockStruct.size],
    ["record copy", extensions.VOLUME_RECORD_COPY_OFFSET, extensions.VolumeRecordStruct.size],
    ["first cell", layout.sizeCellOffset(0, 0, 0), 2 * LINE],
    ["last cell of the first", layout.sizeCellOffset(0, layout.SIZE_CELLS - 1, 0), 2 * LINE],
    ["damage of the first", layout.damageOffset(0, 0), layout.DAMAGE_LINES * LINE],
    ["second cells", layout.sizeCellOffset(1, 0, 0), layout.SIZE_CELLS * 2 * LINE],
    ["damage of the last", layout.damageOffset(last.writer, 0), layout.DAMAGE_LINES * LINE],
    ["log", stock.LOG_OFFSET, stock.MIN_LOG_LENGTH],
  ];
  assertApart(areas);
  for (const [name, offset] of areas) assert.equal(offset % LINE, 0, name);
});

function assertApart(areas: readonly [string, number, number][]): void {
  for (const [position, [name, offset, length]] of areas.entries()) {
    const next = areas[position + 1];
    if (next !== undefined) assert.ok(offset + length <= next[1], `${name} runs into ${next[0]}`);
  }
}
