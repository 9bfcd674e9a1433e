import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { FamfsError, type RequestContext, unlessAborted } from "../base/index.ts";
import { ERRNO } from "./errno.ts";
import type { FileMapTable } from "./file-map.ts";
import { SharedFileMaps } from "./file-map-table.ts";
import { FATTR } from "./flags.ts";
import type { Entry, Missing, Opened } from "./operations.ts";
import { SharedMemory } from "./shared-memory.ts";
import { FakeKernel, request } from "./testing/fake-kernel.ts";
import { ScratchFileSystem } from "./testing/scratch-file-system.ts";
import {
  AttrOut,
  BatchForgetIn,
  EntryOut,
  ForgetIn,
  ForgetOne,
  GetxattrIn,
  InitIn,
  InitOut,
  InterruptIn,
  MkdirIn,
  NotifyInvalEntryOut,
  NotifyInvalInodeOut,
  OpenIn,
  OpenOut,
  OutHeader,
  ReadIn,
  SetattrIn,
  WriteIn,
  WriteOut,
} from "./wire.ts";

/** Operations that can be made to wait, and tell what was released. */
class SlowFileSystem extends ScratchFileSystem {
  gate: Promise<void> | undefined;
  readonly released: number[] = [];

  constructor(maps: FileMapTable) {
    super(maps, { sizeBytes: 1 << 20 });
  }

  async #wait(by: RequestContext): Promise<void> {
    if (this.gate !== undefined) await unlessAborted(this.gate, by.signal);
  }

  override async lookup(parent: number, name: string, by: RequestContext): Promise<Entry | Missing> {
    await this.#wait(by);
    return super.lookup(parent, name);
  }

  override open(nodeid: number, flags: number, by: RequestContext): Opened | Promise<Opened> {
    if (this.gate === undefined) return super.open(nodeid, flags);
    return this.#wait(by).then(() => super.open(nodeid, flags));
  }

  override async makeDirectory(parent: number, name: string, mode: number, by: RequestContext): Promise<Entry> {
    await this.#wait(by);
    return super.makeDirectory(parent, name, mode, by);
  }

  override release(handle: number): void {
    super.release(handle);
    this.released.push(handle);
  }
}

function setUp(options = {}) {
  let files: SlowFileSystem | undefined;
  const kernel = new FakeKernel((maps) => {
    files = new SlowFileSystem(maps);
    return files;
  }, options);
  if (files === undefined) throw new Error("no file system");
  kernel.init();
  return { kernel, files, [Symbol.dispose]: () => files?.[Symbol.dispose]() };
}

const openFlags = (flags: number) => OpenIn.encode({ flags, open_flags: 0 });
const interrupt = (unique: bigint) => InterruptIn.encode({ unique });

test("INIT grants what is wanted and offered, never writeback caching, and 1 MiB requests", async () => {
  using setup = setUp();
  const kernel = await setup.kernel.session.ready;
  assert.equal(kernel.minor, 45);
  assert.ok(kernel.granted.includes("DIRECT_IO_ALLOW_MMAP"));
  assert.ok(!kernel.granted.includes("WRITEBACK_CACHE"));
  const init = InitOut.decode(setup.kernel.answered(2n).body);
  assert.equal(init.max_write, 1 << 20);
  assert.equal(init.max_pages, 256);
  assert.equal((init.flags2 >>> 10) & 3, 0, "bits 42 and 43 mean different things to different kernels");
});

test("INIT of a newer major is answered with ours and expected again; of an old kernel it is refused", async () => {
  using files = new ScratchFileSystem(new SharedFileMaps(SharedMemory.allocate(1)));
  const kernel = new FakeKernel(() => files);
  const newer = InitIn.encode({ major: 8, minor: 0, max_readahead: 0, flags: 0, flags2: 0 });
  const reply = kernel.answered(kernel.send("INIT", 0, newer));
  assert.equal(InitOut.decode(reply.body).major, 7);
  assert.throws(() => kernel.session.kernel, { code: "INTERNAL" });
  assert.equal(kernel.init().errno, 0);
  assert.equal(kernel.session.kernel.minor, 45);
  assert.equal(new FakeKernel(() => files).init(23).errno, ERRNO.EOPNOTSUPP);
});

