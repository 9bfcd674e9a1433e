import { FATTR, GETATTR_FH } from "./flags.ts";
import type { Handler } from "./handler.ts";
import type { AttributeChange, Attributes, Entry, Missing, Time } from "./operations.ts";
import type { ReplyWriter } from "./reply.ts";
import { type Request, readSigned, readSize } from "./request.ts";
import type { ServedConnection } from "./served-connection.ts";
import { withoutSetId } from "./set-id.ts";
import { GetattrIn, LinkIn, MkdirIn, MknodIn, Rename2In, RenameIn, SetattrIn } from "./wire.ts";

/** The requests about names and attributes. */
const writeEntry = (reply: ReplyWriter, entry: Entry | Missing, _request: Request, on: ServedConnection) => {
  on.learnEntry(entry);
  reply.entry(entry);
};

const writeAttributes = (reply: ReplyWriter, attributes: Attributes, _request: Request, on: ServedConnection) => {
  on.learn(attributes);
  reply.attributes(attributes);
};

/** The n-th name; the parser has seen to it that it is there. */
export function nameOf(request: Request, index: number): string {
  return request.names[index] ?? "";
}

/**
 * The name was made, but the request had been interrupted before: the kernel still holds it for missing, without time
 * limit. (After an interrupted unlink, rmdir or rename it forgets the names by itself.)
 */
export function forgetMissing(on: ServedConnection, _answer: unknown, request: Request): void {
  on.background("forgetting a name that was made late", async () => {
    await on.caches.invalidateEntry(request.nodeid, nameOf(request, 0));
    await on.caches.invalidateInode(request.nodeid, 0, 0);
  });
}

const LOOKUP: Handler<Entry | Missing> = {
  run: (on, request) => on.operations.lookup(request.nodeid, nameOf(request, 0), request.caller),
  write: writeEntry,
};

const GETATTR: Handler<Attributes> = {
  run(on, request) {
    const byHandle = (request.view.getUint32(GetattrIn.offsets.getattr_flags, true) & GETATTR_FH) !== 0;
    const handle = byHandle ? on.handleAt(request.view, GetattrIn.offsets.fh).opened.handle : undefined;
    return on.operations.getAttributes(request.nodeid, handle);
  },
  write: writeAttributes,
};

function timeAt(view: DataView, secondsAt: number, nanosecondsAt: number): Time {
  return { seconds: readSigned(view, secondsAt), nanoseconds: view.getUint32(nanosecondsAt, true) };
}

function changeOf(on: ServedConnection, view: DataView): AttributeChange {
  const at = SetattrIn.offsets;
  const valid = view.getUint32(at.valid, true);
  const has = (flag: number) => (valid & flag) !== 0;
  const now = "now" as const;
  return {
    ...(has(FATTR.MODE) && { mode: view.getUint32(at.mode, true) & 0o7777 }),
    ...(has(FATTR.UID) && { uid: view.getUint32(at.uid, true) }),
    ...(has(FATTR.GID) && { gid: view.getUint32(at.gid, true) }),
    ...(has(FATTR.SIZE) && { size: readSize(view, at.size) }),
    ...(has(FATTR.ATIME) && { atime: has(FATTR.ATIME_NOW) ? now : timeAt(view, at.atime, at.atimensec) }),
    ...(has(FATTR.MTIME) && { mtime: has(FATTR.MTIME_NOW) ? now : timeAt(view, at.mtime, at.mtimensec) }),
    ...(has(FATTR.FH) && { handle: on.handleAt(view, at.fh).opened.handle }),
  };
}

const SETATTR: Handler<Attributes> = {
  run(on, request) {
    const change = changeOf(on, request.view);
    const { nodeid, caller } = request;
    if (!on.mustClearSetId(nodeid, request.view.getUint32(SetattrIn.offsets.valid, true))) {
      return on.operations.setAttributes(nodeid, change, caller);
    }
    return Promise.resolve(on.operations.getAttributes(nodeid, change.handle)).then(({ mode }) =>
      on.operations.setAttributes(nodeid, { ...change, mode: withoutSetId(mode) & 0o7777 }, caller),
    );
  },
  write: writeAttributes,
};

const READLINK: Handler<string> = {
  run: (on, request) => on.operations.readLink(request.nodeid),
  write: (reply, target) => reply.data(Buffer.from(target, "latin1")),
};

const SYMLINK: Handler<Entry> = {
  run: (on, request) =>
    on.operations.makeSymlink(request.nodeid, nameOf(request, 0), nameOf(request, 1), request.caller),
  write: writeEntry,
  discard: forgetMissing,
};

const MKNOD: Handler<Entry> = {
  run: (on, request) =>
    on.operations.createNode(
      request.nodeid,
      nameOf(request, 0),
      request.view.getUint32(MknodIn.offsets.mode, true),
      request.caller,
    ),
  write: writeEntry,
  discard: forgetMissing,
};

const MKDIR: Handler<Entry> = {
  run: (on, request) =>
    on.operations.makeDirectory(
      request.nodeid,
      nameOf(request, 0),
      request.view.getUint32(MkdirIn.offsets.mode, true),
      request.caller,
    ),
  write: writeEntry,
  discard: forgetMissing,
};

const LINK: Handler<Entry> = {
  run: (on, request) =>
    on.operations.link(readSize(request.view, LinkIn.offsets.oldnodeid), request.nodeid, nameOf(request, 0)),
  write: writeEntry,
};

const UNLINK: Handler<void> = { run: (on, request) => on.operations.unlink(request.nodeid, nameOf(request, 0)) };

const RMDIR: Handler<void> = {
  run: (on, request) => on.operations.removeDirectory(request.nodeid, nameOf(request, 0)),
};

function rename(on: ServedConnection, request: Request, newDirectoryAt: number, flags: number): void | Promise<void> {
  const newParent = readSize(request.view, newDirectoryAt);
  return on.operations.rename(request.nodeid, nameOf(request, 0), newParent, nameOf(request, 1), flags);
}

const RENAME: Handler<void> = { run: (on, request) => rename(on, request, RenameIn.offsets.newdir, 0) };

const RENAME2: Handler<void> = {
  run: (on, request) =>
    rename(on, request, Rename2In.offsets.newdir, request.view.getUint32(Rename2In.offsets.flags, true)),
};

export const nodeHandlers = {
  LOOKUP,
  GETATTR,
  SETATTR,
  READLINK,
  SYMLINK,
  MKNOD,
  MKDIR,
  LINK,
  UNLINK,
  RMDIR,
  RENAME,
  RENAME2,
} as const;
