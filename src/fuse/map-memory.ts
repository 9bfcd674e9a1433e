import type { FuseCalls, MemoryCalls } from "../../native/index.ts";
import { FamfsError, fromSystemError } from "../base/index.ts";
import { ERRNO } from "./errno.ts";
import type { FileHandle, FileHandles } from "./file-handles.ts";
import { MAP, type SharedMemory } from "./shared-memory.ts";

const MAX_SEGMENTS = 1023;

/** Reading and writing file bytes on the main thread: what workers leave to it. Never spans an await. */
export class MapMemory {
  readonly #native: FuseCalls & MemoryCalls;
  readonly #memory: SharedMemory;
  readonly #handles: FileHandles;
  readonly #segments = new Float64Array(2 * MAX_SEGMENTS);

  constructor(native: FuseCalls & MemoryCalls, memory: SharedMemory, handles: FileHandles) {
    this.#native = native;
    this.#memory = memory;
    this.#handles = handles;
  }

  /** Fills `target` from `offset` on; returns how much of it, less at the end of the file. */
  read(handle: FileHandle, offset: number, target: Uint8Array): number {
    this.#check(handle);
    const length = Math.max(0, Math.min(target.byteLength, this.#memory.size(handle.map) - offset));
    const count = this.#locate(handle, offset, length);
    const window = this.#word(handle, MAP.window);
    let done = 0;
    for (let index = 0; index < count; index++) {
      const piece = this.#segments[2 * index + 1] as number;
      try {
        this.#native.copyOut(window, this.#segments[2 * index] as number, target.subarray(done, done + piece));
      } catch (error) {
        throw fromSystemError(error, "read of file memory");
      }
      done += piece;
    }
    return length;
  }

  /**
   * Writes all of `data`, extends the size if need be. WRITE_PAST_END when the map does not allow that, or when the
   * bytes before `offset` would be nobody's.
   */
  write(handle: FileHandle, offset: number, data: Uint8Array): void {
    this.#check(handle);
    const end = offset + data.byteLength;
    const sealed = this.#memory.isSealed(handle.map);
    if (!this.#memory.mayWrite(handle.map, offset, end)) {
      throw new FamfsError(
        "WRITE_PAST_END",
        `node ${handle.nodeid}: a write of bytes ${offset} to ${end} is not ready`,
      );
    }
    const count = this.#locate(handle, offset, data.byteLength);
    const errno = this.#native.fuseCopyIn(
      this.#word(handle, MAP.guard),
      this.#word(handle, MAP.window),
      this.#segments,
      count,
      data,
      0,
    );
    if (errno === ERRNO.ESTALE) {
      throw new FamfsError("OWNER_STALE", `node ${handle.nodeid}: the volume changed hands, nothing was written`);
    }
    if (errno === ERRNO.ECANCELED) {
      throw new FamfsError(
        "OWNER_STALE",
        `node ${handle.nodeid}: the volume changed hands while bytes were being stored`,
      );
    }
    if (errno !== 0) throw new FamfsError("MEMORY_ERROR", `node ${handle.nodeid}: write to memory: errno ${errno}`);
    if (!sealed) this.#memory.extend(handle.map, end);
    this.#memory.mapDoubles[(handle.map * MAP.words + MAP.lastWriteMs) / 2] = Date.now();
  }

  #check(handle: FileHandle): void {
    if (!this.#handles.isMapLive(handle)) {
      throw new FamfsError("HANDLE_STALE", `node ${handle.nodeid}: the file map of this handle is gone`);
    }
  }

  #locate(handle: FileHandle, offset: number, length: number): number {
    const count = this.#memory.locate(handle.map, offset, length, this.#segments);
    if (count < 0) {
      throw new FamfsError(
        "OUT_OF_RANGE",
        `node ${handle.nodeid}: no extent for bytes ${offset} to ${offset + length}`,
      );
    }
    return count;
  }

  #word(handle: FileHandle, word: number): number {
    return Atomics.load(this.#memory.maps, handle.map * MAP.words + word);
  }
}