test("an unknown opcode is ENOSYS, a malformed request EINVAL, and the session goes on", async () => {
  using setup = setUp();
  const { kernel } = setup;
  kernel.session.receive(request(999, 1000n, 1, []));
  assert.equal(kernel.answered(1000n).errno, ERRNO.ENOSYS);
  kernel.session.receive(request(1, 1002n, 1, [Buffer.from("no NUL")]));
  assert.equal(kernel.answered(1002n).errno, ERRNO.EINVAL);
  const short = request(14, 1004n, 1, []);
  kernel.session.receive(short);
  assert.equal(kernel.answered(1004n).errno, ERRNO.EINVAL);
  kernel.session.receive(new Uint8Array(3));
  const unique = kernel.send("LOOKUP", 1, "missing");
  await delay(0);
  assert.equal(kernel.answered(unique).errno, 0);
  assert.equal(EntryOut.decode(kernel.answered(unique).body).nodeid, 0n);
});

test("a request before INIT is refused", () => {
  using files = new ScratchFileSystem(new SharedFileMaps(SharedMemory.allocate(1)));
  const kernel = new FakeKernel(() => files);
  assert.equal(kernel.answered(kernel.send("LOOKUP", 1, "x")).errno, ERRNO.EINVAL);
});

test("a request that waits ends with EINTR when it is interrupted, and is not carried out later", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const nodeid = files.addFile(1, "file");
  const { promise, resolve } = Promise.withResolvers<void>();
  files.gate = promise;
  const unique = kernel.send("OPEN", nodeid, openFlags(0));
  kernel.send("INTERRUPT", 0, interrupt(unique));
  await delay(100);
  assert.equal(kernel.answered(unique).errno, ERRNO.EINTR);
  resolve();
  await delay(0);
  assert.equal(files.openFiles, 0);
});

test("what can no longer be stopped is answered with its result, interrupted or not", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const { promise, resolve } = Promise.withResolvers<void>();
  files.makeDirectory = async (...args) => {
    await promise;
    return ScratchFileSystem.prototype.makeDirectory.apply(files, args);
  };
  const unique = kernel.send("MKDIR", 1, MkdirIn.encode({ mode: 0o755, umask: 0 }), "late");
  kernel.send("INTERRUPT", 0, interrupt(unique));
  await delay(100);
  assert.equal(kernel.replies.get(unique), undefined);
  resolve();
  await delay(0);
  assert.equal(kernel.answered(unique).errno, 0);
});

test("what waits when the session is detached fails with ENOTCONN, as all does from then on, and is not carried out later", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const { promise, resolve } = Promise.withResolvers<void>();
  files.gate = promise;
  const unique = kernel.send("MKDIR", 1, MkdirIn.encode({ mode: 0o755, umask: 0 }), "late");
  kernel.session.detach();
  assert.equal(kernel.answered(unique).errno, ERRNO.ENOTCONN);
  resolve();
  await delay(0);
  assert.deepEqual([...files.readDirectory(1, 0)], []);
});

test("a session that is detached leaves no open file behind for its workers", () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const nodeids = ["a", "b"].map((name) => files.addFile(1, name));
  for (const nodeid of [...nodeids, ...nodeids]) kernel.answered(kernel.send("OPEN", nodeid, openFlags(2)));
  assert.deepEqual(
    nodeids.map((nodeid) => kernel.handles.of(1, nodeid).length),
    [2, 2],
  );
  kernel.session.detach();
  assert.deepEqual(kernel.handles.of(1), []);
});

test("an operation that ends soon after its INTERRUPT is answered, not cut", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const { promise, resolve } = Promise.withResolvers<void>();
  files.gate = promise;
  const unique = kernel.send("LOOKUP", 1, "x");
  kernel.send("INTERRUPT", 0, interrupt(unique));
  resolve();
  await delay(80);
  assert.equal(kernel.answered(unique).errno, 0);
});

test("INTERRUPT of a request that is not here is put off with EAGAIN", () => {
  using setup = setUp();
  // The kernel's own way to ask for that: the header of INTERRUPT carries a unique of its own.
  const unique = setup.kernel.send("INTERRUPT", 0, interrupt(4711n));
  assert.equal(setup.kernel.answered(unique).errno, ERRNO.EAGAIN);
});

test("an open whose program is gone is released at once", () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const nodeid = files.addFile(1, "file");
  kernel.gone.add(4n);
  assert.equal(kernel.send("OPEN", nodeid, openFlags(0)), 4n);
  assert.deepEqual(files.released, [1]);
  assert.deepEqual([...kernel.handles.of(1)], []);
});

