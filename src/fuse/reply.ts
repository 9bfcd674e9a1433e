import { FamfsError } from "../base/index.ts";
import { S_IFMT } from "./flags.ts";
import type { Attributes, DirectoryEntry, Entry, FileSystemStatus, Missing, Time } from "./operations.ts";
import { Attr, AttrOut, Dirent, EntryOut, OpenOut, OutHeader, StatfsOut } from "./wire.ts";

/** "Until invalidated" on the wire: longer than any mount lives; the kernel caps it to its own maximum. */
const FOREVER_SECONDS = 0x7fff_ffff;
const BLOCK = 512;
/** st_blksize: what programs take as a good size for one read or write. */
const PREFERRED_IO = 4096;

/**
 * Builds one reply at a time in a buffer that is used again and again: header, then what is appended. A reply is
 * sent before anything is awaited.
 */
export class ReplyWriter {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #text: Buffer;
  #end: number = OutHeader.size;
  #limit: number;

  constructor(capacity: number) {
    this.bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.bytes.buffer);
    this.#text = Buffer.from(this.bytes.buffer);
    this.#limit = capacity;
  }

  /** Starts a reply whose body must fit `limit` bytes (what the request asked for). */
  start(limit = this.bytes.byteLength - OutHeader.size): void {
    this.#end = OutHeader.size;
    this.#limit = Math.min(this.bytes.byteLength, OutHeader.size + limit);
  }

  get bodyLength(): number {
    return this.#end - OutHeader.size;
  }

  /** Writes the header; returns the length of the whole. An error has no body. */
  finish(uniqueLow: number, uniqueHigh: number, errno: number): number {
    const length = errno === 0 ? this.#end : OutHeader.size;
    this.#view.setUint32(OutHeader.offsets.len, length, true);
    this.#view.setInt32(OutHeader.offsets.error, -errno, true);
    this.#view.setUint32(OutHeader.offsets.unique, uniqueLow, true);
    this.#view.setUint32(OutHeader.offsets.unique + 4, uniqueHigh, true);
    return length;
  }

  attributes(attributes: Attributes): void {
    const at = this.#claim(AttrOut.size);
    this.#duration(at + AttrOut.offsets.attr_valid, at + AttrOut.offsets.attr_valid_nsec, attributes.validSeconds);
    this.#attr(at + AttrOut.offsets.attr, attributes);
  }

  entry(entry: Entry | Missing): void {
    this.#entryAt(this.#claim(EntryOut.size), entry);
  }

  opened(low: number, high: number, openFlags: number): void {
    const at = this.#claim(OpenOut.size);
    this.#view.setUint32(at + OpenOut.offsets.fh, low, true);
    this.#view.setUint32(at + OpenOut.offsets.fh + 4, high, true);
    this.#view.setUint32(at + OpenOut.offsets.open_flags, openFlags, true);
  }

  status(status: FileSystemStatus): void {
    const at = this.#claim(StatfsOut.size);
    this.#size(at + StatfsOut.offsets.blocks, status.blocks);
    this.#size(at + StatfsOut.offsets.bfree, status.freeBlocks);
    this.#size(at + StatfsOut.offsets.bavail, status.freeBlocks);
    this.#size(at + StatfsOut.offsets.files, status.files);
    this.#size(at + StatfsOut.offsets.ffree, status.freeFiles);
    this.#view.setUint32(at + StatfsOut.offsets.bsize, status.blockSize, true);
    this.#view.setUint32(at + StatfsOut.offsets.namelen, status.maxNameLength, true);
    this.#view.setUint32(at + StatfsOut.offsets.frsize, status.blockSize, true);
  }

  u32(value: number): void {
    const at = this.#claim(8); // all such answers have four bytes of padding
    this.#view.setUint32(at, value, true);
  }

  u64(value: number): void {
    this.#size(this.#claim(8), value);
  }

  /** Throws BUFFER_TOO_SMALL when the caller of the system call has no room for them. */
  data(bytes: Uint8Array): void {
    if (bytes.byteLength > this.#limit - this.#end) {
      throw new FamfsError(
        "BUFFER_TOO_SMALL",
        `${bytes.byteLength} bytes to answer, room for ${this.#limit - this.#end}`,
      );
    }
    this.bytes.set(bytes, this.#end);
    this.#end += bytes.byteLength;
  }

  /** Room for `length` bytes of data, to be filled by the caller. */
  reserve(length: number): Uint8Array {
    const at = this.#claim(length);
    return this.bytes.subarray(at, at + length);
  }

  /** A dirent, with its fuse_entry_out for READDIRPLUS. False when the reply is full. */
  directoryEntry(entry: DirectoryEntry, offset: number, plus: boolean): boolean {
    const { nodeid, mode } = entry.entry.attributes;
    return this.#dirent(entry.name, nodeid, mode, offset, plus ? entry.entry : undefined, plus);
  }

  /** "." or "..": in READDIRPLUS with nodeid 0, which the kernel takes as "no lookup". */
  dotEntry(name: string, ino: number, mode: number, offset: number, plus: boolean): boolean {
    return this.#dirent(name, ino, mode, offset, undefined, plus);
  }

  #dirent(name: string, ino: number, mode: number, offset: number, entry: Entry | undefined, plus: boolean): boolean {
    const prefix = plus ? EntryOut.size : 0;
    const length = prefix + Dirent.size + Math.ceil(name.length / 8) * 8;
    if (length > this.#limit - this.#end) return false;
    const at = this.#claim(length);
    if (entry !== undefined) this.#entryAt(at, entry);
    const dirent = at + prefix;
    this.#size(dirent + Dirent.offsets.ino, ino);
    this.#size(dirent + Dirent.offsets.off, offset);
    this.#view.setUint32(dirent + Dirent.offsets.namelen, name.length, true);
    this.#view.setUint32(dirent + Dirent.offsets.type, (mode & S_IFMT) >>> 12, true);
    this.#text.write(name, dirent + Dirent.size, name.length, "latin1");
    return true;
  }

  #entryAt(at: number, entry: Entry | Missing): void {
    if ("missingForSeconds" in entry) {
      // nodeid 0: there is nothing by that name, and the kernel may remember so.
      this.#duration(
        at + EntryOut.offsets.entry_valid,
        at + EntryOut.offsets.entry_valid_nsec,
        entry.missingForSeconds,
      );
      return;
    }
    const { attributes } = entry;
    this.#size(at + EntryOut.offsets.nodeid, attributes.nodeid);
    this.#view.setBigUint64(at + EntryOut.offsets.generation, entry.generation, true);
    this.#duration(at + EntryOut.offsets.entry_valid, at + EntryOut.offsets.entry_valid_nsec, entry.entryValidSeconds);
    this.#duration(at + EntryOut.offsets.attr_valid, at + EntryOut.offsets.attr_valid_nsec, attributes.validSeconds);
    this.#attr(at + EntryOut.offsets.attr, attributes);
  }

  #attr(at: number, attributes: Attributes): void {
    const view = this.#view;
    const offsets = Attr.offsets;
    this.#size(at + offsets.ino, attributes.nodeid);
    this.#size(at + offsets.size, attributes.size);
    this.#size(at + offsets.blocks, Math.ceil(attributes.allocatedBytes / BLOCK));
    this.#time(at + offsets.atime, at + offsets.atimensec, attributes.atime);
    this.#time(at + offsets.mtime, at + offsets.mtimensec, attributes.mtime);
    this.#time(at + offsets.ctime, at + offsets.ctimensec, attributes.ctime);
    view.setUint32(at + offsets.mode, attributes.mode, true);
    view.setUint32(at + offsets.nlink, attributes.nlink, true);
    view.setUint32(at + offsets.uid, attributes.uid, true);
    view.setUint32(at + offsets.gid, attributes.gid, true);
    view.setUint32(at + offsets.blksize, PREFERRED_IO, true);
  }

  #time(secondsAt: number, nanosecondsAt: number, time: Time): void {
    this.#size(secondsAt, time.seconds);
    this.#view.setUint32(nanosecondsAt, time.nanoseconds, true);
  }

  #duration(secondsAt: number, nanosecondsAt: number, seconds: number): void {
    const capped = Math.min(Math.max(seconds, 0), FOREVER_SECONDS);
    const whole = Math.floor(capped);
    this.#size(secondsAt, whole);
    this.#view.setUint32(nanosecondsAt, Math.floor((capped - whole) * 1e9), true);
  }

  /** A 64-bit integer, two's complement when negative. */
  #size(at: number, value: number): void {
    this.#view.setUint32(at, value % 2 ** 32, true);
    this.#view.setInt32(at + 4, Math.floor(value / 2 ** 32), true);
  }

  #claim(length: number): number {
    const at = this.#end;
    if (length > this.#limit - at) {
      throw new FamfsError("BUFFER_TOO_SMALL", `${length} bytes to answer, room for ${this.#limit - at}`);
    }
    this.bytes.fill(0, at, at + length);
    this.#end += length;
    return at;
  }
}
