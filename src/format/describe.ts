import type { DeviceExtent, Layout, Link, LogEntry, Time } from "./log-entry.ts";
import type { StoredLogHeader } from "./log-header.ts";
import type { StoredSuperblock } from "./superblock.ts";

/*
 * An image as JSON: what `fsck --output json` prints. UUIDs without dashes, numbers decimal, paths as UTF-8. Stock
 * content has the keys and the order of keys that people compare with; extension entries add shapes of their own.
 */

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

export function describeSuperblock(superblock: StoredSuperblock): JsonObject {
  return {
    version: superblock.version,
    logOffset: superblock.logOffset,
    logLength: superblock.logLength,
    allocUnit: superblock.allocUnit,
    omfMajor: superblock.omfMajor,
    omfMinor: superblock.omfMinor,
    uuid: plain(superblock.uuid),
    devUuid: plain(superblock.devUuid),
    systemUuid: plain(superblock.systemUuid),
    crc: superblock.crc,
    flags: superblock.flags,
    daxdevSize: superblock.daxdevSize,
    daxdev: utf8(superblock.daxdev),
  };
}

export function describeLogHeader(header: StoredLogHeader): JsonObject {
  return {
    lastIndex: header.lastIndex,
    nextSeqnum: header.nextSeqnum,
    nextIndex: header.nextIndex,
    crc: header.crc,
  };
}

/** Without seqnum and crc, which belong to the place in the log. */
export function describeEntry(entry: LogEntry): JsonObject {
  switch (entry.type) {
    case "file":
      return {
        type: "file",
        path: utf8(entry.path),
        size: entry.size,
        flags: entry.flags,
        uid: entry.uid,
        gid: entry.gid,
        mode: entry.mode,
        ...describeLayout(entry.layout),
        ...describeTime(entry.mtime),
      };
    case "mkdir":
      return {
        type: "mkdir",
        path: utf8(entry.path),
        uid: entry.uid,
        gid: entry.gid,
        mode: entry.mode,
        ...describeTime(entry.mtime),
      };
    case "addDaxdev":
      return { type: "addDaxdev", size: entry.size, uuid: plain(entry.uuid), index: entry.index };
    case "delete":
    case "invalid":
      return { type: entry.type };
    case "relink":
      return { type: "relink", target: entry.target, ...describePlacement(entry) };
    case "node":
      return {
        type: "node",
        kind: entry.kind,
        ...describePlacement(entry),
        ...(entry.kind === "symlink" ? { symlinkTarget: utf8(entry.symlinkTarget) } : {}),
      };
    case "filler":
      return { type: "filler", first: entry.first, run: entry.run, epoch: entry.epoch, nodeIdHash: entry.nodeIdHash };
    case "unknown":
      return { type: "unknown", code: entry.code };
  }
}

function describeLayout(layout: Layout): JsonObject {
  if (layout.type === "simple") return { extentType: "simple", extents: layout.extents.map(describeExtent) };
  return { extentType: "interleaved", chunkSize: layout.chunkSize, strips: layout.strips.map(describeExtent) };
}

function describeExtent(extent: DeviceExtent): JsonObject {
  return { devindex: extent.devindex, offset: extent.offset, length: extent.length };
}

function describePlacement(entry: {
  link: Link | undefined;
  mode: number;
  uid: number;
  gid: number;
  mtime: Time | undefined;
}): JsonObject {
  return {
    parent: entry.link?.parent ?? null,
    name: entry.link === undefined ? null : utf8(entry.link.name),
    uid: entry.uid,
    gid: entry.gid,
    mode: entry.mode,
    ...describeTime(entry.mtime),
  };
}

function describeTime(time: Time | undefined): JsonObject {
  return time === undefined ? {} : { mtime: { seconds: time.seconds, nanoseconds: time.nanoseconds } };
}

function plain(uuid: string): string {
  return uuid.replaceAll("-", "");
}

function utf8(name: string): string {
  return Buffer.from(name, "latin1").toString("utf8");
}