test("a handle of another generation, and one that was never given, are EBADF", () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const nodeid = files.addFile(1, "file");
  const { fh } = OpenOut.decode(kernel.answered(kernel.send("OPEN", nodeid, openFlags(2))).body);
  const read = (handle: bigint) =>
    ReadIn.encode({ fh: handle, offset: 0n, size: 10, read_flags: 0, lock_owner: 0n, flags: 0 });
  assert.equal(kernel.answered(kernel.send("READ", nodeid, read(fh))).errno, 0);
  assert.equal(kernel.answered(kernel.send("READ", nodeid, read(fh + (1n << 32n)))).errno, ERRNO.EBADF);
  assert.equal(kernel.answered(kernel.send("READ", nodeid, read(0xffff_ffff_ffff_ffffn))).errno, ERRNO.EBADF);
});

test("a write that was prepared lands, and of one over the end of a sealed file the part that fits", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const write = (fh: bigint, offset: number, data: string) => {
    const head = { fh, offset: BigInt(offset), size: data.length, write_flags: 0, lock_owner: 0n, flags: 0 };
    return Buffer.concat([WriteIn.encode(head), Buffer.from(data)]);
  };
  const nodeid = files.addFile(1, "file");
  const { fh } = OpenOut.decode(kernel.answered(kernel.send("OPEN", nodeid, openFlags(2))).body);
  const unique = kernel.send("WRITE", nodeid, write(fh, 5, "hello"));
  await delay(0);
  assert.equal(kernel.answered(unique).errno, 0);
  const read = ReadIn.encode({ fh, offset: 0n, size: 100, read_flags: 0, lock_owner: 0n, flags: 0 });
  const text = Buffer.from(kernel.answered(kernel.send("READ", nodeid, read)).body).toString();
  assert.equal(text, "\0\0\0\0\0hello");

  const sealed = files.addSealed("sealed", 100, [{ offset: 1 << 19, length: 1 << 19 }]);
  const handle = OpenOut.decode(kernel.answered(kernel.send("OPEN", sealed, openFlags(2))).body).fh;
  const over = kernel.send("WRITE", sealed, write(handle, 99, "ab"));
  const past = kernel.send("WRITE", sealed, write(handle, 100, "b"));
  await delay(0);
  assert.equal(WriteOut.decode(kernel.answered(over).body).size, 1);
  assert.equal(kernel.answered(past).errno, ERRNO.EFBIG);
  const last = ReadIn.encode({ fh: handle, offset: 99n, size: 10, read_flags: 0, lock_owner: 0n, flags: 0 });
  assert.deepEqual([...kernel.answered(kernel.send("READ", sealed, last)).body], [97]);
});

test("a write whose room is taken away before it lands is prepared again, once", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const nodeid = files.addFile(1, "file");
  const { fh } = OpenOut.decode(kernel.answered(kernel.send("OPEN", nodeid, openFlags(2))).body);
  const prepare = files.prepareWrite.bind(files);
  let taken = 0;
  files.prepareWrite = (...args) => (taken-- > 0 ? args[1].end : prepare(...args));
  const head = WriteIn.encode({ fh, offset: 0n, size: 5, write_flags: 0, lock_owner: 0n, flags: 0 });
  const outcome = async (times: number) => {
    taken = times;
    const unique = kernel.send("WRITE", nodeid, Buffer.concat([head, Buffer.from("hello")]));
    await delay(0);
    return kernel.answered(unique).errno;
  };
  assert.equal(await outcome(2), ERRNO.EFBIG);
  assert.equal(await outcome(1), 0);
  const read = ReadIn.encode({ fh, offset: 0n, size: 10, read_flags: 0, lock_owner: 0n, flags: 0 });
  assert.equal(Buffer.from(kernel.answered(kernel.send("READ", nodeid, read)).body).toString(), "hello");
});

test("giving a set-id file away clears the bits, because the kernel leaves that to us", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const nodeid = files.addFile(1, "program");
  const setattr = (valid: number, fields: { mode?: number; uid?: number }) =>
    SetattrIn.encode({
      valid,
      fh: 0n,
      size: 0n,
      lock_owner: 0n,
      atime: 0n,
      mtime: 0n,
      ctime: 0n,
      atimensec: 0,
      mtimensec: 0,
      ctimensec: 0,
      mode: fields.mode ?? 0,
      uid: fields.uid ?? 0,
      gid: 0,
    } as typeof SetattrIn.$type);
  const modeOf = (body: Uint8Array) =>
    new DataView(body.buffer, body.byteOffset).getUint32(AttrOut.offsets.attr + 60, true);
  const set = kernel.answered(kernel.send("SETATTR", nodeid, setattr(FATTR.MODE, { mode: 0o6755 })));
  assert.equal(modeOf(set.body) & 0o7777, 0o6755);
  const unique = kernel.send("SETATTR", nodeid, setattr(FATTR.UID, { uid: 5 }));
  await delay(0);
  assert.equal(modeOf(kernel.answered(unique).body) & 0o7777, 0o755);
});

