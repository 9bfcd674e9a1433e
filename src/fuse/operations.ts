/**
 * What a FUSE session asks of the file system it serves. READ and WRITE never come here: workers answer them from
 * the file map of the open handle (`file-map.ts`); only a write that the map does not allow yet is announced by
 * `prepareWrite`.
 *
 * Every operation may answer at once or with a promise; nothing here may block. A refusal is a thrown FamfsError;
 * `errno.ts` decides its errno. An operation that waits ends soon after the signal of its request is aborted: with the
 * signal's reason when nothing was changed, with its result when it was.
 *
 * Names are "binary" strings, one char per byte (latin1), so that any bytes survive. nodeids are safe integers: never
 * 0; 1 is the root.
 */
import type { RequestContext } from "../base/index.ts";
import type { FileMapId } from "./file-map.ts";

type Answer<T> = T | Promise<T>;

export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface Attributes {
  readonly nodeid: number;
  /** File type and permission bits, as st_mode. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Allocated bytes; st_blocks is derived. */
  readonly allocatedBytes: number;
  readonly atime: Time;
  readonly mtime: Time;
  readonly ctime: Time;
  /** How long the kernel may use these, in seconds; Infinity = until invalidated. */
  readonly validSeconds: number;
}

export interface Entry {
  readonly attributes: Attributes;
  readonly generation: bigint;
  /** How long the kernel may use the name, in seconds; Infinity = until invalidated. */
  readonly entryValidSeconds: number;
}

/** A name that is not there, and how long the kernel may remember that (0: not at all). */
export interface Missing {
  readonly missingForSeconds: number;
}

export interface AttributeChange {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: Time | "now";
  readonly mtime?: Time | "now";
  /** The open handle the change came through (ftruncate, futimens). */
  readonly handle?: number;
}

/** How an OPEN is answered. `backing` is where the direct path will join (a backing file instead of a window). */
export interface Opened {
  /** The operations' own number for this open file; safe integer. Comes back in `prepareWrite`, `flush`, `release`… */
  readonly handle: number;
  /** From what reads and writes are answered. */
  readonly map: FileMapId;
  readonly directIo: boolean;
  readonly keepCache: boolean;
  /** Whether write requests on this handle are allowed at all. */
  readonly writable: boolean;
  /** Closing waits for `flush`, which can fail; otherwise it is not asked. */
  readonly reportsAtClose: boolean;
}

/** A WRITE of [offset, end) that the map of its file does not allow yet. */
export interface WriteToCome {
  readonly offset: number;
  readonly end: number;
  /** The kernel writes back pages that were changed by a mapping; through which handle says nothing. */
  readonly isWriteBack: boolean;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly entry: Entry;
  /** Position after this entry: what the next read starts from. Safe integer, never 0. */
  readonly cookie: number;
}

export interface FileSystemStatus {
  readonly blockSize: number;
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly files: number;
  readonly freeFiles: number;
  readonly maxNameLength: number;
}

export interface Operations {
  lookup(parent: number, name: string, by: RequestContext): Answer<Entry | Missing>;
  getAttributes(nodeid: number, handle: number | undefined, by: RequestContext): Answer<Attributes>;
  setAttributes(nodeid: number, change: AttributeChange, by: RequestContext): Answer<Attributes>;
  /**
   * The kernel is sent an entry of this node: from now on it refers to it by its nodeid, whether it has a name or not.
   */
  looked(nodeid: number): void;
  /** The kernel forgets `count` of the entries that it was sent. */
  forget(nodeid: number, count: number): void;
  readLink(nodeid: number, by: RequestContext): Answer<string>;

