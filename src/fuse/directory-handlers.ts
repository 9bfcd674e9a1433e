import { FOPEN, S_IFDIR } from "./flags.ts";
import type { Handler } from "./handler.ts";
import type { DirectoryEntry, FileSystemStatus } from "./operations.ts";
import type { ReplyWriter } from "./reply.ts";
import { type Request, readSize } from "./request.ts";
import type { ServedConnection } from "./served-connection.ts";
import { ReadIn } from "./wire.ts";

/** Directory offsets on the wire: 0 start, 1 after ".", 2 after "..", then the operations' cookies moved up by 2. */
const AFTER_DOT = 1;
const AFTER_DOT_DOT = 2;
const FIRST_COOKIE = 2;

/** The nodeid of the parent is not known here; programs that care look ".." up. The number is libfuse's. */
const UNKNOWN_INO = 0xffff_ffff;

const OPENDIR: Handler<void> = {
  run() {},
  // No state: a read names its position. Directory pages may be cached, because whoever changes a directory behind
  // the kernel's back invalidates its inode.
  write: (reply) => reply.opened(0, 0, FOPEN.CACHE_DIR | FOPEN.KEEP_CACHE),
};

interface Listing {
  readonly entries: Iterable<DirectoryEntry>;
  readonly offset: number;
  readonly size: number;
}

function writeListing(reply: ReplyWriter, listing: Listing, request: Request, on: ServedConnection, plus: boolean) {
  reply.start(listing.size);
  if (listing.offset < AFTER_DOT && !reply.dotEntry(".", request.nodeid, S_IFDIR, AFTER_DOT, plus)) return;
  if (listing.offset < AFTER_DOT_DOT && !reply.dotEntry("..", UNKNOWN_INO, S_IFDIR, AFTER_DOT_DOT, plus)) return;
  for (const entry of listing.entries) {
    if (!reply.directoryEntry(entry, entry.cookie + FIRST_COOKIE, plus)) return;
    if (plus) on.learnEntry(entry.entry);
  }
}

function listing(plus: boolean): Handler<Listing> {
  return {
    run(on, request, by) {
      const offset = readSize(request.view, ReadIn.offsets.offset);
      const size = request.view.getUint32(ReadIn.offsets.size, true);
      const entries = on.operations.readDirectory(request.nodeid, Math.max(0, offset - FIRST_COOKIE), by);
      if (!(entries instanceof Promise)) return { entries, offset, size };
      return entries.then((late) => ({ entries: late, offset, size }));
    },
    write: (reply, found, request, on) => writeListing(reply, found, request, on, plus),
  };
}

const STATFS: Handler<FileSystemStatus> = {
  run: (on, _request, by) => on.operations.status(by),
  write: (reply, status) => reply.status(status),
};

export const directoryHandlers = {
  OPENDIR,
  READDIR: listing(false),
  READDIRPLUS: listing(true),
  RELEASEDIR: { run() {} } satisfies Handler<void>,
  FSYNCDIR: { run: (on, request, by) => on.operations.syncDirectory(request.nodeid, by) } satisfies Handler<void>,
  SYNCFS: { run: (on, _request, by) => on.operations.syncFileSystem(by) } satisfies Handler<void>,
  STATFS,
} as const;
