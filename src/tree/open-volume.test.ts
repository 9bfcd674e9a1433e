import assert from "node:assert/strict";
import { test } from "node:test";
import { simulatedVolume } from "../../test/support/simulated-volume.ts";
import { ALLOC_UNIT, silentLogger } from "../base/index.ts";
import {
  encodeEntries,
  encodeSuperblock,
  entryOffset,
  LOG_COUNTERS_OFFSET,
  type LogEntry,
  parseSuperblock,
  SUPERBLOCK_SIZE,
} from "../format/index.ts";
import type { VolumeMedia } from "../media/index.ts";
import { alwaysMine, openVolumeTree } from "./open-volume.ts";
import { MemoryMaps } from "./testing/memory-maps.ts";
import { SparseBytes } from "./testing/sparse-bytes.ts";
import type { VolumeTree } from "./volume-tree.ts";

/** As stock tools append: entries, then the counters. */
function append(media: VolumeMedia, entries: readonly LogEntry[]): void {
  const { window, logOffset } = media;
  window.copyIn(logOffset + entryOffset(0), encodeEntries(0, [...entries]));
  for (const at of [0, 8]) window.store64(logOffset + LOG_COUNTERS_OFFSET + at, BigInt(entries.length));
}

function served(media: VolumeMedia): Promise<VolumeTree> {
  return openVolumeTree({
    media,
    node: { nodeId: "node-a", bootId: "boot", slot: 0 },
    terms: alwaysMine,
    maps: new MemoryMaps(new SparseBytes(), () => 0),
    exclusive: () => true,
    logger: silentLogger,
  });
}

test("a stock file system with 4 KiB allocation units shows its files, and what they take", async () => {
  await using volume = await simulatedVolume({ format: { stock: true } });
  {
    const media = await volume.open();
    const superblock = parseSuperblock(media.window.read(0, SUPERBLOCK_SIZE));
    media.window.copyIn(0, encodeSuperblock({ ...superblock, allocUnit: 4096 }));
  }
  const media = await volume.open();
  const attributes = { uid: 0, gid: 0, mode: 0o644 };
  const file = (path: string, size: number, offset: number, length: number): LogEntry => ({
    type: "file",
    path,
    size,
    flags: 2,
    layout: { type: "simple", extents: [{ devindex: 0, offset: media.dataOffset + offset, length }] },
    ...attributes,
  });
  append(media, [file("small", 10, 4096, 4096), file("larger", 10_000, ALLOC_UNIT + 4096, 12_288)]);
  await using tree = await served(media);
  const listed = [...tree.readDirectory(1, 0)].map(({ name, entry }) => {
    const { size, allocatedBytes } = entry.attributes;
    return { name, size, allocatedBytes };
  });
  assert.deepEqual(listed, [
    { name: "small", size: 10, allocatedBytes: 4096 },
    { name: "larger", size: 10_000, allocatedBytes: 12_288 },
  ]);
  const { blocks, freeBlocks } = tree.status();
  assert.equal(blocks - freeBlocks, 4);
});
