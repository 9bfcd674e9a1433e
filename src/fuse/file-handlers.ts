import { constants } from "node:fs";
import { FamfsError, hasCode, uninterrupted } from "../base/index.ts";
import { FOPEN, FSYNC_FDATASYNC, OPEN_KILL_SUIDGID, WRITE_CACHE, WRITE_KILL_SUIDGID } from "./flags.ts";
import type { Handler } from "./handler.ts";
import { nameOf } from "./node-handlers.ts";
import type { Entry, Opened } from "./operations.ts";
import type { ReplyWriter } from "./reply.ts";
import { readPosition } from "./request.ts";
import type { ServedConnection } from "./served-connection.ts";
import { CreateIn, FallocateIn, FlushIn, FsyncIn, LseekIn, OpenIn, ReadIn, ReleaseIn, WriteIn } from "./wire.ts";

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const WRITE_ATTEMPTS = 2;

/**
 * The one place that decides how an OPEN is answered. Today from a window by our workers; a backing file for
 * FOPEN_PASSTHROUGH joins here (design 8).
 */
function openFlags(opened: Opened): number {
  const cached = opened.keepCache ? FOPEN.KEEP_CACHE : 0;
  // FLUSH reports what was lost: handles that cannot lose anything need not wait for one when they are closed.
  const unflushed = opened.reportsAtClose ? 0 : FOPEN.NOFLUSH;
  // Direct writes that do not extend the file may run side by side: they land as stores to shared memory do.
  const direct = opened.directIo ? FOPEN.DIRECT_IO | FOPEN.PARALLEL_DIRECT_WRITES : 0;
  return cached | unflushed | direct;
}

function writeOpened(reply: ReplyWriter, opened: Opened, on: ServedConnection, nodeid: number): void {
  const handle = on.openFile(nodeid, opened);
  reply.opened(handle.slot, handle.generation, openFlags(opened));
}

/** The kernel never learned of it, so no RELEASE will come. */
function discardOpened(on: ServedConnection, nodeid: number, opened: Opened): void {
  on.forgetOpened(nodeid, opened);
  on.background("release of a file that nobody holds", () => on.operations.release(opened.handle));
}

/** Nobody can write through it before the answer, and a refused open takes no bits away. */
async function openedWithoutSetId(
  on: ServedConnection,
  opening: Opened | Promise<Opened>,
  nodeid: number,
): Promise<Opened> {
  const opened = await opening;
  try {
    await on.clearSetId(nodeid, uninterrupted());
  } catch (error) {
    discardOpened(on, nodeid, opened);
    throw error;
  }
  return opened;
}

const OPEN: Handler<Opened> = {
  run(on, request, by) {
    const { nodeid, view } = request;
    const flags = view.getUint32(OpenIn.offsets.flags, true);
    const clears = (view.getUint32(OpenIn.offsets.open_flags, true) & OPEN_KILL_SUIDGID) !== 0;
    const opened = on.operations.open(nodeid, flags, by);
    return clears ? openedWithoutSetId(on, opened, nodeid) : opened;
  },
  write: (reply, opened, request, on) => writeOpened(reply, opened, on, request.nodeid),
  discard: (on, opened, request) => discardOpened(on, request.nodeid, opened),
};

const CREATE: Handler<{ entry: Entry; opened: Opened }> = {
  run: (on, request, by) =>
    on.operations.create(
      request.nodeid,
      nameOf(request, 0),
      request.view.getUint32(CreateIn.offsets.mode, true),
      request.view.getUint32(CreateIn.offsets.flags, true),
      by,
    ),
  write(reply, { entry, opened }, _request, on) {
    on.learnEntry(entry);
    reply.entry(entry);
    writeOpened(reply, opened, on, entry.attributes.nodeid);
  },
  discard: (on, { entry, opened }) => discardOpened(on, entry.attributes.nodeid, opened),
};

const RELEASE: Handler<void> = {
  run(on, request) {
    const handle = on.handleAt(request.view, ReleaseIn.offsets.fh);
    on.closeFile(handle);
    return on.operations.release(handle.opened.handle);
  },
};

const FLUSH: Handler<void> = {
  run: (on, request, by) => on.operations.flush(on.handleAt(request.view, FlushIn.offsets.fh).opened.handle, by),
};

