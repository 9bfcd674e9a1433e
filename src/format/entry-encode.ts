import { FamfsError, uuidToBytes } from "../base/index.ts";
import { sealCrc } from "./crc.ts";
import {
  EXTENSION_VERSION,
  ExtensionType,
  FillerStruct,
  MAX_NAME,
  MAX_PLACEMENT_HEAP,
  MAX_SYMLINK_TARGET,
  PlacementFlag,
  PlacementStruct,
  TRAILER_MAGIC,
  TRAILER_OFFSET,
  TrailerStruct,
} from "./extension-structs.ts";
import { encodeIndex } from "./integers.ts";
import {
  type DeviceExtent,
  type FileEntry,
  FORMER_FILLER_RUN,
  type Layout,
  type Link,
  type LogEntry,
  type NodeEntry,
  type RelinkEntry,
  type Time,
} from "./log-entry.ts";
import {
  AddDaxdevStruct,
  ENTRY_CRC_OFFSET,
  ENTRY_SIZE,
  EntryType,
  ExtentType,
  FileMetaStruct,
  FmapStruct,
  InterleavedExtentStruct,
  LogEntryStruct,
  MAX_EXTENTS,
  MAX_EXTENTS_EXTENDED,
  MkdirStruct,
  PAYLOAD_OFFSET,
  PAYLOAD_SIZE,
  SimpleExtentStruct,
} from "./structs.ts";

/** Bytes of a path the field holds with its NUL. */
const MAX_PATH = FileMetaStruct.fields.fm_relpath.length - 1;

/** One entry for log index `index`. INVALID_ARGUMENT or NAME_TOO_LONG when the format cannot say it. */
export function encodeEntry(
  index: number,
  entry: LogEntry,
  target: Uint8Array = new Uint8Array(ENTRY_SIZE),
  base = 0,
): Uint8Array {
  LogEntryStruct.encode(
    {
      famfs_log_entry_seqnum: index,
      famfs_log_entry_type: typeCode(entry),
      payload: payloadOf(entry),
      famfs_log_entry_crc: 0n,
    },
    target,
    base,
  );
  sealCrc(target, base, ENTRY_CRC_OFFSET);
  return target;
}

/** Consecutive entries from `firstIndex` on: one transaction for the append. */
export function encodeEntries(firstIndex: number, entries: readonly LogEntry[]): Uint8Array {
  const bytes = new Uint8Array(entries.length * ENTRY_SIZE);
  entries.forEach((entry, position) => {
    encodeEntry(firstIndex + position, entry, bytes, position * ENTRY_SIZE);
  });
  return bytes;
}

function typeCode(entry: LogEntry): number {
  switch (entry.type) {
    case "file":
      return EntryType.FILE;
    case "mkdir":
      return EntryType.MKDIR;
    case "delete":
      return EntryType.DELETE;
    case "addDaxdev":
      return EntryType.ADD_DAXDEV;
    case "invalid":
      return EntryType.INVALID;
    case "relink":
      return ExtensionType.RELINK;
    case "node":
      return ExtensionType.NODE;
    case "filler":
      return ExtensionType.FILLER;
    case "unknown":
      return entry.code;
  }
}

function payloadOf(entry: LogEntry): Uint8Array {
  switch (entry.type) {
    case "file":
      return filePayload(entry);
    case "mkdir": {
      const payload = new Uint8Array(PAYLOAD_SIZE);
      MkdirStruct.encode(
        { md_uid: entry.uid, md_gid: entry.gid, md_mode: entry.mode, md_relpath: checkedPath(entry.path) },
        payload,
      );
      putTrailer(payload, entry.mtime);
      return payload;
    }
    case "addDaxdev":
      return AddDaxdevStruct.encode({
        dd_size: entry.size,
        dd_uuid: uuidToBytes(entry.uuid),
        dd_index: entry.index,
      });
    case "relink":
    case "node":
      return placementPayload(entry);
    case "filler":
      return FillerStruct.encode({
        xf_version: EXTENSION_VERSION,
        xf_epoch: entry.epoch,
        xf_node_hash: Buffer.from(entry.nodeIdHash, "hex"),
        xf_first: entry.first,
        xf_run: entry.run === FORMER_FILLER_RUN ? 0 : entry.run,
      });
    case "unknown":
      return entry.payload;
    case "delete":
    case "invalid":
      return new Uint8Array(PAYLOAD_SIZE);
  }
}

