import { statfsSync } from "node:fs";
import { native, THROUGH } from "../../native/index.ts";
import { FamfsError, fromSystemError } from "../base/index.ts";

export interface WindowOptions {
  readonly writable: boolean;
  /** What goes past the caches, where those of all hosts do not agree by themselves. */
  readonly through: keyof typeof THROUGH;
  /** Named in messages. */
  readonly what: string;
  /** The file that stands for the memory, when it is simulated. */
  readonly file?: string | undefined;
  /** The simulated host whose caches it is seen through (`PathSpec`). */
  readonly host?: string | undefined;
}

/**
 * A mapped range of a device. JavaScript never dereferences it: each call names the window by number, and the addon
 * checks the range and survives a memory error. Offsets are bytes within the window.
 *
 * Every call throws MEMORY_ERROR, OUT_OF_RANGE, READ_ONLY, or HANDLE_STALE after it was closed.
 */
export class Window implements AsyncDisposable {
  /** What the addon and file maps call it; valid in every thread of the process. */
  readonly id: number;
  readonly length: number;
  readonly writable: boolean;
  /** Named in messages: "/dev/dax0.0 [0, 4 GiB)". */
  readonly what: string;
  readonly #file: string | undefined;
  #open = true;

  private constructor(id: number, length: number, { writable, what, file }: WindowOptions) {
    this.id = id;
    this.length = length;
    this.writable = writable;
    this.what = what;
    this.#file = file;
  }

  /** Maps bytes [offset, offset + length) of `fd`, which may be closed afterwards. */
  static map(fd: number, range: { readonly offset: number; readonly length: number }, options: WindowOptions): Window {
    const { writable, what, host } = options;
    try {
      const id = native.windowMap(fd, range.offset, range.length, writable, THROUGH[options.through], host);
      return new Window(id, range.length, options);
    } catch (error) {
      throw fromSystemError(error, "mmap", what);
    }
  }

  copyOut(offset: number, target: Uint8Array): void {
    this.#run("read", offset, target.byteLength, () => native.copyOut(this.id, offset, target));
  }

  /** Bytes [offset, offset + length), copied. */
  read(offset: number, length: number): Uint8Array {
    if (!(length <= this.length)) throw this.#outside("read", offset, length);
    const bytes = new Uint8Array(length);
    this.copyOut(offset, bytes);
    return bytes;
  }

  /** As the data of a WRITE is stored: past the caches where those of all hosts do not agree. */
  copyIn(offset: number, source: Uint8Array): void {
    this.#run("write", offset, source.byteLength, () => native.copyIn(this.id, offset, source));
  }

  /** Copies in; when it returns the bytes are in the memory, and no later load of this thread passes it. */
  copyInDurable(offset: number, source: Uint8Array): void {
    this.#run("write", offset, source.byteLength, () => native.copyInDurable(this.id, offset, source));
  }

  flush(offset: number, length: number): void {
    this.#run("flush", offset, length, () => native.flush(this.id, offset, length));
  }

  /** Drops cache lines, so that the next load comes from the memory. */
  invalidate(offset: number, length: number): void {
    this.#run("invalidate", offset, length, () => native.invalidate(this.id, offset, length));
  }

  /** Zeroes by stores, durably. `Device.zero` is for whole regions: it punches holes where it can. */
  zero(offset: number, length: number): void {
    this.#run("zero", offset, length, () => native.zero(this.id, offset, length));
  }

  /** `zero` on a thread of its own. Rejects with HANDLE_STALE when the window is closed meanwhile. */
  async zeroRange(offset: number, length: number): Promise<void> {
    try {
      await native.zeroRange(this.id, offset, length);
    } catch (error) {
      throw this.#wrap("zero", offset, length, error);
    }
  }

  load64(offset: number): bigint {
    return this.#run("load", offset, 8, () => native.load64(this.id, offset));
  }

  /** Not flushed: follow with `flush`, or use `copyInDurable`. */
  store64(offset: number, value: bigint): void {
    this.#run("store", offset, 8, () => native.store64(this.id, offset, value));
  }

  /** Where the kernel reported bad memory that nobody has read yet; undefined: nowhere. */
  reportedBad(): number | undefined {
    return this.#run("look for bad memory in", 0, 0, () => native.reportedBad(this.id));
  }

  populate(offset: number, length: number): void {
    this.#run("populate", offset, length, () => native.populate(this.id, offset, length));
  }

  forgetPopulated(offset: number, length: number): void {
    this.#run("forget", offset, length, () => native.forgetPopulated(this.id, offset, length));
  }

  /** Unmaps; waits for bounded calls of other threads that are inside. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    native.windowUnmap(this.id);
  }

  #run<T>(verb: string, offset: number, length: number, call: () => T): T {
    try {
      return call();
    } catch (error) {
      throw this.#wrap(verb, offset, length, error);
    }
  }

  #wrap(verb: string, offset: number, length: number, error: unknown): FamfsError {
    switch ((error as { code?: unknown }).code) {
      case "EIO":
        return this.noAnswer(`${verb} of ${length} bytes at ${offset} of ${this.what}`, error);
      case "ERANGE":
        return this.#outside(verb, offset, length);
      case "EROFS":
        return new FamfsError("READ_ONLY", `${verb} at ${offset} of ${this.what}: mapped read-only`);
      case "EBADF":
        return new FamfsError("HANDLE_STALE", `${verb} at ${offset} of ${this.what}: the window is closed`);
      default:
        return error instanceof TypeError
          ? this.#outside(verb, offset, length)
          : fromSystemError(error, verb, this.what);
    }
  }

  /** MEMORY_ERROR for an access that ended with EIO. Simulated memory is not broken when its file system is full. */
  noAnswer(what: string, cause: unknown): FamfsError {
    const isStorageFull = this.#file !== undefined && isFull(this.#file);
    return new FamfsError(
      "MEMORY_ERROR",
      isStorageFull
        ? `${what}: the file system that holds the simulated device ${this.#file} is full: make room in it`
        : `${what}: the memory does not answer (SIGBUS)`,
      { cause },
    );
  }

  #outside(verb: string, offset: number, length: number): FamfsError {
    return new FamfsError(
      "OUT_OF_RANGE",
      `${verb} of ${length} bytes at ${offset} is outside ${this.what}, which has ${this.length} bytes`,
    );
  }
}

/** No block is left for a hole of `file`. */
function isFull(file: string): boolean {
  try {
    return statfsSync(file).bavail === 0;
  } catch {
    return false; // it is gone
  }
}
