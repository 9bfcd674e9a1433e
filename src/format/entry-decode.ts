import { crc32 } from "node:zlib";
import { uuidFromBytes } from "../base/index.ts";
import { isName } from "./entry-encode.ts";
import {
  EXTENSION_VERSION,
  ExtensionType,
  FillerStruct,
  MAX_PLACEMENT_HEAP,
  PlacementFlag,
  PlacementStruct,
  TRAILER_MAGIC,
  TRAILER_OFFSET,
  TrailerStruct,
} from "./extension-structs.ts";
import type { Finding, FindingCode } from "./finding.ts";
import { decodeIndex } from "./integers.ts";
import {
  type DeviceExtent,
  FILLER_RUN,
  FORMER_FILLER_RUN,
  type Layout,
  type Link,
  type LogEntry,
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

/** An entry, or why its (valid) bytes say nothing possible. */
export type Decoded = { readonly entry: LogEntry } | { readonly entry: undefined; readonly finding: Finding };

/** Thrown inside this file only: carries a finding out of nested readers. */
class Malformed extends Error {
  readonly code: FindingCode;
  constructor(code: FindingCode, message: string) {
    super(message);
    this.code = code;
  }
}

const FILE = FileMetaStruct.offsets;
const FMAP = PAYLOAD_OFFSET + FILE.fm_fmap;
const EXTENTS = FMAP + FmapStruct.offsets.ext;
const MKDIR = MkdirStruct.offsets;
const EXTENT = SimpleExtentStruct.offsets;
const PLACEMENT = PlacementStruct.offsets;
const TYPE = LogEntryStruct.offsets.famfs_log_entry_type;
const PATH_LENGTH = FileMetaStruct.fields.fm_relpath.length;

/**
 * Decodes entries out of one copy of (a part of) the log. Replay of a full log has 50 ms for 15,420 entries, so
 * entries are read field by field at table offsets instead of through `Struct.decode`.
 */
export class EntryDecoder {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #extended: boolean;
  /** What the crc of each slot covers, made once: for most entries that takes longer than the crc. */
  readonly #covered: Uint8Array[] = [];

  /** `extended`: whether trailers and extension entries count (the volume has a record). */
  constructor(bytes: Uint8Array, extended: boolean) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#extended = extended;
  }

  /** undefined when the entry at `base` is valid at `index`: seqnum and crc (format 5.3). */
  check(base: number, index: number): Finding | undefined {
    if (!(base >= 0 && base + ENTRY_SIZE <= this.#bytes.byteLength)) {
      return { code: "ENTRY_CORRUPT", index, message: `log entry ${index}: cut off` };
    }
    const seqnum = this.#size(base);
    if (seqnum !== index) {
      const said = seqnum < 0 ? "beyond 2^53" : String(seqnum);
      return { code: "ENTRY_CORRUPT", index, message: `log entry ${index}: seqnum ${said}, expected ${index}` };
    }
    const crc = this.#view.getUint32(base + ENTRY_CRC_OFFSET, true);
    if (this.#view.getUint32(base + ENTRY_CRC_OFFSET + 4, true) !== 0 || crc !== crc32(this.#coveredAt(base))) {
      return { code: "ENTRY_CORRUPT", index, message: `log entry ${index}: wrong crc` };
    }
    return undefined;
  }

  #coveredAt(base: number): Uint8Array {
    const slot = base / ENTRY_SIZE;
    const known = this.#covered[slot];
    if (known !== undefined) return known;
    const covered = new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + base, ENTRY_CRC_OFFSET);
    if (Number.isInteger(slot)) this.#covered[slot] = covered;
    return covered;
  }

  /** The stored crc of the entry at `base`. */
  crc(base: number): number {
    if (!(base >= 0 && base + ENTRY_SIZE <= this.#bytes.byteLength)) return 0;
    return Number(this.#view.getBigUint64(base + ENTRY_CRC_OFFSET, true));
  }

  /** Type of the entry at `base`, checked or not; INVALID when it is cut off. */
  typeCode(base: number): number {
    if (!(base >= 0 && base + ENTRY_SIZE <= this.#bytes.byteLength)) return EntryType.INVALID;
    return this.#view.getUint32(base + TYPE, true);
  }

  /** What the entry at `base` says; call only after `check`. Never throws on any bytes. */
  decode(base: number, index: number): Decoded {
    try {
      return { entry: this.#entry(base) };
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      return {
        entry: undefined,
        finding: { code: error.code, index, message: `log entry ${index}: ${error.message}` },
      };
    }
  }

  #entry(base: number): LogEntry {
    const code = this.typeCode(base);
    switch (code) {
      case EntryType.FILE:
        return this.#file(base);
      case EntryType.MKDIR:
        return this.#mkdir(base);
      case EntryType.DELETE:
        return { type: "delete" };
      case EntryType.ADD_DAXDEV:
        return this.#addDaxdev(base + PAYLOAD_OFFSET);
      case EntryType.INVALID:
        return { type: "invalid" };
    }
    if (this.#extended) {
      switch (code) {
        case ExtensionType.RELINK:
        case ExtensionType.NODE:
          return this.#placement(base + PAYLOAD_OFFSET, code);
        case ExtensionType.FILLER:
          return this.#filler(base + PAYLOAD_OFFSET);
      }
    }
    const payload = this.#bytes.subarray(base + PAYLOAD_OFFSET, base + PAYLOAD_OFFSET + PAYLOAD_SIZE);
    return { type: "unknown", code, payload: Uint8Array.from(payload) };
  }

  #file(base: number): LogEntry {
    const view = this.#view;
    const at = base + PAYLOAD_OFFSET;
    const count = view.getUint32(base + FMAP + FmapStruct.offsets.fmap_count, true);
    const layout = this.#layout(base, view.getUint32(base + FMAP + FmapStruct.offsets.fmap_ext_type, true), count);
    const extents = layout.type === "simple" ? layout.extents.length : layout.strips.length;
    const mtime = extents <= MAX_EXTENTS_EXTENDED ? this.#trailer(base) : undefined;
    const path = this.#text(at + FILE.fm_relpath, PATH_LENGTH);
    const size = this.#checkedSize(at + FILE.fm_size, "fm_size");
    const flags = view.getUint32(at + FILE.fm_flags, true);
    const uid = view.getUint32(at + FILE.fm_uid, true);
    const gid = view.getUint32(at + FILE.fm_gid, true);
    const mode = view.getUint32(at + FILE.fm_mode, true);
    return mtime === undefined
      ? { type: "file", path, size, flags, uid, gid, mode, layout }
      : { type: "file", path, size, flags, uid, gid, mode, layout, mtime };
  }

  #layout(base: number, type: number, count: number): Layout {
    if (type === ExtentType.SIMPLE) {
      if (count === 0 || count > MAX_EXTENTS) {
        throw new Malformed("EXTENT_COUNT", `${count} extents, expected 1 to ${MAX_EXTENTS}`);
      }
      return { type: "simple", extents: this.#extents(base + EXTENTS, count) };
    }
    if (type !== ExtentType.INTERLEAVE) throw new Malformed("ENTRY_MALFORMED", `extent type ${type} is unknown`);
    if (count !== 1) throw new Malformed("EXTENT_COUNT", `${count} interleaved extents, expected 1`);
    const strips = this.#checkedSize(base + EXTENTS + InterleavedExtentStruct.offsets.ie_nstrips, "ie_nstrips");
    if (strips === 0 || strips > MAX_EXTENTS) {
      throw new Malformed("EXTENT_COUNT", `${strips} strips, expected 1 to ${MAX_EXTENTS}`);
    }
    return {
      type: "interleaved",
      chunkSize: this.#checkedSize(base + EXTENTS + InterleavedExtentStruct.offsets.ie_chunk_size, "ie_chunk_size"),
      strips: this.#extents(base + EXTENTS + InterleavedExtentStruct.offsets.ie_strips, strips),
    };
  }

  #extents(at: number, count: number): DeviceExtent[] {
    const extents: DeviceExtent[] = [];
    for (let position = 0; position < count; position++, at += SimpleExtentStruct.size) {
      extents.push({
        devindex: this.#checkedSize(at + EXTENT.se_devindex, "se_devindex"),
        offset: this.#checkedSize(at + EXTENT.se_offset, "se_offset"),
        length: this.#checkedSize(at + EXTENT.se_len, "se_len"),
      });
    }
    return extents;
  }

  #mkdir(base: number): LogEntry {
    const view = this.#view;
    const at = base + PAYLOAD_OFFSET;
    const mtime = this.#trailer(base);
    const entry = {
      type: "mkdir",
      path: this.#text(at + MKDIR.md_relpath, PATH_LENGTH),
      uid: view.getUint32(at + MKDIR.md_uid, true),
      gid: view.getUint32(at + MKDIR.md_gid, true),
      mode: view.getUint32(at + MKDIR.md_mode, true),
    } as const;
    return mtime === undefined ? entry : { ...entry, mtime };
  }

  #addDaxdev(at: number): LogEntry {
    return {
      type: "addDaxdev",
      size: this.#checkedSize(at + AddDaxdevStruct.offsets.dd_size, "dd_size"),
      uuid: uuidFromBytes(
        this.#bytes.subarray(at + AddDaxdevStruct.offsets.dd_uuid, at + AddDaxdevStruct.offsets.dd_uuid + 16),
      ),
      index: this.#view.getUint32(at + AddDaxdevStruct.offsets.dd_index, true),
    };
  }

  #placement(at: number, code: number): LogEntry {
    const view = this.#view;
    this.#checkVersion(view.getUint32(at + PLACEMENT.xp_version, true));
    const flags = view.getUint32(at + PLACEMENT.xp_flags, true);
    const known = PlacementFlag.LINK | PlacementFlag.MTIME | PlacementFlag.SYMLINK;
    if ((flags & ~known) !== 0) throw new Malformed("ENTRY_MALFORMED", `flags 0x${flags.toString(16)} are unknown`);
    const nameLength = view.getUint32(at + PLACEMENT.xp_name_len, true);
    const symlinkLength = view.getUint32(at + PLACEMENT.xp_symlink_len, true);
    if (nameLength + symlinkLength > MAX_PLACEMENT_HEAP) {
      throw new Malformed("ENTRY_MALFORMED", `name and symlink target of ${nameLength} + ${symlinkLength} bytes`);
    }
    const heap = at + PLACEMENT.xp_heap;
    const common = {
      link:
        (flags & PlacementFlag.LINK) === 0
          ? undefined
          : this.#link(at, this.#bytes.toString("latin1", heap, heap + nameLength)),
      mode: view.getUint32(at + PLACEMENT.xp_mode, true),
      uid: view.getUint32(at + PLACEMENT.xp_uid, true),
      gid: view.getUint32(at + PLACEMENT.xp_gid, true),
      mtime:
        (flags & PlacementFlag.MTIME) === 0
          ? undefined
          : this.#time(at + PLACEMENT.xp_mtime_sec, at + PLACEMENT.xp_mtime_nsec),
    };
    if (code === ExtensionType.RELINK) {
      return { type: "relink", target: this.#index(at + PLACEMENT.xp_target, "target"), ...common };
    }
    const symlink = (flags & PlacementFlag.SYMLINK) !== 0;
    const symlinkTarget = this.#bytes.toString("latin1", heap + nameLength, heap + nameLength + symlinkLength);
    if (symlink !== symlinkLength > 0 || symlinkTarget.includes("\0")) {
      throw new Malformed("ENTRY_MALFORMED", `symlink target of ${symlinkLength} bytes is not one`);
    }
    return { type: "node", kind: symlink ? "symlink" : "file", symlinkTarget, ...common };
  }

  #link(at: number, name: string): Link {
    if (!isName(name)) throw new Malformed("PATH_INVALID", `"${name}" is not a name`);
    return { parent: this.#index(at + PLACEMENT.xp_parent, "parent"), name };
  }

  #filler(at: number): LogEntry {
    this.#checkVersion(this.#view.getUint32(at + FillerStruct.offsets.xf_version, true));
    const hash = at + FillerStruct.offsets.xf_node_hash;
    const run = this.#view.getUint32(at + FillerStruct.offsets.xf_run, true);
    if (run > FILLER_RUN) {
      throw new Malformed("ENTRY_MALFORMED", `a run of ${run} fillers: the longest has ${FILLER_RUN}`);
    }
    return {
      type: "filler",
      first: this.#checkedSize(at + FillerStruct.offsets.xf_first, "xf_first"),
      run: run === 0 ? FORMER_FILLER_RUN : run,
      epoch: this.#checkedSize(at + FillerStruct.offsets.xf_epoch, "xf_epoch"),
      nodeIdHash: this.#bytes.toString("hex", hash, hash + 8),
    };
  }

  #checkVersion(version: number): void {
    if (version !== EXTENSION_VERSION) {
      throw new Malformed("ENTRY_MALFORMED", `extension version ${version} needs a newer famfs-csi`);
    }
  }

  #trailer(base: number): Time | undefined {
    const at = base + TRAILER_OFFSET;
    if (!this.#extended || this.#view.getUint32(at, true) !== TRAILER_MAGIC) return undefined;
    return this.#time(at + TrailerStruct.offsets.xt_mtime_sec, at + TrailerStruct.offsets.xt_mtime_nsec);
  }

  #time(secondsAt: number, nanosecondsAt: number): Time {
    const seconds = this.#view.getInt32(secondsAt + 4, true) * 0x1_0000_0000 + this.#view.getUint32(secondsAt, true);
    const nanoseconds = this.#view.getUint32(nanosecondsAt, true);
    if (!Number.isSafeInteger(seconds) || nanoseconds > 999_999_999) {
      throw new Malformed("ENTRY_MALFORMED", `mtime ${seconds} s and ${nanoseconds} ns is not a time`);
    }
    return { seconds, nanoseconds };
  }

  #index(at: number, what: string): number {
    const index = decodeIndex(this.#view.getBigUint64(at, true));
    if (index === undefined) throw new Malformed("ENTRY_MALFORMED", `${what} is no log index`);
    return index;
  }

  /** -1 for what is beyond 2^53 - 1. */
  #size(at: number): number {
    const high = this.#view.getUint32(at + 4, true);
    return high > 0x1fffff ? -1 : high * 0x1_0000_0000 + this.#view.getUint32(at, true);
  }

  #checkedSize(at: number, field: string): number {
    const value = this.#size(at);
    if (value < 0) throw new Malformed("ENTRY_MALFORMED", `${field} is beyond 2^53 - 1`);
    return value;
  }

  #text(at: number, length: number): string {
    let end = at;
    while (end < at + length && this.#bytes[end] !== 0) end++;
    return this.#bytes.toString("latin1", at, end);
  }
}
