/**
 * READ and WRITE in a worker: from the request in the receive buffer to the answer, without an allocation, a bigint
 * or a word to another thread.
 */
import type { FuseCalls } from "../../native/index.ts";
import { ERRNO } from "./errno.ts";
import { WRITE_KILL_SUIDGID } from "./flags.ts";
import { OPCODES } from "./opcode.ts";
import type { SharedMemory } from "./shared-memory.ts";
import {
  ACTIVITY,
  COUNTER,
  HANDLE,
  HANDLE_FLAG,
  MAP,
  MAP_STATE,
  MAX_CONNECTIONS,
  MAX_HANDLES,
  WORKER_ERRNOS,
} from "./shared-memory.ts";
import { InHeader, OutHeader, ReadIn, WriteIn, WriteOut } from "./wire.ts";

const UNIQUE_AT = InHeader.offsets.unique;
const READ_AT = InHeader.size;
const WRITE_AT = InHeader.size;
const DATA_AT = InHeader.size + WriteIn.size;
const REPLY_SIZE = OutHeader.size + WriteOut.size;
/** With the reply header, one writev: native/fuse-worker.c MAX_SEGMENTS. */
const MAX_SEGMENTS = 1023;

export interface DataPathOptions {
  readonly native: FuseCalls;
  readonly memory: SharedMemory;
  /** Which of the workers this is, for activity and counters. */
  readonly index: number;
  readonly maxWrite: number;
  readonly bounce: boolean;
  /** Takes a request that is not answered here: the first `length` bytes of `bytes`, which are reused afterwards. */
  readonly passOn: (path: DataPath, connection: number, bytes: Uint8Array, length: number) => void;
}

export class DataPath {
  /** The addon's number of this worker. */
  readonly worker: number;
  readonly #native: FuseCalls;
  readonly #memory: SharedMemory;
  readonly #maxWrite: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #segments = new Float64Array(2 * MAX_SEGMENTS);
  readonly #state = new Uint32Array(1);
  readonly #reply = new Uint8Array(REPLY_SIZE);
  readonly #replyView = new DataView(this.#reply.buffer);
  readonly #activity: number;
  readonly #counters: number;
  readonly #passOnRequest: DataPathOptions["passOn"];
  #length = 0;
  #handleFlags = 0;

  constructor(options: DataPathOptions) {
    this.#native = options.native;
    this.#memory = options.memory;
    this.#maxWrite = options.maxWrite;
    this.#bytes = new Uint8Array(options.maxWrite + 4096);
    this.#view = new DataView(this.#bytes.buffer);
    this.#passOnRequest = options.passOn;
    this.#activity = options.index * ACTIVITY.words;
    this.#counters = options.index * MAX_CONNECTIONS * COUNTER.words;
    this.#replyView.setUint32(OutHeader.offsets.len, REPLY_SIZE, true);
    this.worker = this.#native.fuseWorkerOpen(this.#bytes, this.#segments, this.#state, options.bounce);
  }

  close(): void {
    this.#native.fuseWorkerClose(this.worker);
  }

  /** Waits for one request and deals with it; returns after `timeoutMs` or a wake without one. */
  serveOne(timeoutMs: number): void {
    const length = this.#native.fuseReceive(this.worker, timeoutMs);
    if (length !== 0) this.serve(length);
  }

  /** Deals with the request of `length` bytes in the buffer. False when it was passed on. */
  serve(length: number): boolean {
    this.#length = length;
    switch (this.#view.getUint32(InHeader.offsets.opcode, true)) {
      case OPCODES.READ.opcode:
        return this.#read(length);
      case OPCODES.WRITE.opcode:
        return this.#write(length);
      default:
        this.#passOnRequest(this, this.#state[0] as number, this.#bytes, length);
        return false;
    }
  }

