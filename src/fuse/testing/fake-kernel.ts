/** A session without a kernel: tests feed requests as bytes and read replies as bytes. */
import { native } from "../../../native/index.ts";
import { type Logger, silentLogger } from "../../base/index.ts";
import { ERRNO } from "../errno.ts";
import { FileHandles } from "../file-handles.ts";
import { SharedFileMaps } from "../file-map-table.ts";
import { INIT_BIT } from "../flags.ts";
import { HeldBytes } from "../held-bytes.ts";
import { MapMemory } from "../map-memory.ts";
import { MAX_WRITE } from "../negotiate.ts";
import { OPCODES, type Opcode } from "../opcode.ts";
import type { Operations } from "../operations.ts";
import { ReplyWriter } from "../reply.ts";
import { Session, type SessionOptions } from "../session.ts";
import { SharedMemory } from "../shared-memory.ts";
import { WorkerCounters } from "../stats.ts";
import { InHeader, InitIn, OutHeader } from "../wire.ts";

export interface Reply {
  readonly errno: number;
  readonly body: Uint8Array;
}

export class FakeKernel {
  readonly session: Session;
  readonly fileMaps: SharedFileMaps;
  readonly handles: FileHandles;
  readonly notifications: Uint8Array[] = [];
  /** What a write of a notification ends with. */
  notifyErrno = 0;
  /** Requests whose program is gone: their replies are not taken. */
  readonly gone = new Set<bigint>();
  readonly replies = new Map<bigint, Reply>();
  #nextUnique = 2n;

  constructor(
    operations: (maps: SharedFileMaps) => Operations,
    options: SessionOptions = {},
    logger: Logger = silentLogger,
  ) {
    const memory = SharedMemory.allocate(1);
    this.fileMaps = new SharedFileMaps(memory);
    const handles = new FileHandles(memory, this.fileMaps);
    this.handles = handles;
    const counters = new WorkerCounters(memory, 1);
    this.session = new Session({
      connection: 1,
      transport: {
        send: (bytes, length) => this.#take(bytes.slice(0, length)),
        notify: (bytes) => {
          this.notifications.push(...split(bytes));
          if (this.notifyErrno === 0) return Promise.resolve(new Uint8Array(0));
          return Promise.resolve(Buffer.concat(split(bytes).map((one) => refuse(one, this.notifyErrno))));
        },
        close: () => {},
      },
      operations: operations(this.fileMaps),
      options,
      fileMaps: this.fileMaps,
      handles,
      memory: new MapMemory(native, memory, handles),
      held: new HeldBytes(),
      reply: new ReplyWriter(MAX_WRITE + 4096),
      logger,
      workerCounts: () => counters.read(),
    });
  }

  /** Sends INIT as a kernel of 7.`minor` that offers everything we know. */
  init(minor = 45): Reply {
    const flags = Object.values(INIT_BIT).reduce<number>((word, bit) => (bit < 32 ? word | (1 << bit) : word), 0) >>> 0;
    const flags2 =
      Object.values(INIT_BIT).reduce<number>((word, bit) => (bit < 32 ? word : word | (1 << (bit - 32))), 0) >>> 0;
    const body = InitIn.encode({ major: 7, minor, max_readahead: 131072, flags, flags2 });
    return this.answered(this.send("INIT", 0, body));
  }

  /** Sends one request; returns its unique. */
  send(name: Opcode, nodeid: number, ...parts: (Uint8Array | string)[]): bigint {
    const unique = this.#nextUnique;
    this.#nextUnique += 2n;
    this.session.receive(request(OPCODES[name].opcode, unique, nodeid, parts));
    return unique;
  }

  /** The reply to `unique`, which must have come. */
  answered(unique: bigint): Reply {
    const reply = this.replies.get(unique);
    if (reply === undefined) throw new Error(`request ${unique} has not been answered`);
    return reply;
  }

  #take(bytes: Uint8Array): boolean {
    const header = OutHeader.decode(bytes);
    // What the kernel checks (fuse II.1): it would refuse such a reply, and the request would hang.
    if (header.len !== bytes.byteLength) throw new Error(`reply of ${bytes.byteLength} bytes says ${header.len}`);
    if (header.error > 0 || header.error < -511) throw new Error(`reply with error ${header.error}`);
    if (header.error !== 0 && bytes.byteLength !== OutHeader.size) throw new Error("an error with a body");
    // A resent or interrupt mark aside, one reply per request; EAGAIN is how INTERRUPT is put off.
    if (this.replies.has(header.unique) && header.error !== -ERRNO.EAGAIN) {
      throw new Error(`request ${header.unique} was answered twice`);
    }
    if (this.gone.has(header.unique)) return false;
    this.replies.set(header.unique, { errno: Math.abs(header.error), body: bytes.subarray(OutHeader.size) });
    return true;
  }
}

/** One request as the kernel would write it; names get their NUL. */
export function request(opcode: number, unique: bigint, nodeid: number, parts: (Uint8Array | string)[]): Uint8Array {
  const body = Buffer.concat(
    parts.map((part) => (typeof part === "string" ? Buffer.from(`${part}\0`, "latin1") : part)),
  );
  const bytes = new Uint8Array(InHeader.size + body.byteLength);
  InHeader.encode(
    {
      len: bytes.byteLength,
      opcode,
      unique,
      nodeid: BigInt(nodeid),
      uid: 1000,
      gid: 1000,
      pid: 42,
      total_extlen: 0,
    },
    bytes,
  );
  bytes.set(body, InHeader.size);
  return bytes;
}

function split(bytes: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.byteLength; ) {
    const { len } = OutHeader.decode(bytes, at);
    parts.push(bytes.slice(at, at + len));
    at += len;
  }
  return parts;
}

function refuse(notification: Uint8Array, errno: number): Uint8Array {
  const bytes = Uint8Array.from(notification);
  OutHeader.encode({ ...OutHeader.decode(bytes), unique: BigInt(errno) }, bytes);
  return bytes;
}
