/** How long a mount needs to read a full log: each time in a fresh process, as a mount does. */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, openSync, truncateSync, writeSync } from "node:fs";
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

const once = fileURLToPath(new URL("replay-once.ts", import.meta.url));
export const LOG_ENTRIES = lastIndexFor(MIN_LOG_LENGTH) + 1;
const FILES_PER_DIRECTORY = 100;

/** Directories of a hundred one-unit files each, as many as the log holds. */
function entries(dataOffset: number): LogEntry[] {
  const all: LogEntry[] = [];
  const common = { uid: 0, gid: 0, mtime: { seconds: 1_700_000_000, nanoseconds: 0 } };
  for (let i = 0; i < LOG_ENTRIES; i++) {
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

/** Writes a volume whose log is full to a sparse file. */
export function makeFullLog(path: string): void {
  const dataOffset = LOG_OFFSET + MIN_LOG_LENGTH;
  const capacityBytes = LOG_ENTRIES * ALLOC_UNIT;
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
  const log = encodeEntries(0, entries(dataOffset));
  writeSync(file, log, 0, log.byteLength, LOG_OFFSET + entryOffset(0));
  const header = encodeLogHeader({
    logLength: MIN_LOG_LENGTH,
    lastIndex: LOG_ENTRIES - 1,
    nextSeqnum: LOG_ENTRIES,
    nextIndex: LOG_ENTRIES,
  });
  writeSync(file, header, 0, header.byteLength, LOG_OFFSET);
  closeSync(file);
  truncateSync(path, regionLength);
}

/** Milliseconds of `rounds` replays. */
export async function measureReplay(scratch: string, rounds: number): Promise<number[]> {
  const path = join(scratch, "full-log");
  makeFullLog(path);
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const { stdout } = await promisify(execFile)(process.execPath, [once, path], { timeout: 60_000 });
    samples.push(Number(stdout));
  }
  return samples;
}