  #read(length: number): boolean {
    const view = this.#view;
    const size = view.getUint32(READ_AT + ReadIn.offsets.size, true);
    if (length < InHeader.size + ReadIn.size || size > this.#maxWrite) {
      this.#refuseRead(ERRNO.EINVAL);
      return true;
    }
    const offset = this.#u64(READ_AT + ReadIn.offsets.offset);
    const map = this.#enter(READ_AT + ReadIn.offsets.fh);
    if (map < 0) {
      this.#refuseRead(ERRNO.EBADF);
      return true;
    }
    // A short answer is the end of the file.
    const bytes = Math.max(0, Math.min(size, this.#memory.size(map) - offset));
    const count = this.#memory.locate(map, offset, bytes, this.#segments);
    // Size and layout are two loads, and the main thread may have changed both in between (O_TRUNC): it knows.
    if (count < 0) return this.#passOn();
    const window = Atomics.load(this.#memory.maps, map * MAP.words + MAP.window);
    const errno = this.#native.fuseReplyRead(this.worker, window, count);
    this.#leave();
    this.#count(COUNTER.reads, errno === 0 ? bytes : 0, errno);
    return true;
  }

  #write(length: number): boolean {
    const view = this.#view;
    const size = view.getUint32(WRITE_AT + WriteIn.offsets.size, true);
    if (length < DATA_AT || size > length - DATA_AT) {
      this.#refuseWrite(ERRNO.EINVAL);
      return true;
    }
    const offset = this.#u64(WRITE_AT + WriteIn.offsets.offset);
    const end = offset + size;
    const map = this.#enter(WRITE_AT + WriteIn.offsets.fh);
    if (map < 0) {
      this.#refuseWrite(ERRNO.EBADF);
      return true;
    }
    if ((this.#handleFlags & HANDLE_FLAG.writable) === 0) {
      this.#leave();
      this.#refuseWrite(ERRNO.EBADF);
      return true;
    }
    const writeFlags = view.getUint32(WRITE_AT + WriteIn.offsets.write_flags, true);
    const killsSetId = (writeFlags & WRITE_KILL_SUIDGID) !== 0 && (this.#handleFlags & HANDLE_FLAG.setId) !== 0;
    const { maps, mapDoubles } = this.#memory;
    const base = map * MAP.words;
    const paused = (Atomics.load(maps, base + MAP.state) & MAP_STATE.paused) !== 0;
    const sealed = this.#memory.isSealed(map);
    if (killsSetId || paused || !this.#memory.mayWrite(map, offset, end)) {
      return this.#passOn();
    }
    const count = this.#memory.locate(map, offset, size, this.#segments);
    if (count < 0) {
      return this.#passOn();
    }

    const window = Atomics.load(maps, base + MAP.window);
    const guard = Atomics.load(maps, base + MAP.guard);
    // What the answer lets others ask for, the time and the size, is there before it. Both only matter when bytes are
    // written, so the time may be early; a size must not show bytes that are not there yet.
    mapDoubles[(base + MAP.lastWriteMs) / 2] = Date.now();
    const extending = !sealed && end > this.#memory.size(map);
    const errno = extending
      ? this.#native.fuseCopyIn(guard, window, this.#segments, count, this.#bytes, DATA_AT)
      : this.#native.fuseReplyWrite(this.worker, guard, window, count, DATA_AT);
    // The owner of the tree judges whether it is really stale: the claims may have changed for a good reason.
    if (errno === ERRNO.ESTALE || errno === ERRNO.ECANCELED) {
      return this.#passOn();
    }
    if (extending && errno === 0) this.#memory.extend(map, end);
    this.#leave();
    if (errno !== 0) {
      this.#refuseWrite(errno);
      return true;
    }
    if (extending) this.#answerWrite(size);
    this.#count(COUNTER.writes, size, 0);
    return true;
  }

  #answerWrite(size: number): void {
    const reply = this.#replyView;
    reply.setUint32(OutHeader.offsets.unique, this.#view.getUint32(UNIQUE_AT, true), true);
    reply.setUint32(OutHeader.offsets.unique + 4, this.#view.getUint32(UNIQUE_AT + 4, true), true);
    reply.setUint32(OutHeader.size + WriteOut.offsets.size, size, true);
    this.#native.fuseSend(this.#state[0] as number, this.#reply, REPLY_SIZE);
  }

  /** The main thread answers: a WRITE when the file system has made it possible (`prepareWrite`). */
  #passOn(): false {
    this.#leave();
    this.#passOnRequest(this, this.#state[0] as number, this.#bytes, this.#length);
    return false;
  }

  /**
   * Announces the map of the `fh` at `fhAt` and returns its index, or -1 when that is no open file of this
   * connection. Announced first, checked afterwards: whoever ends a map then waits for this worker (`idle`).
   */
  #enter(fhAt: number): number {
    const slot = this.#view.getUint32(fhAt, true);
    const generation = this.#view.getInt32(fhAt + 4, true);
    if (slot >= MAX_HANDLES || generation <= 0) return -1;
    const { handles, maps, activity } = this.#memory;
    const base = slot * HANDLE.words;
    if (Atomics.load(handles, base + HANDLE.generation) !== generation) return -1;
    const map = Atomics.load(handles, base + HANDLE.map);
    this.#handleFlags = Atomics.load(handles, base + HANDLE.flags);
    Atomics.store(activity, this.#activity + ACTIVITY.map, map + 1);
    if (
      Atomics.load(handles, base + HANDLE.connection) === (this.#state[0] as number) &&
      Atomics.load(handles, base + HANDLE.mapGeneration) === Atomics.load(maps, map * MAP.words + MAP.generation) &&
      Atomics.load(handles, base + HANDLE.generation) === generation
    ) {
      return map;
    }
    this.#leave();
    return -1;
  }

  #leave(): void {
    const { activity } = this.#memory;
    Atomics.store(activity, this.#activity + ACTIVITY.map, 0);
    Atomics.add(activity, this.#activity + ACTIVITY.ended, 1);
  }

  /** A u64 as a double; beyond 2^53 it is inexact but still beyond every file. */
  #u64(at: number): number {
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
  }

  #refuseRead(errno: number): void {
    this.#native.fuseReplyError(this.worker, errno);
    this.#count(COUNTER.reads, 0, errno);
  }

  #refuseWrite(errno: number): void {
    this.#native.fuseReplyError(this.worker, errno);
    this.#count(COUNTER.writes, 0, errno);
  }

  /** `kind` is COUNTER.reads or COUNTER.writes; bytes and errors are the two cells behind it. */
  #count(kind: number, bytes: number, errno: number): void {
    const { counters } = this.#memory;
    const slot = this.#counters + ((this.#state[0] as number) % MAX_CONNECTIONS) * COUNTER.words;
    const cell = slot + kind;
    counters[cell] = (counters[cell] as number) + 1;
    counters[cell + 1] = (counters[cell + 1] as number) + bytes;
    if (errno === 0) return;
    counters[cell + 2] = (counters[cell + 2] as number) + 1;
    const known = WORKER_ERRNOS.indexOf(errno);
    const byErrno = slot + COUNTER.errnos + (known < 0 ? WORKER_ERRNOS.length : known);
    counters[byErrno] = (counters[byErrno] as number) + 1;
  }
}
