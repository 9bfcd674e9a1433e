/** How long a mount of a volume with a full log takes until it can answer: each time in a fresh process. */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, openSync, rmSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ALLOC_UNIT } from "../src/base/index.ts";
import {
  encodeEntries,
  encodeLogHeader,
  entryOffset,
  formatExtended,
  LOG_OFFSET,
  type LogEntry,
  lastIndexFor,
  MIN_LOG_LENGTH,
  regionLengthFor,
} from "../src/format/index.ts";

const once = fileURLToPath(new URL("mount-once.ts", import.meta.url));
export const LOG_ENTRIES = lastIndexFor(MIN_LOG_LENGTH) + 1;
const FILES_PER_DIRECTORY = 100;

/** Directories of a hundred one-unit files each. */
function entriesOf(count: number, dataOffset: number): LogEntry[] {
  const all: LogEntry[] = [];
  const common = { uid: 0, gid: 0, mtime: { seconds: 1_700_000_000, nanoseconds: 0 } };
  for (let i = 0; i < count; i++) {
    const directory = `directory-${Math.floor(i / (FILES_PER_DIRECTORY + 1))}`;
    if (i % (FILES_PER_DIRECTORY + 1) === 0) {
      all.push({ type: "mkdir", path: directory, mode: 0o755, ...common });
      continue;
    }
    const extent = { devindex: 0, offset: dataOffset + i * ALLOC_UNIT, length: ALLOC_UNIT };
    const layout = { type: "simple", extents: [extent] } as const;
    all.push({ type: "file", path: `${directory}/file-${i}`, size: 1 + i, flags: 2, mode: 0o644, layout, ...common });
  }
  return all;
}

/** Writes a volume whose log has `count` entries to a sparse file. Returns the last file's path in it. */
export function makeVolume(path: string, count: number): string {
  const dataOffset = LOG_OFFSET + MIN_LOG_LENGTH;
  const capacityBytes = count * ALLOC_UNIT;
  const regionLength = regionLengthFor(capacityBytes);
  const uuid = randomUUID();
  const { pieces } = formatExtended({
    regionLength,
    capacityBytes,
    uuid,
    volumeUuid: uuid,
    devUuid: randomUUID(),
    systemUuid: randomUUID(),
    daxdev: path,
    name: "bench",
    generation: 1,
    createdSeconds: 1_700_000_000,
    rootUid: 0,
    rootGid: 0,
    rootMode: 0o755,
  });
  const file = openSync(path, "w");
  for (const { offset, bytes } of pieces) writeSync(file, bytes, 0, bytes.byteLength, offset);
  const entries = entriesOf(count, dataOffset);
  const log = encodeEntries(0, entries);
  writeSync(file, log, 0, log.byteLength, LOG_OFFSET + entryOffset(0));
  const header = encodeLogHeader({
    logLength: MIN_LOG_LENGTH,
    lastIndex: LOG_ENTRIES - 1,
    nextSeqnum: count,
    nextIndex: count,
  });
  writeSync(file, header, 0, header.byteLength, LOG_OFFSET);
  closeSync(file);
  truncateSync(path, regionLength);
  const last = entries.at(-1);
  return last?.type === "file" ? last.path : "";
}

/** Milliseconds of processor time of `rounds` mounts. */
export async function measureMount(scratch: string, rounds: number): Promise<number[]> {
  const path = join(scratch, "full-log");
  const last = makeVolume(path, LOG_ENTRIES);
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const { stdout } = await promisify(execFile)(process.execPath, [once, path, last], { timeout: 60_000 });
    samples.push(Number(stdout));
  }
  rmSync(path);
  return samples;
}