function filePayload(entry: FileEntry): Uint8Array {
  const limit = entry.mtime === undefined ? MAX_EXTENTS : MAX_EXTENTS_EXTENDED;
  const payload = FileMetaStruct.encode({
    fm_size: entry.size,
    fm_flags: entry.flags,
    fm_uid: entry.uid,
    fm_gid: entry.gid,
    fm_mode: entry.mode,
    fm_relpath: checkedPath(entry.path),
    fm_fmap: encodeLayout(entry.layout, limit),
  });
  putTrailer(payload, entry.mtime);
  return payload;
}

function encodeLayout(layout: Layout, limit: number): Uint8Array {
  if (layout.type === "simple") {
    return FmapStruct.encode({
      fmap_ext_type: ExtentType.SIMPLE,
      fmap_count: layout.extents.length,
      ext: encodeExtents(layout.extents, limit),
    });
  }
  return FmapStruct.encode({
    fmap_ext_type: ExtentType.INTERLEAVE,
    fmap_count: 1,
    ext: InterleavedExtentStruct.encode({
      ie_nstrips: layout.strips.length,
      ie_chunk_size: layout.chunkSize,
      ie_strips: encodeExtents(layout.strips, limit),
    }),
  });
}

function encodeExtents(extents: readonly DeviceExtent[], limit: number): Uint8Array {
  if (extents.length === 0 || extents.length > limit) {
    throw new FamfsError("INVALID_ARGUMENT", `a file has ${extents.length} extents; a log entry takes 1 to ${limit}`);
  }
  const bytes = new Uint8Array(extents.length * SimpleExtentStruct.size);
  extents.forEach((extent, position) => {
    SimpleExtentStruct.encode(
      { se_devindex: extent.devindex, se_offset: extent.offset, se_len: extent.length },
      bytes,
      position * SimpleExtentStruct.size,
    );
  });
  return bytes;
}

function checkedPath(path: string): string {
  if (path.length > MAX_PATH) {
    throw new FamfsError("NAME_TOO_LONG", `"${path}" has ${path.length} bytes; a log entry takes ${MAX_PATH}`);
  }
  return path;
}

function putTrailer(payload: Uint8Array, mtime: Time | undefined): void {
  if (mtime === undefined) return;
  TrailerStruct.encode(
    { xt_magic: TRAILER_MAGIC, xt_mtime_nsec: mtime.nanoseconds, xt_mtime_sec: mtime.seconds },
    payload,
    TRAILER_OFFSET - PAYLOAD_OFFSET,
  );
}

function placementPayload(entry: RelinkEntry | NodeEntry): Uint8Array {
  const name = checkedName(entry.link);
  const symlink = entry.type === "node" ? entry.symlinkTarget : "";
  if (name.length + symlink.length > MAX_PLACEMENT_HEAP) {
    throw new FamfsError(
      "NAME_TOO_LONG",
      symlink.length > MAX_SYMLINK_TARGET
        ? `symlink target of ${symlink.length} bytes; at most ${MAX_SYMLINK_TARGET}`
        : `name and symlink target have ${name.length + symlink.length} bytes; one entry takes ${MAX_PLACEMENT_HEAP}`,
    );
  }
  return PlacementStruct.encode({
    xp_version: EXTENSION_VERSION,
    xp_flags:
      (entry.link === undefined ? 0 : PlacementFlag.LINK) |
      (entry.mtime === undefined ? 0 : PlacementFlag.MTIME) |
      (entry.type === "node" && entry.kind === "symlink" ? PlacementFlag.SYMLINK : 0),
    xp_target: entry.type === "relink" ? encodeIndex(entry.target) : 0n,
    xp_parent: entry.link === undefined ? 0n : encodeIndex(entry.link.parent),
    xp_mode: entry.mode,
    xp_uid: entry.uid,
    xp_gid: entry.gid,
    xp_mtime_nsec: entry.mtime?.nanoseconds ?? 0,
    xp_mtime_sec: entry.mtime?.seconds ?? 0,
    xp_name_len: name.length,
    xp_symlink_len: symlink.length,
    xp_heap: Buffer.from(name + symlink, "latin1"),
  });
}

function checkedName(link: Link | undefined): string {
  if (link === undefined) return "";
  if (!isName(link.name)) {
    const code = link.name.length > MAX_NAME ? "NAME_TOO_LONG" : "NAME_INVALID";
    throw new FamfsError(code, `"${link.name}" is not a name of 1 to ${MAX_NAME} bytes without "/" and NUL`);
  }
  return link.name;
}

/** Whether `name` can be a directory entry. */
export function isName(name: string): boolean {
  return (
    name.length > 0 &&
    name.length <= MAX_NAME &&
    name !== "." &&
    name !== ".." &&
    !name.includes("/") &&
    !name.includes("\0")
  );
}