  /** Regular files only; a device node, socket or FIFO is refused. `mode` has the umask applied. */
  createNode(parent: number, name: string, mode: number, by: RequestContext): Answer<Entry>;
  makeDirectory(parent: number, name: string, mode: number, by: RequestContext): Answer<Entry>;
  makeSymlink(parent: number, name: string, target: string, by: RequestContext): Answer<Entry>;
  link(nodeid: number, newParent: number, newName: string, by: RequestContext): Answer<Entry>;
  unlink(parent: number, name: string, by: RequestContext): Answer<void>;
  removeDirectory(parent: number, name: string, by: RequestContext): Answer<void>;
  /** `flags`: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4. */
  rename(
    parent: number,
    name: string,
    newParent: number,
    newName: string,
    flags: number,
    by: RequestContext,
  ): Answer<void>;

  /** `flags` are the open(2) flags, O_TRUNC included (ATOMIC_O_TRUNC is negotiated). */
  open(nodeid: number, flags: number, by: RequestContext): Answer<Opened>;
  create(
    parent: number,
    name: string,
    mode: number,
    flags: number,
    by: RequestContext,
  ): Answer<{ entry: Entry; opened: Opened }>;
  /**
   * Makes a write possible (grows an unsealed file, waits for the grant) or throws. Answers up to where, beyond its
   * offset: only a part of it may fit.
   */
  prepareWrite(handle: number, write: WriteToCome, by: RequestContext): Answer<number>;
  /** Each close(2) of a copy of the descriptor: reports what can be known of errors to come. */
  flush(handle: number, by: RequestContext): Answer<void>;
  fsync(handle: number, dataOnly: boolean, by: RequestContext): Answer<void>;
  /** After the last close and munmap; nothing waits for it. */
  release(handle: number): Answer<void>;
  allocate(handle: number, offset: number, length: number, mode: number, by: RequestContext): Answer<void>;
  /** SEEK_DATA 3 and SEEK_HOLE 4 only. */
  seek(handle: number, offset: number, whence: number, by: RequestContext): Answer<number>;

  /** Entries after `cookie` (0 = from the start), "." and ".." not among them; ends when the iterator does. */
  readDirectory(nodeid: number, cookie: number, by: RequestContext): Answer<Iterable<DirectoryEntry>>;
  syncDirectory(nodeid: number, by: RequestContext): Answer<void>;
  syncFileSystem(by: RequestContext): Answer<void>;
  status(by: RequestContext): Answer<FileSystemStatus>;

  getExtendedAttribute(nodeid: number, name: string, by: RequestContext): Answer<Uint8Array>;
  listExtendedAttributes(nodeid: number, by: RequestContext): Answer<string[]>;
  setExtendedAttribute(nodeid: number, name: string, value: Uint8Array, by: RequestContext): Answer<void>;
  removeExtendedAttribute(nodeid: number, name: string, by: RequestContext): Answer<void>;
}

/** Something that the kernel may have cached and shall forget. */
export type Forgettable =
  /** A name (and, when it is a directory, what is below). */
  | { readonly type: "name"; readonly parent: number; readonly name: string }
  /** A name that was removed, so that inotify watchers and open dentries learn of it. */
  | { readonly type: "removed"; readonly parent: number; readonly name: string; readonly nodeid: number }
  | { readonly type: "attributes"; readonly nodeid: number }
  /** Attributes and all pages. */
  | { readonly type: "content"; readonly nodeid: number };

/** What a file system may tell the kernel. */
export interface KernelCaches {
  /**
   * Sent by a thread that answers nothing. Resolves when all of it was sent: never rejects, for what cannot be told
   * to the kernel ends the connection.
   */
  forget(what: readonly Forgettable[]): Promise<void>;
  /**
   * Forget the attributes of a node that a request under way is about. From this thread and at once: with pages left
   * alone the kernel sleeps on nothing, and the answer to the request comes after it.
   */
  forgetAttributes(nodeid: number): void;
  /**
   * Every cached name is asked for again before it is used. Waits for nothing, so it may be called before a reply
   * that directories wait for. False where the kernel cannot (below FUSE 7.44).
   */
  doubtNames(): boolean;
}
