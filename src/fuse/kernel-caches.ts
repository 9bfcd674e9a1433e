import { FamfsError } from "../base/index.ts";
import { ERRNO } from "./errno.ts";
import { NOTIFY } from "./flags.ts";
import type { Forgettable, KernelCaches } from "./operations.ts";
import { errnoName } from "./stats.ts";
import type { Transport } from "./transport.ts";
import { NotifyDeleteOut, NotifyInvalEntryOut, NotifyInvalInodeOut, OutHeader } from "./wire.ts";

/**
 * The directory is not empty or in use as a mount point (its name was forgotten before that was seen), or it is over.
 */
const HARMLESS = new Set<number>([ERRNO.ENOTEMPTY, ERRNO.EBUSY, ERRNO.ENODEV, ERRNO.ENOTCONN, ERRNO.ECONNABORTED]);

/** Notifications of one message to the notifier's thread: some 300 KiB at most. */
const BATCH = 1024;
/** When what was refused is sent again. */
const AGAIN_MS = [10, 100, 1000] as const;

/** FUSE 7.44, Linux 6.16. */
const INC_EPOCH_MINOR = 44;

export interface NotificationsOptions {
  readonly transport: Transport;
  /** Of the protocol that was negotiated. */
  readonly minor: () => number;
  /** The kernel keeps what it should have forgotten, and cannot be told: it must not go on. */
  readonly lost: (error: unknown) => void;
}

/** Encodes notifications and hands them to the transport's notifier. */
export class Notifications implements KernelCaches {
  readonly #options: NotificationsOptions;

  constructor(options: NotificationsOptions) {
    this.#options = options;
  }

  forgetAttributes(nodeid: number): void {
    const bytes = encode({ type: "attributes", nodeid });
    this.#options.transport.send(bytes, bytes.byteLength);
  }

  async forget(what: readonly Forgettable[]): Promise<void> {
    const batches = [];
    for (let at = 0; at < what.length; at += BATCH) {
      batches.push(this.#deliver(Buffer.concat(what.slice(at, at + BATCH).map(encode)), 0));
    }
    await Promise.all(batches);
  }

  /** From this thread: INC_EPOCH sleeps on nothing, and a notifier may be asleep with another notification. */
  doubtNames(): boolean {
    if (this.#options.minor() < INC_EPOCH_MINOR) return false;
    const bytes = notification(NOTIFY.INC_EPOCH, 0);
    return this.#options.transport.send(bytes, bytes.byteLength);
  }

  async #deliver(bytes: Uint8Array, tries: number): Promise<void> {
    try {
      const { unknown, failed } = sorted(await this.#options.transport.notify(bytes));
      if (unknown.length > 0) void this.#again(unknown, tries);
      if (failed.length > 0) await this.#again(failed, tries);
    } catch (error) {
      this.#options.lost(error);
    }
  }

  async #again(refused: readonly Refused[], tries: number): Promise<void> {
    const waitMs = AGAIN_MS[tries];
    const [first] = refused;
    if (first === undefined) return;
    if (waitMs === undefined) {
      if (first.errno === ERRNO.ENOENT) return; // it does not have the inode, or not any more
      throw new FamfsError("SYSTEM", `the kernel refused a notification: ${errnoName(first.errno)}`, {
        details: { errno: errnoName(first.errno), syscall: "write /dev/fuse" },
      });
    }
    const { promise: waited, resolve } = Promise.withResolvers<void>();
    setTimeout(resolve, waitMs).unref();
    await waited;
    await this.#deliver(Buffer.concat(refused.map((one) => one.bytes)), tries + 1);
  }
}

interface Refused {
  readonly errno: number;
  readonly bytes: Uint8Array;
}

/**
 * `unknown`: inodes that the kernel does not have. It may be about to make one, from an answer to a LOOKUP that went
 * out before the change, so it is told again a little later.
 */
function sorted(bytes: Uint8Array): { readonly unknown: readonly Refused[]; readonly failed: readonly Refused[] } {
  const unknown: Refused[] = [];
  const failed: Refused[] = [];
  for (let at = 0; at < bytes.byteLength; ) {
    const { len, error: code, unique } = OutHeader.decode(bytes, at);
    const errno = Number(unique);
    const one = { errno, bytes: bytes.slice(at, at + len) };
    OutHeader.encode({ len, error: code, unique: 0n }, one.bytes);
    if (errno === ERRNO.ENOENT) {
      if (code === NOTIFY.INVAL_INODE) unknown.push(one);
    } else if (!HARMLESS.has(errno)) failed.push(one);
    at += len;
  }
  return { unknown, failed };
}

/** What a new server sends before it reads: requests its predecessor took are queued again (Linux 6.9). */
export function resendNotification(): Uint8Array {
  return notification(NOTIFY.RESEND, 0);
}

function encode(what: Forgettable): Uint8Array {
  switch (what.type) {
    case "name": {
      const bytes = notification(NOTIFY.INVAL_ENTRY, NotifyInvalEntryOut.size, what.name);
      const body = { parent: BigInt(what.parent), namelen: what.name.length, flags: 0 };
      NotifyInvalEntryOut.encode(body, bytes, OutHeader.size);
      return bytes;
    }
    case "removed": {
      const bytes = notification(NOTIFY.DELETE, NotifyDeleteOut.size, what.name);
      const body = { parent: BigInt(what.parent), child: BigInt(what.nodeid), namelen: what.name.length };
      NotifyDeleteOut.encode(body, bytes, OutHeader.size);
      return bytes;
    }
    case "attributes":
    case "content": {
      const bytes = notification(NOTIFY.INVAL_INODE, NotifyInvalInodeOut.size);
      // A negative offset means attributes only, a length of 0 to the end.
      const body = { ino: BigInt(what.nodeid), off: what.type === "attributes" ? -1 : 0, len: 0 };
      NotifyInvalInodeOut.encode(body, bytes, OutHeader.size);
      return bytes;
    }
  }
}

function notification(code: number, bodySize: number, name?: string): Uint8Array {
  const nameSize = name === undefined ? 0 : name.length + 1; // with its NUL
  const bytes = new Uint8Array(OutHeader.size + bodySize + nameSize);
  OutHeader.encode({ len: bytes.byteLength, error: code, unique: 0n }, bytes);
  if (name !== undefined) bytes.set(Buffer.from(name, "latin1"), OutHeader.size + bodySize);
  return bytes;
}
