import { getSystemErrorMap } from "node:util";
import { FamfsError } from "../base/index.ts";
import { ERRNO } from "./errno.ts";
import { NOTIFY } from "./flags.ts";
import type { KernelCaches } from "./operations.ts";
import type { Transport } from "./transport.ts";
import { NotifyDeleteOut, NotifyInvalEntryOut, NotifyInvalInodeOut, OutHeader } from "./wire.ts";

/** Nothing of it is cached, the directory is not empty or in use as a mount point, or nobody is mounted any more. */
const HARMLESS = new Set<number>([
  ERRNO.ENOENT,
  ERRNO.ENOTDIR,
  ERRNO.ENOTEMPTY,
  ERRNO.EBUSY,
  ERRNO.ENODEV,
  ERRNO.ENOTCONN,
  ERRNO.ECONNABORTED,
]);

/** FUSE 7.44, Linux 6.16. */
const INC_EPOCH_MINOR = 44;

/** Encodes notifications and hands them to the transport's notifier. */
export class Notifications implements KernelCaches {
  readonly #transport: Transport;
  readonly #minor: () => number;

  /** `minor`: of the protocol that was negotiated. */
  constructor(transport: Transport, minor: () => number) {
    this.#transport = transport;
    this.#minor = minor;
  }

  invalidateEntry(parent: number, name: string): Promise<void> {
    const bytes = notification(NOTIFY.INVAL_ENTRY, NotifyInvalEntryOut.size, name);
    const body = { parent: BigInt(parent), namelen: name.length, flags: 0 };
    NotifyInvalEntryOut.encode(body, bytes, OutHeader.size);
    return this.#send("INVAL_ENTRY", bytes);
  }

  invalidateInode(nodeid: number, offset: number, length: number): Promise<void> {
    return this.#send("INVAL_INODE", invalidInode(nodeid, offset, length));
  }

  forgetAttributes(nodeid: number): void {
    const bytes = invalidInode(nodeid, 0, -1);
    this.#transport.send(bytes, bytes.byteLength);
  }

  notifyDelete(parent: number, nodeid: number, name: string): Promise<void> {
    const bytes = notification(NOTIFY.DELETE, NotifyDeleteOut.size, name);
    const body = { parent: BigInt(parent), child: BigInt(nodeid), namelen: name.length };
    NotifyDeleteOut.encode(body, bytes, OutHeader.size);
    return this.#send("DELETE", bytes);
  }

  /** From this thread: INC_EPOCH sleeps on nothing, and a notifier may be asleep with another notification. */
  doubtNames(): boolean {
    if (this.#minor() < INC_EPOCH_MINOR) return false;
    const bytes = notification(NOTIFY.INC_EPOCH, 0);
    return this.#transport.send(bytes, bytes.byteLength);
  }

  async #send(what: string, bytes: Uint8Array): Promise<void> {
    const errno = await this.#transport.notify(bytes);
    if (errno === 0 || HARMLESS.has(errno)) return;
    const name = getSystemErrorMap().get(-errno)?.[0] ?? "EIO";
    throw new FamfsError("SYSTEM", `the kernel refused ${what}: ${name}`, {
      details: { errno: name, syscall: "write /dev/fuse" },
    });
  }
}

/** What a new server sends before it reads: requests its predecessor took are queued again (Linux 6.9). */
export function resendNotification(): Uint8Array {
  return notification(NOTIFY.RESEND, 0);
}

/** INVAL_INODE; on the wire a negative offset means attributes only, a length of 0 to the end. */
function invalidInode(nodeid: number, offset: number, length: number): Uint8Array {
  const bytes = notification(NOTIFY.INVAL_INODE, NotifyInvalInodeOut.size);
  const attributesOnly = length < 0;
  const body = { ino: BigInt(nodeid), off: attributesOnly ? -1 : offset, len: attributesOnly ? 0 : length };
  NotifyInvalInodeOut.encode(body, bytes, OutHeader.size);
  return bytes;
}

function notification(code: number, bodySize: number, name?: string): Uint8Array {
  const nameSize = name === undefined ? 0 : name.length + 1; // with its NUL
  const bytes = new Uint8Array(OutHeader.size + bodySize + nameSize);
  OutHeader.encode({ len: bytes.byteLength, error: code, unique: 0n }, bytes);
  if (name !== undefined) bytes.set(Buffer.from(name, "latin1"), OutHeader.size + bodySize);
  return bytes;
}