const FSYNC: Handler<void> = {
  run(on, request, by) {
    const dataOnly = (request.view.getUint32(FsyncIn.offsets.fsync_flags, true) & FSYNC_FDATASYNC) !== 0;
    return on.operations.fsync(on.handleAt(request.view, FsyncIn.offsets.fh).opened.handle, dataOnly, by);
  },
};

/** A READ whose file changed under the worker that took it; and all of transports without workers. */
const READ: Handler<Uint8Array> = {
  run(on, request) {
    const handle = on.handleAt(request.view, ReadIn.offsets.fh);
    const target = new Uint8Array(Math.min(request.view.getUint32(ReadIn.offsets.size, true), on.maxWrite));
    const length = on.read(handle, readPosition(request.view, ReadIn.offsets.offset), target);
    return target.subarray(0, length);
  },
  write: (reply, data) => reply.data(data),
};

/** A WRITE the workers may not do: it needs more room, the grant, or set-id bits must go first. */
const WRITE: Handler<number> = {
  async run(on, request, by) {
    const { view } = request;
    const handle = on.handleAt(view, WriteIn.offsets.fh);
    const offset = readPosition(view, WriteIn.offsets.offset);
    const size = view.getUint32(WriteIn.offsets.size, true);
    if (size > request.bytes.byteLength - request.dataAt) {
      throw new FamfsError("INVALID_ARGUMENT", `WRITE of ${size} bytes brings fewer`);
    }
    if (!handle.opened.writable) {
      throw new FamfsError("HANDLE_STALE", `file handle of node ${handle.nodeid} is not open for writing`);
    }
    const flags = view.getUint32(WriteIn.offsets.write_flags, true);
    const isWriteBack = (flags & WRITE_CACHE) !== 0;
    const direct = (view.getUint32(WriteIn.offsets.flags, true) & constants.O_DIRECT) !== 0;
    using _held = on.hold(size);
    const data = request.bytes.slice(request.dataAt, request.dataAt + size); // the buffer is reused while we wait
    const prepare = (from: number) =>
      on.operations.prepareWrite(handle.opened.handle, { offset: from, end: offset + size, isWriteBack }, by);
    // What was prepared but not written yet may be cut off for another file when space is short, or the file sealed:
    // then it is prepared again, or refused for what it is.
    for (let attempt = 1; ; attempt++) {
      let end = await prepare(offset);
      // The kernel sends the parts of a direct write at once and makes EIO of a short answer to one of them. So that
      // part fails as a whole, with the errno of what does not fit.
      while (direct && end < offset + size) end = await prepare(end);
      if ((flags & WRITE_KILL_SUIDGID) !== 0 && attempt === 1) await on.clearSetId(handle.nodeid, by);
      by.signal.throwIfAborted();
      try {
        const length = Math.min(size, end - offset);
        on.write(handle, offset, data.subarray(0, length));
        return length;
      } catch (error) {
        if (attempt === WRITE_ATTEMPTS || !hasCode(error, "WRITE_PAST_END", "OWNER_STALE")) throw error;
      }
    }
  },
  write: (reply, size) => reply.u32(size),
};

const FALLOCATE: Handler<void> = {
  async run(on, request, by) {
    const { view } = request;
    const { nodeid, opened } = on.handleAt(view, FallocateIn.offsets.fh);
    await on.operations.allocate(
      opened.handle,
      readPosition(view, FallocateIn.offsets.offset),
      readPosition(view, FallocateIn.offsets.length),
      view.getUint32(FallocateIn.offsets.mode, true),
      by,
    );
    // The request does not say whether the caller may keep set-id bits, as WRITE does: root may. On a connection whose
    // mounts may be ID-mapped it does not say who calls, either (all ones): the bits go.
    if (by.caller.uid !== 0) await on.clearSetId(nodeid, uninterrupted());
  },
};

const LSEEK: Handler<number> = {
  run(on, request, by) {
    const { view } = request;
    const whence = view.getUint32(LseekIn.offsets.whence, true);
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) {
      throw new FamfsError("INVALID_ARGUMENT", `seek whence ${whence} is neither SEEK_DATA nor SEEK_HOLE`);
    }
    const handle = on.handleAt(view, LseekIn.offsets.fh);
    return on.operations.seek(handle.opened.handle, readPosition(view, LseekIn.offsets.offset), whence, by);
  },
  write: (reply, offset) => reply.u64(offset),
};

export const fileHandlers = { OPEN, CREATE, RELEASE, FLUSH, FSYNC, READ, WRITE, FALLOCATE, LSEEK } as const;
