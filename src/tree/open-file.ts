import type { FileNode } from "./nodes.ts";
import type { FileMaps } from "./ports.ts";
import { msToTime } from "./times.ts";
import type { UnsealedFile } from "./unsealed-file.ts";

/** The handles of one file together: they share one file map, which knows size and last write while it lives. */
export interface OpenFile {
  readonly map: number;
  handles: number;
  /** Handles that can write. */
  writers: number;
  /** Those of them that lost the grant they were opened under: while there are any, no worker writes by itself. */
  lostWriters: number;
  /** The parts that have stopped the writes of workers; they go on when nobody does. */
  pauses: number;
  /** Bytes were zeroed by fallocate, which leaves no trace in the map, and other nodes were not told. */
  zeroed: boolean;
  /** Wall clock, when other nodes were last told that the file was rewritten in place. */
  namedMs: number;
  /** Wall clock, when times were last set explicitly: data writes until then do not count. */
  timesSetMs: number;
}

export interface Handle {
  readonly id: number;
  readonly file: FileNode;
  readonly writable: boolean;
  /**
   * Whether it writes under the grant: it keeps it here, until it is closed. After a hand-over it takes the grant
   * again before it writes; after a loss it never writes again, whoever has the grant by then.
   */
  grant: "not needed" | "needed" | "lost";
}

/** From now on writes of workers come to `prepareWrite`; `idle` tells when the last one is done. */
export function pause(open: OpenFile, maps: FileMaps): void {
  if (open.pauses++ === 0) maps.setPaused(open.map, true);
}

/** `open` may have been closed meanwhile. */
export function resume(open: OpenFile, maps: FileMaps): void {
  if (--open.pauses === 0 && open.handles > 0) maps.setPaused(open.map, false);
}

export function sizeOf(file: FileNode, maps: FileMaps): number {
  if (file.content.type === "sealed") return file.content.size;
  return file.open === undefined ? file.content.size : maps.size(file.open.map);
}

export function filledOf(file: FileNode, content: UnsealedFile, maps: FileMaps): number {
  return file.open === undefined ? content.filled : maps.filled(file.open.map);
}

/** Brings `mtime` up to the last data write. */
export function refreshTimes(file: FileNode, maps: FileMaps): boolean {
  if (file.open === undefined) return false;
  const writtenMs = maps.lastWriteMs(file.open.map);
  if (writtenMs <= file.open.timesSetMs) return false;
  const time = msToTime(writtenMs);
  file.mtime = time;
  file.ctime = time;
  file.open.timesSetMs = writtenMs;
  return true;
}