test("reading extended attributes is ENOSYS unless asked for, so that the kernel stops asking", () => {
  const get = GetxattrIn.encode({ size: 100 });
  using without = setUp();
  assert.equal(without.kernel.answered(without.kernel.send("GETXATTR", 1, get, "user.test")).errno, ERRNO.ENOSYS);
  using setup = setUp({ readableXattrs: true });
  const { kernel } = setup;
  assert.equal(Buffer.from(kernel.answered(kernel.send("GETXATTR", 1, get, "user.test")).body).toString(), "value");
  const small = GetxattrIn.encode({ size: 3 });
  assert.equal(kernel.answered(kernel.send("GETXATTR", 1, small, "user.test")).errno, ERRNO.ERANGE);
  assert.equal(kernel.answered(kernel.send("GETXATTR", 1, get, "user.other")).errno, ERRNO.ENODATA);
});

test("notifications are encoded for the kernel and go out together; what it does not cache is no error", async () => {
  using setup = setUp();
  const { kernel } = setup;
  kernel.notifyErrno = ERRNO.ENOENT;
  await kernel.session.caches.forget([
    { type: "name", parent: 7, name: "name" },
    { type: "removed", parent: 7, nodeid: 8, name: "gone" },
  ]);
  kernel.notifyErrno = 0;
  await kernel.session.caches.forget([
    { type: "attributes", nodeid: 9 },
    { type: "content", nodeid: 10 },
  ]);
  const [entry = new Uint8Array(), gone = new Uint8Array(), attributes = new Uint8Array(), content = new Uint8Array()] =
    kernel.notifications;
  assert.equal(OutHeader.decode(entry).error, 3);
  assert.equal(entry.byteLength, OutHeader.size + NotifyInvalEntryOut.size + 5);
  assert.equal(NotifyInvalEntryOut.decode(entry, OutHeader.size).parent, 7n);
  assert.equal(OutHeader.decode(gone).error, 6);
  assert.equal(NotifyInvalInodeOut.decode(attributes, OutHeader.size).off, -1);
  assert.deepEqual(NotifyInvalInodeOut.decode(content, OutHeader.size), { ino: 10n, off: 0, len: 0 });
  assert.equal(kernel.notifications.length, 4);
});

test("an inode that the kernel is about to make is told again; a notification that is refused ends the connection", async (t) => {
  using setup = setUp();
  const { kernel } = setup;
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const later = async (ms: number) => {
    t.mock.timers.tick(ms);
    for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  };
  kernel.notifyErrno = ERRNO.ENOENT;
  await kernel.session.caches.forget([
    { type: "name", parent: 1, name: "never heard of" },
    { type: "attributes", nodeid: 9 },
  ]);
  kernel.notifications.length = 0;
  await later(10);
  assert.equal(kernel.notifications.length, 1, "the inode only");
  assert.deepEqual(NotifyInvalInodeOut.decode(kernel.notifications[0] ?? new Uint8Array(), OutHeader.size), {
    ino: 9n,
    off: -1,
    len: 0,
  });
  assert.equal(OutHeader.decode(kernel.notifications[0] ?? new Uint8Array()).unique, 0n);
  for (const ms of [100, 1000, 10_000]) await later(ms);
  assert.equal(kernel.notifications.length, 3, "then it has no such inode");

  kernel.notifyErrno = ERRNO.ENOMEM;
  const told = kernel.session.caches.forget([{ type: "name", parent: 1, name: "x" }]);
  await later(0);
  await later(10);
  kernel.notifyErrno = 0;
  await later(100);
  await told;
  kernel.notifyErrno = ERRNO.EINVAL;
  const refused = kernel.session.caches.forget([{ type: "removed", parent: 1, nodeid: 2, name: "x" }]);
  for (const ms of [0, 10, 100, 1000]) await later(ms);
  await refused;
  await kernel.session.ended;
});

