import { FamfsError, type RequestContext } from "../base/index.ts";
import { FATTR, GETATTR_FH } from "./flags.ts";
import type { Handler } from "./handler.ts";
import type { AttributeChange, Attributes, Entry, Missing, Time } from "./operations.ts";
import type { ReplyWriter } from "./reply.ts";
import { type Request, readPosition, readSigned, readSize } from "./request.ts";
import type { ServedConnection } from "./served-connection.ts";
import { withoutSetId } from "./set-id.ts";
import {
  BatchForgetIn,
  ForgetIn,
  ForgetOne,
  GetattrIn,
  LinkIn,
  MkdirIn,
  MknodIn,
  Rename2In,
  RenameIn,
  SetattrIn,
} from "./wire.ts";

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

const LOOKUP: Handler<Entry | Missing> = {
  run: (on, request, by) => on.operations.lookup(request.nodeid, nameOf(request, 0), by),
  write: writeEntry,
};

const GETATTR: Handler<Attributes> = {
  run(on, request, by) {
    const byHandle = (request.view.getUint32(GetattrIn.offsets.getattr_flags, true) & GETATTR_FH) !== 0;
    const handle = byHandle ? on.handleAt(request.view, GetattrIn.offsets.fh).opened.handle : undefined;
    return on.operations.getAttributes(request.nodeid, handle, by);
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
    ...(has(FATTR.SIZE) && { size: readPosition(view, at.size) }),
    ...(has(FATTR.ATIME) && { atime: has(FATTR.ATIME_NOW) ? now : timeAt(view, at.atime, at.atimensec) }),
    ...(has(FATTR.MTIME) && { mtime: has(FATTR.MTIME_NOW) ? now : timeAt(view, at.mtime, at.mtimensec) }),
    ...(has(FATTR.FH) && { handle: on.handleAt(view, at.fh).opened.handle }),
  };
}

const SETATTR: Handler<Attributes> = {
  run(on, request, by) {
    const change = changeOf(on, request.view);
    const { nodeid } = request;
    if (!on.mustClearSetId(nodeid, request.view.getUint32(SetattrIn.offsets.valid, true))) {
      return on.operations.setAttributes(nodeid, change, by);
    }
    return Promise.resolve(on.operations.getAttributes(nodeid, change.handle, by)).then(({ mode }) =>
      on.operations.setAttributes(nodeid, { ...change, mode: withoutSetId(mode) & 0o7777 }, by),
    );
  },
  write: writeAttributes,
};

const READLINK: Handler<string> = {
  run: (on, request, by) => on.operations.readLink(request.nodeid, by),
  write: (reply, target) => reply.data(Buffer.from(target, "latin1")),
};

const SYMLINK: Handler<Entry> = {
  run: (on, request, by) => on.operations.makeSymlink(request.nodeid, nameOf(request, 0), nameOf(request, 1), by),
  write: writeEntry,
};

const MKNOD: Handler<Entry> = {
  run: (on, request, by) =>
    on.operations.createNode(
      request.nodeid,
      nameOf(request, 0),
      request.view.getUint32(MknodIn.offsets.mode, true),
      by,
    ),
  write: writeEntry,
};

const MKDIR: Handler<Entry> = {
  run: (on, request, by) =>
    on.operations.makeDirectory(
      request.nodeid,
      nameOf(request, 0),
      request.view.getUint32(MkdirIn.offsets.mode, true),
      by,
    ),
  write: writeEntry,
};

const LINK: Handler<Entry> = {
  run: (on, request, by) =>
    on.operations.link(readSize(request.view, LinkIn.offsets.oldnodeid), request.nodeid, nameOf(request, 0), by),
  write: writeEntry,
};

const UNLINK: Handler<void> = {
  run: (on, request, by) => on.operations.unlink(request.nodeid, nameOf(request, 0), by),
};

const RMDIR: Handler<void> = {
  run: (on, request, by) => on.operations.removeDirectory(request.nodeid, nameOf(request, 0), by),
};

function rename(
  on: ServedConnection,
  request: Request,
  { directoryAt, flags }: { directoryAt: number; flags: number },
  by: RequestContext,
): void | Promise<void> {
  const newParent = readSize(request.view, directoryAt);
  return on.operations.rename(request.nodeid, nameOf(request, 0), newParent, nameOf(request, 1), flags, by);
}

const RENAME: Handler<void> = {
  run: (on, request, by) => rename(on, request, { directoryAt: RenameIn.offsets.newdir, flags: 0 }, by),
};

const RENAME2: Handler<void> = {
  run(on, request, by) {
    const flags = request.view.getUint32(Rename2In.offsets.flags, true);
    return rename(on, request, { directoryAt: Rename2In.offsets.newdir, flags }, by);
  },
};

const FORGET: Handler<void> = {
  run: (on, request) => on.operations.forget(request.nodeid, readSize(request.view, ForgetIn.offsets.nlookup)),
};

const BATCH_FORGET: Handler<void> = {
  run(on, { view, dataAt }) {
    const count = view.getUint32(BatchForgetIn.offsets.count, true);
    if (dataAt + count * ForgetOne.size > view.byteLength) {
      throw new FamfsError("INVALID_ARGUMENT", `BATCH_FORGET of ${count} nodes has ${view.byteLength - dataAt} bytes`);
    }
    for (let at = dataAt; at < dataAt + count * ForgetOne.size; at += ForgetOne.size) {
      const nodeid = readSize(view, at + ForgetOne.offsets.nodeid);
      on.operations.forget(nodeid, readSize(view, at + ForgetOne.offsets.nlookup));
    }
  },
};

export const nodeHandlers = {
  LOOKUP,
  FORGET,
  BATCH_FORGET,
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
