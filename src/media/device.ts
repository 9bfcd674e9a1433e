import { constants, readSync } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { native } from "../../native/index.ts";
import {
  ALLOC_UNIT,
  type Extent,
  FamfsError,
  formatSize,
  fromSystemError,
  GIB,
  MIB,
  roundDown,
} from "../base/index.ts";
import { deviceNumbers, readDaxAttributes } from "./dax-attributes.ts";
import { type DeviceContents, describeContents, HEAD_LENGTH, TAIL_LENGTH } from "./device-contents.ts";
import { lockDevice, lockFolder } from "./device-lock.ts";
import type { PathSpec } from "./device-spec.ts";
import { Window, type WindowOptions } from "./window.ts";

export interface ZeroOptions {
  readonly signal?: AbortSignal;
  /** Bytes done so far. */
  readonly onProgress?: (doneBytes: number) => void;
  /** Called before each chunk; throws when the range must no longer be touched (its region was given away). */
  readonly check?: () => void | Promise<void>;
  /** A window over the range, at `windowOffset`, that must forget what it populated. */
  readonly window?: { readonly window: Window; readonly offset: number };
}

/** What of a simulated device can become a hole. */
const PAGE = 4096;

/** Zeroed between two calls of `check`: about 0.2 s of work on a thread of its own, for holes as for stores. */
const ZERO_CHUNK = 512 * MIB;

/** Units looked at by `findUnit` before others get their turn: about a millisecond. */
const UNITS_PER_TURN = 512;

/**
 * A devdax device, or a regular file that stands for one. Both are only ever mapped, by the same code; they differ in
 * where their size comes from and in how they are zeroed.
 */