test("when the connection ends, open files are released and waiting requests forgotten", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  kernel.send("OPEN", files.addFile(1, "file"), openFlags(0));
  kernel.session.end(ERRNO.ENODEV);
  await kernel.session.ended;
  assert.deepEqual(files.released, [1]);
});

test("detach answers what still waits", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  files.gate = new Promise(() => {});
  const unique = kernel.send("LOOKUP", 1, "x");
  kernel.session.detach();
  assert.equal(kernel.answered(unique).errno, ERRNO.ENOTCONN);
});

test("a defect in an operation is EIO for that request only", () => {
  using setup = setUp();
  const { kernel, files } = setup;
  files.status = () => {
    throw new TypeError("a bug");
  };
  assert.equal(kernel.answered(kernel.send("STATFS", 1)).errno, ERRNO.EIO);
  files.status = () => {
    throw new FamfsError("NO_SPACE", "full");
  };
  assert.equal(kernel.answered(kernel.send("STATFS", 1)).errno, ERRNO.ENOSPC);
});

test("writes that wait hold only so much memory: the next is EAGAIN, until some have landed", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const nodeid = files.addFile(1, "file");
  const { fh } = OpenOut.decode(kernel.answered(kernel.send("OPEN", nodeid, openFlags(2))).body);
  const prepare = files.prepareWrite.bind(files);
  const { promise, resolve } = Promise.withResolvers<void>();
  files.prepareWrite = async (...args) => {
    using _held = args[2]?.budget.hold();
    await promise;
    return await prepare(...args);
  };
  const size = 1 << 20;
  const head = WriteIn.encode({ fh, offset: 0n, size, write_flags: 0, lock_owner: 0n, flags: 0 });
  const write = () => kernel.send("WRITE", nodeid, Buffer.concat([head, Buffer.alloc(size)]));
  const waiting = Array.from({ length: 40 }, write);
  await delay(0);
  const errnos = waiting.map((unique) => kernel.replies.get(unique)?.errno);
  const refused = errnos.filter((errno) => errno === ERRNO.EAGAIN).length;
  assert.ok(refused >= 8 && refused < 12, `${refused} of 40 were refused`);
  assert.equal(errnos.filter((errno) => errno === undefined).length, 40 - refused);
  resolve();
  await delay(0);
  const next = write();
  await delay(0);
  assert.equal(kernel.answered(next).errno, 0);
});

test("what the kernel was sent is counted, and taken back by FORGET and BATCH_FORGET", async () => {
  using setup = setUp();
  const { kernel, files } = setup;
  const nodeid = files.addFile(1, "file");
  const other = files.addFile(1, "other");
  for (let count = 0; count < 3; count++) kernel.send("LOOKUP", 1, "file");
  kernel.send("LOOKUP", 1, "missing");
  const made = EntryOut.decode(kernel.answered(kernel.send("SYMLINK", 1, "link", "target")).body).nodeid;
  const listed = ReadIn.encode({ fh: 0n, offset: 0n, size: 4096, read_flags: 0, lock_owner: 0n, flags: 0 });
  kernel.send("READDIR", 1, listed);
  await delay(0);
  assert.deepEqual(
    [...files.lookups],
    [
      [Number(made), 1],
      [nodeid, 3],
    ],
  );
  kernel.send("READDIRPLUS", 1, listed);
  assert.deepEqual(
    new Map(files.lookups),
    new Map([
      [nodeid, 4],
      [other, 1],
      [Number(made), 2],
    ]),
  );
  const forgotten = kernel.send("FORGET", nodeid, ForgetIn.encode({ nlookup: 3n }));
  const batch = [
    BatchForgetIn.encode({ count: 3 }),
    ForgetOne.encode({ nodeid: BigInt(nodeid), nlookup: 1n }),
    ForgetOne.encode({ nodeid: BigInt(other), nlookup: 1n }),
    ForgetOne.encode({ nodeid: made, nlookup: 1n }),
  ];
  const all = kernel.send("BATCH_FORGET", 0, Buffer.concat(batch));
  assert.deepEqual([...files.lookups], [[Number(made), 1]]);
  const short = kernel.send(
    "BATCH_FORGET",
    0,
    Buffer.concat([BatchForgetIn.encode({ count: 1000 }), ...batch.slice(3)]),
  );
  assert.deepEqual([...files.lookups], [[Number(made), 1]]);
  for (const unique of [forgotten, all, short]) assert.equal(kernel.replies.get(unique), undefined, "no answer is due");
});