export class Device implements AsyncDisposable {
  readonly path: string;
  readonly kind: "devdax" | "file";
  readonly writable: boolean;
  readonly sizeBytes: number;
  /** Offsets and lengths of regions are multiples of this: 2 MiB, or more when the device wants it. */
  readonly alignBytes: number;
  /** Offsets and lengths of what `zero` takes are multiples of this. */
  readonly zeroAlignBytes: number;
  /** What it is on this host, whatever its path. */
  readonly identity: string;
  /** The simulated host whose caches it is seen through (`PathSpec`). */
  readonly cachesOf: string | undefined;
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle, fields: Omit<DeviceFacts, "handle">) {
    this.#handle = handle;
    this.path = fields.path;
    this.kind = fields.kind;
    this.writable = fields.writable;
    this.sizeBytes = fields.sizeBytes;
    this.alignBytes = fields.alignBytes;
    this.zeroAlignBytes = fields.kind === "file" ? PAGE : ALLOC_UNIT;
    this.identity = fields.identity;
    this.cachesOf = fields.cachesOf;
  }

  /**
   * Opens a path (`openDevice` opens whatever a user names); a missing simulated device is created when the spec has a
   * size and `create` is not false. DEVICE_NOT_FOUND, DEVICE_MODE, DEVICE_TOO_SMALL, INVALID_ARGUMENT (an existing file
   * of another size), SYSTEM.
   */
  static async open(
    { path, sizeBytes, cachesOf }: PathSpec,
    options: { readonly writable: boolean; readonly create?: boolean },
  ): Promise<Device> {
    const create = sizeBytes !== undefined && options.create !== false;
    const handle = await openFile(path, options.writable, create);
    try {
      const status = await handle.stat();
      const common = { path, writable: options.writable, cachesOf };
      if (status.isCharacterDevice()) {
        if (sizeBytes !== undefined || cachesOf !== undefined) {
          const what = sizeBytes !== undefined ? "a size is" : "simulated caches are";
          throw new FamfsError("INVALID_ARGUMENT", `${path} is a device; ${what} for files that stand for one`);
        }
        const { sizeBytes: bytes, alignBytes } = await readDaxAttributes(path, status.rdev);
        const { major, minor } = deviceNumbers(status.rdev);
        const aligned = Math.max(alignBytes, ALLOC_UNIT);
        return new Device(handle, {
          ...common,
          kind: "devdax",
          sizeBytes: usable(path, bytes, aligned),
          alignBytes: aligned,
          identity: `dax ${major}:${minor}`,
        });
      }
      if (!status.isFile()) {
        const what = status.isDirectory()
          ? "a directory"
          : status.isBlockDevice()
            ? "a block device"
            : "a special file";
        throw new FamfsError("DEVICE_MODE", `${path} is ${what}; a devdax device or a regular file is needed`);
      }
      const bytes = create ? await giveSize(handle, path, status.size, sizeBytes) : status.size;
      if (sizeBytes !== undefined && bytes !== sizeBytes) {
        throw new FamfsError(
          "INVALID_ARGUMENT",
          `${path} has ${bytes} bytes, ${sizeBytes} were asked for; leave out the size, or remove the file`,
        );
      }
      return new Device(handle, {
        ...common,
        kind: "file",
        sizeBytes: usable(path, bytes, ALLOC_UNIT),
        alignBytes: ALLOC_UNIT,
        identity: `file ${status.dev}:${status.ino}`,
      });
    } catch (error) {
      await handle.close();
      throw fromSystemError(error, "open", path);
    }
  }

  /** The whole device as a region: where a file system without label is. */
  get whole(): Extent {
    return { offset: 0, length: this.sizeBytes };
  }

  /** Maps an aligned range; the caller owns the window. OUT_OF_RANGE, READ_ONLY. */
  mapRegion(range: Extent, options: Pick<WindowOptions, "writable"> & Partial<Pick<WindowOptions, "through">>): Window {
    this.#checkRange(range, this.alignBytes);
    if (options.writable) this.#checkWritable();
    const what = `${this.path} [${formatSize(range.offset)}, ${formatSize(range.offset + range.length)})`;
    const { writable, through = "nothing" } = options;
    const file = this.kind === "file" ? this.path : undefined;
    return Window.map(this.#handle.fd, range, { writable, through, what, file, host: this.cachesOf });
  }

  /**
   * Makes a range zero (multiples of `zeroAlignBytes`), durably: holes in a simulated device, non-temporal stores on a
   * real one. Runs on threads of its own, chunk by chunk. Stops with what `check` throws, or CANCELLED.
   */
  async zero(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    this.#checkRange({ offset, length }, this.zeroAlignBytes);
    this.#checkWritable();
    for (let done = 0; done < length; ) {
      if (options.signal?.aborted === true) {
        throw new FamfsError("CANCELLED", `zeroing of ${this.path}: stopped after ${done} of ${length} bytes`);
      }
      await options.check?.();
      const bytes = Math.min(ZERO_CHUNK, length - done);
      await this.#zeroChunk(offset + done, bytes);
      const seen = options.window;
      seen?.window.forgetPopulated(seen.offset + done, bytes);
      done += bytes;
      options.onProgress?.(done);
    }
  }

  /** Makes a small range of a simulated device a hole, at once; false where holes are not to be had. */
  punchNow(offset: number, length: number): boolean {
    if (this.kind !== "file") return false;
    this.#checkRange({ offset, length }, this.zeroAlignBytes);
    this.#checkWritable();
    try {
      native.punchSmallHole(this.#handle.fd, offset, length);
      return true;
    } catch (error) {
      if ((error as { code?: unknown }).code === "EOPNOTSUPP") return false;
      throw fromSystemError(error, "fallocate", this.path);
    }
  }

  /** What it holds, judged by its first 2 MiB and its end. */
  async inspect(): Promise<DeviceContents> {
    const head = await this.read(0, Math.min(HEAD_LENGTH, this.sizeBytes));
    const tail = await this.read(this.sizeBytes - TAIL_LENGTH, TAIL_LENGTH);
    return describeContents(head, tail);
  }

  /** A copy of bytes [offset, offset + length). Costs no memory where a simulated device has holes. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.sizeBytes)) throw this.#outside(offset, length);
    if (this.kind === "file") {
      // read(2) of a hole allocates nothing; a load from a mapping of it does.
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await this.#handle.read(bytes, done, length - done, offset + done);
        if (bytesRead === 0) {
          throw new FamfsError("MEMORY_ERROR", `${this.path} ends at ${offset + done}: it was truncated`);
        }
        done += bytesRead;
      }
      return bytes;
    }
    const start = roundDown(offset, this.alignBytes);
    const end = Math.min(
      this.sizeBytes,
      start + Math.ceil((offset + length - start) / this.alignBytes) * this.alignBytes,
    );
    await using window = this.mapRegion({ offset: start, length: end - start }, { writable: false });
    window.invalidate(offset - start, length);
    return window.read(offset - start, length);
  }

  /**
   * The first allocation unit in [from, end) that begins with `magic`; undefined when there is none. Reads 8 bytes of
   * each, so a terabyte takes about a second, and no memory where a simulated device has holes.
   */
  async findUnit(magic: bigint, { from, end }: { readonly from: number; readonly end: number }) {
    const chunk = Math.max(this.alignBytes, GIB);
    for (let start = roundDown(from, this.alignBytes); start < end; start += chunk) {
      const length = Math.min(chunk, this.sizeBytes - start);
      await using reader = this.#wordReader({ offset: start, length });
      for (let offset = Math.max(start, from), seen = 0; offset < Math.min(end, start + length); offset += ALLOC_UNIT) {
        if (reader.read(offset) === magic) return offset;
        if (++seen % UNITS_PER_TURN === 0) await turn();
      }
    }
    return undefined;
  }

  /** See `lockDevice`. Disposing releases. */
  async lock(options: { readonly shared: boolean } = { shared: false }): Promise<AsyncDisposable> {
    if (this.kind === "file") return lockDevice({ device: this.path, file: this.path, ours: false }, options);
    const file = join(await lockFolder(), `${this.identity.replaceAll(/[ :]/g, "-")}.lock`);
    return lockDevice({ device: this.path, file, ours: true }, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }

  async #zeroChunk(offset: number, length: number): Promise<void> {
    if (this.kind === "file") {
      try {
        // One unit takes some 10 µs, the start of a thread ten times that: each new file is zeroed so.
        if (length <= ALLOC_UNIT) native.punchSmallHole(this.#handle.fd, offset, length);
        else await native.punchHole(this.#handle.fd, offset, length);
        return;
      } catch (error) {
        const wrapped = fromSystemError(error, "fallocate", this.path);
        if ((error as { code?: unknown }).code !== "EOPNOTSUPP") throw wrapped;
      }
    }
    // One unit of alignment can be larger than a chunk (1 GiB on some devices), so map around it.
    const start = roundDown(offset, this.alignBytes);
    const end = Math.ceil((offset + length) / this.alignBytes) * this.alignBytes;
    await using window = this.mapRegion({ offset: start, length: end - start }, { writable: true });
    await window.zeroRange(offset - start, length);
  }

  #wordReader(range: Extent): AsyncDisposable & { read(offset: number): bigint } {
    if (this.kind === "file") {
      const word = Buffer.alloc(8);
      return {
        read: (offset) => {
          if (readSync(this.#handle.fd, word, 0, 8, offset) === 8) return word.readBigUInt64LE();
          throw new FamfsError("MEMORY_ERROR", `${this.path} ends before ${offset + 8}: it was truncated`);
        },
        async [Symbol.asyncDispose]() {},
      };
    }
    const window = this.mapRegion(range, { writable: false });
    return {
      read(offset) {
        window.invalidate(offset - range.offset, 8);
        return window.load64(offset - range.offset);
      },
      [Symbol.asyncDispose]: () => window[Symbol.asyncDispose](),
    };
  }

  #checkRange({ offset, length }: Extent, align: number): void {
    if (!(Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length > 0)) {
      throw this.#outside(offset, length);
    }
    if (offset % align !== 0 || length % align !== 0) {
      throw new FamfsError(
        "OUT_OF_RANGE",
        `${this.path}: range [${offset}, ${offset + length}) is not made of multiples of ${align} bytes`,
      );
    }
    if (offset + length > this.sizeBytes) throw this.#outside(offset, length);
  }

  #outside(offset: number, length: number): FamfsError {
    return new FamfsError(
      "OUT_OF_RANGE",
      `${this.path}: ${length} bytes at ${offset} are outside the device of ${this.sizeBytes} bytes`,
    );
  }

  #checkWritable(): void {
    if (!this.writable) throw new FamfsError("READ_ONLY", `${this.path} was opened for reading only`);
  }
}

interface DeviceFacts {
  readonly cachesOf: string | undefined;
  readonly path: string;
  readonly kind: "devdax" | "file";
  readonly writable: boolean;
  readonly sizeBytes: number;
  readonly alignBytes: number;
  readonly identity: string;
}

async function openFile(path: string, writable: boolean, create: boolean): Promise<FileHandle> {
  const flags = (writable || create ? constants.O_RDWR : constants.O_RDONLY) | (create ? constants.O_CREAT : 0);
  try {
    return await open(path, flags | constants.O_NONBLOCK, 0o600);
  } catch (error) {
    const wrapped = fromSystemError(error, "open", path);
    const missing = (error as { code?: unknown }).code === "ENOENT";
    if (!missing) throw (await isDirectory(path)) ? new FamfsError("DEVICE_MODE", `${path} is a directory`) : wrapped;
    throw new FamfsError(
      "DEVICE_NOT_FOUND",
      `there is no ${path}; to create a simulated device write file://${path}?size=4Gi`,
      { cause: error },
    );
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (status) => status.isDirectory(),
    () => false,
  );
}

/** A new or still empty file gets its size; one that has a size keeps it. */
async function giveSize(handle: FileHandle, path: string, now: number, wanted: number): Promise<number> {
  if (now !== 0) return now;
  try {
    await handle.truncate(wanted);
    return wanted;
  } catch (error) {
    throw fromSystemError(error, "ftruncate", path);
  }
}

function usable(path: string, bytes: number, align: number): number {
  const size = roundDown(bytes, align);
  if (size === 0) {
    throw new FamfsError("DEVICE_TOO_SMALL", `${path} has ${bytes} bytes; the least is ${align}`);
  }
  return size;
}
