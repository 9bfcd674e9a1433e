/** The session on real mounts: what programs see, and the traps of the kernel's protocol. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, truncateSync } from "node:fs";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import test, { after, before } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { native, UMOUNT } from "../../native/index.ts";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { firstMissing, missingAllUsers } from "../../test/support/prerequisites.ts";
import { uninterrupted, unlessAborted } from "../base/index.ts";
import { ERRNO } from "./errno.ts";
import type { Operations } from "./operations.ts";
import { FuseServer } from "./server.ts";
import { TestMount } from "./testing/mount.ts";
import { ScratchFileSystem, type ScratchOptions } from "./testing/scratch-file-system.ts";

const run = promisify(execFile);

const skip = skipWithoutMounts();
const options = { skip, timeout: 60_000 };

let server: FuseServer;
before(async () => {
  if (skip === false) server = await FuseServer.open({ workers: 2 });
});
after(async () => {
  if (skip === false) await server[Symbol.asyncDispose]();
});

type Maker = (from: ScratchOptions) => ScratchFileSystem;

/** A mounted scratch file system; everything is gone at the end of the scope. */
async function mounted(scratch: ScratchOptions = {}, make?: Maker) {
  const files = make?.(scratch) ?? new ScratchFileSystem(server.fileMaps, scratch);
  const mount = await TestMount.open(server, files);
  return {
    files,
    path: mount.path,
    session: mount.session,
    async [Symbol.asyncDispose]() {
      await mount[Symbol.asyncDispose]();
      files[Symbol.dispose]();
    },
  };
}

/** In a process of its own: this one has to answer. */
async function python(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await run("python3", ["-c", program, ...args], { timeout: 50_000 });
  return stdout.trim();
}

const errorCode = (error: unknown) => (error as { code?: string }).code;

test("files written through the mount read back, across extents and in odd pieces", options, async () => {
  await using on = await mounted();
  const data = randomBytes(5_000_011); // grows over several extents
  await fs.writeFile(join(on.path, "data"), data);
  assert.deepEqual(await fs.readFile(join(on.path, "data")), data);
  await run("cp", [join(on.path, "data"), join(on.path, "copy")]);
  await run("cmp", [join(on.path, "data"), join(on.path, "copy")]);
  const sha = createHash("sha256").update(data).digest("hex");
  await run("dd", [`if=${join(on.path, "data")}`, `of=${join(on.path, "dd")}`, "bs=1237", "status=none"]);
  assert.ok((await run("sha256sum", [join(on.path, "dd")])).stdout.startsWith(sha));
  assert.equal((await fs.stat(join(on.path, "dd"))).size, data.byteLength);
});

test("names, links, attributes, truncation and holes behave", options, async () => {
  await using on = await mounted();
  const at = (name: string) => join(on.path, name);
  await fs.mkdir(at("d"));
  await fs.writeFile(at("d/f"), "hello");
  await fs.symlink("d/f", at("l"));
  assert.equal(await fs.readFile(at("l"), "utf8"), "hello");
  await fs.rename(at("d/f"), at("g"));
  await assert.rejects(fs.stat(at("d/f")), { code: "ENOENT" });
  await fs.chmod(at("g"), 0o640);
  await fs.utimes(at("g"), 1000, 1234.5);
  const stat = await fs.stat(at("g"));
  assert.equal(stat.mode & 0o7777, 0o640);
  await fs.truncate(at("g"), 2);
  await fs.truncate(at("g"), 4);
  assert.equal(await fs.readFile(at("g"), "latin1"), "he\0\0");
  await assert.rejects(fs.link(at("g"), at("h")), { code: "EPERM" });
  await assert.rejects(run("mkfifo", [at("fifo")]));
  await fs.unlink(at("g"));
  const status = await native.statfs(on.path);
  assert.equal(status.freeFiles, 4000);
});

test("4 KiB random writes verify (fio-like), with and without O_DIRECT, side by side", options, async () => {
  await using on = await mounted();
  const program = `
import os, sys, mmap, random
path, direct = sys.argv[1], int(sys.argv[2])
random.seed(direct)
fd = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_DIRECT if direct else 0))
block = mmap.mmap(-1, 4096)
model = {}
os.ftruncate(fd, 1024 * 4096)
for i in range(600):
    at = random.randrange(1024)
    block[:] = random.randbytes(4096)
    assert os.pwrite(fd, block, at * 4096) == 4096
    model[at] = bytes(block)
    at = random.choice(list(model))
    assert os.preadv(fd, [block], at * 4096) == 4096
    assert bytes(block) == model[at], at
os.close(fd)
print("verified")
`;
  const results = await Promise.all([
    python(program, join(on.path, "a"), "1"),
    python(program, join(on.path, "b"), "0"),
    python(program, join(on.path, "c"), "1"),
  ]);
  assert.deepEqual(results, ["verified", "verified", "verified"]);
});

for (const directIo of [false, true]) {
  test(`mmap reads and writes${directIo ? " files that are open with direct I/O" : ""}`, options, async (context) => {
    await using on = await mounted({ directIo });
    if (directIo && !on.session.kernel.granted.includes("DIRECT_IO_ALLOW_MMAP")) {
      context.skip("the kernel lacks DIRECT_IO_ALLOW_MMAP");
      return;
    }
    const program = `
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 3 << 20)
with mmap.mmap(fd, 3 << 20) as m:
    m[0:5] = b"start"
    m[(3 << 20) - 3:] = b"end"
    m.flush()
    assert os.pread(fd, 5, 0) == b"start"
os.close(fd)
print(open(sys.argv[1], "rb").read()[-3:].decode())
`;
    assert.equal(await python(program, join(on.path, "mapped")), "end");
  });
}

test("a sealed file is read and rewritten in place; growing is EFBIG or EPERM", options, async () => {
  await using on = await mounted();
  on.files.addSealed("sealed", 10, [{ offset: 0, length: 65536 }]);
  const path = join(on.path, "sealed");
  const file = await fs.open(path, "r+");
  await file.write("0123456789", 0);
  assert.equal((await file.write("xx", 9)).bytesWritten, 1);
  await assert.rejects(file.write("x", 10), { code: "EFBIG" });
  await assert.rejects(file.truncate(5), { code: "EPERM" });
  await file.close();
  assert.equal(await fs.readFile(path, "latin1"), "012345678x");
});

test("two interleaved strips read as one file", options, async () => {
  await using on = await mounted();
  const chunk = 65536;
  const nodeid = on.files.addSealed("striped", 4 * chunk, [{ offset: 0, length: 4 * chunk }]);
  const data = randomBytes(4 * chunk);
  native.copyIn(on.files.window, 0, data);
  server.fileMaps.setLayout(
    on.files.mapOf(nodeid),
    {
      type: "interleaved",
      chunkSize: chunk,
      strips: [
        { offset: 0, length: 2 * chunk },
        { offset: 2 * chunk, length: 2 * chunk },
      ],
    },
    4 * chunk,
  );
  const pieces = [0, 2, 1, 3].map((index) => data.subarray(index * chunk, (index + 1) * chunk));
  assert.deepEqual(await fs.readFile(join(on.path, "striped")), Buffer.concat(pieces));
});

test("offsets beyond 4 GiB reach the right place", options, async () => {
  await using on = await mounted({ sizeBytes: 6 * 2 ** 30 });
  on.files.addSealed("big", 6 * 2 ** 30, [{ offset: 0, length: 6 * 2 ** 30 }]);
  const file = await fs.open(join(on.path, "big"), "r+");
  await file.write("far away", 5 * 2 ** 30 + 7);
  await file.close();
  const seen = new Uint8Array(8);
  native.copyOut(on.files.window, 5 * 2 ** 30 + 7, seen);
  assert.equal(Buffer.from(seen).toString(), "far away");
});

test("10,000 files are open at once, and closing them releases each", options, async () => {
  await using on = await mounted();
  const program = `
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (12000, max(12000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
fds = []
for i in range(10000):
    fd = os.open(f"{sys.argv[1]}/f{i}", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"%d" % i)
    fds.append(fd)
for i in (0, 17, 9999):
    assert os.pread(fds[i], 10, 0) == b"%d" % i
print(len(fds))
`;
  assert.equal(await python(program, on.path), "10000");
  for (let tries = 0; on.files.openFiles > 0 && tries < 200; tries++) await delay(10); // RELEASE is asynchronous
  assert.equal(on.files.openFiles, 0);
});

test("5,000 entries list completely, with their attributes and without", options, async () => {
  await using on = await mounted();
  const directory = await on.files.makeDirectory(1, "many", 0o755, uninterrupted());
  for (let index = 0; index < 5000; index++) on.files.addFile(directory.attributes.nodeid, `entry-${index}`);
  const program = `
import os, sys
names = os.listdir(sys.argv[1])
assert len(set(names)) == len(names) == 5000
assert sum(e.stat().st_mode & 0o777 == 0o644 for e in os.scandir(sys.argv[1])) == 5000
assert len(os.listdir(sys.argv[1])) == 5000
print(os.popen(f"ls -a {sys.argv[1]} | head -2").read().split())
`;
  assert.equal(await python(program, join(on.path, "many")), "['.', '..']");
  assert.ok((on.session.stats().opcodes.READDIRPLUS?.requests ?? 0) > 0);
});

test("two mounts at once keep their files apart", options, async () => {
  await using one = await mounted();
  await using two = await mounted();
  await Promise.all([fs.writeFile(join(one.path, "x"), "one"), fs.writeFile(join(two.path, "x"), "two")]);
  assert.equal(await fs.readFile(join(one.path, "x"), "utf8"), "one");
  assert.equal(await fs.readFile(join(two.path, "x"), "utf8"), "two");
});

const otherUsers = { ...options, skip: firstMissing(skip, missingAllUsers()) };

test("writing clears set-id bits when the writer may not keep them", otherUsers, async () => {
  await using on = await mounted();
  const path = join(on.path, "program");
  await fs.writeFile(path, "old");
  await fs.chmod(path, 0o6777);
  const program = `
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
os.setgid(1000); os.setuid(1000)
os.write(fd, b"new")
print(oct(os.fstat(fd).st_mode & 0o7777))
`;
  await fs.chmod(on.path, 0o755);
  assert.equal(await python(program, path), "0o777");
});

test("what the kernel caches is forgotten when it is told so", options, async () => {
  await using on = await mounted({ validSeconds: Number.POSITIVE_INFINITY });
  const nodeid = on.files.addSealed("file", 4096, [{ offset: 0, length: 65536 }]);
  const path = join(on.path, "file");
  assert.equal((await fs.readFile(path))[0], 0);
  native.copyIn(on.files.window, 0, Buffer.from("x"));
  assert.equal((await fs.readFile(path))[0], 0, "the page is cached");
  await on.session.caches.forget([{ type: "content", nodeid }]);
  assert.equal((await fs.readFile(path, "latin1"))[0], "x");

  on.files.unlink(1, "file");
  await fs.stat(path); // still cached
  await on.session.caches.forget([{ type: "name", parent: 1, name: "file" }]);
  await assert.rejects(fs.stat(path), { code: "ENOENT" });
  await on.session.caches.forget([{ type: "name", parent: 1, name: "never heard of" }]); // ENOENT is success

  const other = on.files.addFile(1, "other");
  assert.deepEqual(await fs.readdir(on.path), ["other"]);
  on.files.unlink(1, "other");
  await on.session.caches.forget([{ type: "removed", parent: 1, nodeid: other, name: "other" }]);
  await on.session.caches.forget([{ type: "content", nodeid: 1 }]); // its listing
  assert.deepEqual(await fs.readdir(on.path), []);
});

test("where any host may write a file, READ and WRITE go to the memory", options, async () => {
  await using on = await mounted({ host: "here", directIo: true });
  const size = 1 << 20;
  on.files.addSealed("file", size, [{ offset: 65536, length: size }]);
  const file = await fs.open(join(on.path, "file"), "r+");
  const seen = Buffer.alloc(size);
  await file.read(seen, 0, size, 0);
  for (const [at, text] of [
    [0, "elsewhere"],
    [4090, "across pages"],
    [size - 1, "!"],
  ] as const) {
    native.copyIn(on.files.memory, 65536 + at, Buffer.from(text));
    await file.read(seen, 0, size, 0);
    assert.equal(seen.toString("latin1", at, at + text.length), text);
    native.copyIn(on.files.memory, 65536 + at, Buffer.from(text.toUpperCase().replace("!", "?")));
    await file.read(seen, 0, text.length, at); // small answers go another way
    assert.equal(seen.toString("latin1", 0, text.length), text.toUpperCase().replace("!", "?"));
  }
  await file.write("here", 4);
  native.copyOut(on.files.memory, 65536, seen);
  assert.equal(seen.toString("latin1", 0, 9), "ELSEhereE");
  await file.close();
});

class GatedFileSystem extends ScratchFileSystem {
  gate: Promise<void> | undefined;

  override async makeDirectory(...args: Parameters<ScratchFileSystem["makeDirectory"]>) {
    if (this.gate !== undefined) await unlessAborted(this.gate, args[3].signal);
    return super.makeDirectory(...args);
  }
}

function gated(): [(from: ScratchOptions) => GatedFileSystem, () => GatedFileSystem] {
  let files: GatedFileSystem | undefined;
  return [
    (from) => {
      files = new GatedFileSystem(server.fileMaps, from);
      return files;
    },
    () => files ?? assert.fail("not mounted"),
  ];
}

test(
  "a notification that waits for a pending mkdir holds up neither its answer nor anybody else",
  options,
  async () => {
    const [make, files] = gated();
    await using on = await mounted({}, make);
    await using other = await mounted();
    const { promise, resolve } = Promise.withResolvers<void>();
    files().gate = promise;
    const child = spawn("mkdir", [join(on.path, "d")]);
    const exited = once(child, "exit");
    await pendingRequest(on.session);
    let sent = false;
    const invalidated = on.session.caches.forget([{ type: "name", parent: 1, name: "x" }]).then(() => {
      sent = true;
    });
    await delay(50);
    assert.equal(sent, false, "INVAL_ENTRY sleeps until the directory's pending request is answered");
    await fs.writeFile(join(other.path, "meanwhile"), "served");
    await other.session.caches.forget([{ type: "name", parent: 1, name: "y" }]); // its notifier is another thread
    resolve();
    assert.deepEqual(await exited, [0, null]);
    await invalidated;
  },
);

test("a killed program does not wait for a slow operation, which is not carried out later", options, async () => {
  const [make, files] = gated();
  await using on = await mounted({}, make);
  const { promise, resolve } = Promise.withResolvers<void>();
  files().gate = promise;
  const child: ChildProcess = spawn("mkdir", [join(on.path, "d")]);
  const exited = once(child, "exit");
  await pendingRequest(on.session);
  const began = performance.now();
  child.kill("SIGKILL");
  await exited;
  assert.ok(performance.now() - began < 2000);
  resolve();
  await delay(10);
  assert.deepEqual(await fs.readdir(on.path), []);
});

test("unmounting by force ends the session, releases its files and leaves the others alone", options, async () => {
  await using other = await mounted();
  await using on = await mounted();
  const file = await fs.open(join(on.path, "open"), "w");
  assert.equal(on.files.openFiles, 1);
  await native.unmount(on.path, UMOUNT.FORCE | UMOUNT.DETACH);
  await on.session.ended;
  assert.equal(on.files.openFiles, 0);
  await assert.rejects(file.write("x"), (error) => /^E(NOTCONN|CONNABORTED|IO)$/.test(String(errorCode(error))));
  await file.close().catch(() => {});
  await fs.writeFile(join(other.path, "x"), "still there");
});

test("memory that goes bad is EIO for its file, and the server lives", options, async () => {
  await using on = await mounted({ sizeBytes: 1 << 22 });
  on.files.addSealed("bad", 4096, [{ offset: 3 << 20, length: 65536 }]);
  on.files.addSealed("good", 4096, [{ offset: 1 << 20, length: 65536 }]);
  truncateSync(on.files.path, 2 << 20); // what was mapped behind it now raises SIGBUS
  await assert.rejects(fs.readFile(join(on.path, "bad")), { code: "EIO" });
  const file = await fs.open(join(on.path, "bad"), "r+");
  await assert.rejects(file.write("x", 0), { code: "EIO" });
  await file.close();
  assert.equal((await fs.readFile(join(on.path, "good"))).byteLength, 4096);
  const { memoryErrors, errnos, opcodes } = on.session.stats();
  assert.ok(memoryErrors >= 2);
  assert.equal(errnos["EIO"], memoryErrors);
  assert.ok((opcodes.READ?.errors ?? 0) >= 1 && (opcodes.WRITE?.errors ?? 0) >= 1);
});

test("a paused map asks before each write, and idle waits for the workers", options, async () => {
  await using on = await mounted();
  const nodeid = on.files.addSealed("file", 65536, [{ offset: 0, length: 65536 }]);
  const map = on.files.mapOf(nodeid);
  let asked = 0;
  const prepare = on.files.prepareWrite.bind(on.files);
  on.files.prepareWrite = (...args) => {
    asked++;
    return prepare(...args);
  };
  const file = await fs.open(join(on.path, "file"), "r+");
  await file.write("free", 0);
  assert.equal(asked, 0);
  server.fileMaps.setPaused(map, true);
  await server.fileMaps.idle(map);
  await file.write("asks", 0);
  assert.equal(asked, 1);
  server.fileMaps.setPaused(map, false);
  await file.write("free", 0);
  assert.equal(asked, 1);
  assert.ok(server.fileMaps.lastWriteMs(map) > Date.now() - 10_000);
  await file.close();
});

test("a write under a guard that no longer holds is refused and writes nothing", options, async () => {
  await using on = await mounted();
  const expected = Buffer.from("owner: me, epoch 7");
  native.copyIn(on.files.window, 4096, expected);
  const guard = native.guardCreate(on.files.window, 4096, expected, false);
  try {
    const nodeid = on.files.addGuarded("file", 4096, { offset: 65536, length: 65536 }, guard);
    const file = await fs.open(join(on.path, "file"), "r+");
    await file.write("mine", 0);
    native.copyIn(on.files.window, 4096, Buffer.from("owner: you"));
    await assert.rejects(file.write("late", 0), { errno: -ERRNO.ESTALE });
    await file.close();
    assert.equal(nodeid > 0, true);
    const seen = new Uint8Array(4);
    native.copyOut(on.files.window, 65536, seen);
    assert.equal(Buffer.from(seen).toString(), "mine");
  } finally {
    native.guardDestroy(guard);
  }
});

test("replies by way of the bounce buffer are the same bytes", options, async () => {
  const program = `
    const { FuseServer } = await import(${JSON.stringify(new URL("./server.ts", import.meta.url).href)});
    const { ScratchFileSystem } = await import(${JSON.stringify(new URL("./testing/scratch-file-system.ts", import.meta.url).href)});
    const { TestMount } = await import(${JSON.stringify(new URL("./testing/mount.ts", import.meta.url).href)});
    const { readFile, writeFile } = await import("node:fs/promises");
    const { randomBytes } = await import("node:crypto");
    await using server = await FuseServer.open({ workers: 1, bounce: true });
    using files = new ScratchFileSystem(server.fileMaps, { sizeBytes: 1 << 24, directIo: true });
    await using mount = await TestMount.open(server, files);
    const data = randomBytes(3_000_001);
    await writeFile(mount.path + "/f", data);
    if (!data.equals(await readFile(mount.path + "/f"))) process.exitCode = 1;
  `;
  await run(process.execPath, ["--input-type=module", "-e", program], { timeout: 20_000 });
});

test("a process that exits or dies with a mount being served does not hang", options, async () => {
  const program = `
    const { FuseServer } = await import(${JSON.stringify(new URL("./server.ts", import.meta.url).href)});
    const { ScratchFileSystem } = await import(${JSON.stringify(new URL("./testing/scratch-file-system.ts", import.meta.url).href)});
    const { TestMount } = await import(${JSON.stringify(new URL("./testing/mount.ts", import.meta.url).href)});
    const { writeSync } = await import("node:fs");
    const server = await FuseServer.open({ workers: 2 });
    const files = new ScratchFileSystem(server.fileMaps, { sizeBytes: 1 << 20 });
    const mount = await TestMount.open(server, files);
    process.on("exit", () => files[Symbol.dispose]());
    writeSync(1, mount.path); // console.log to a pipe would be lost by exit
    if (process.argv[1] === "exit") process.exit(3);
    if (process.argv[1] === "throw") setImmediate(() => { throw new Error("on purpose"); });
  `;
  for (const [how, status] of [
    ["exit", 3],
    ["throw", 1],
  ] as const) {
    const child = spawn(process.execPath, ["--input-type=module", "-e", program, how], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    let path = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      path += text;
    });
    const hang = setTimeout(() => child.kill("SIGKILL"), 10_000);
    const [code] = (await once(child, "exit")) as [number | null];
    clearTimeout(hang);
    await native.unmount(path.trim(), UMOUNT.DETACH);
    await fs.rmdir(path.trim());
    assert.equal(code, status);
  }
});

/** Until the file system has a request that waits. */
async function pendingRequest(session: { stats(): { pending: number } }): Promise<void> {
  for (let tries = 0; session.stats().pending === 0; tries++) {
    assert.ok(tries < 500, "no request came");
    await delay(5);
  }
}

test("hundreds of large writes that wait do not take the memory of the node", options, async () => {
  const wait = Promise.withResolvers<void>();
  class WaitingFileSystem extends ScratchFileSystem {
    override async prepareWrite(...args: Parameters<Operations["prepareWrite"]>) {
      using _held = args[2].budget.hold();
      await wait.promise;
      return super.prepareWrite(...args);
    }
  }
  await using on = await mounted({ directIo: true }, (from) => new WaitingFileSystem(server.fileMaps, from));
  const nodeid = on.files.addSealed("file", 1 << 20, [{ offset: 0, length: 1 << 20 }]);
  server.fileMaps.setPaused(on.files.mapOf(nodeid), true);
  const program = spawn("python3", ["-uc", MANY_WRITES, join(on.path, "file")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface(program.stdout)[Symbol.asyncIterator]();
  const before = anonymousBytes();
  await lines.next(); // all those that are refused have been
  const grown = anonymousBytes() - before;
  assert.ok(grown < 150 * 2 ** 20, `${grown} bytes more`);
  wait.resolve();
  const { value } = await lines.next();
  const [landed = 0, refused = 0] = String(value).split(" ").map(Number);
  assert.equal(landed + refused, 600);
  assert.ok(landed >= 30 && refused >= 500, String(value));
});

const MANY_WRITES = `
import errno, os, sys, threading
fd = os.open(sys.argv[1], os.O_WRONLY)
data = bytes(1 << 20)
landed, refused = [], []
enough = threading.Event()
def write():
    try:
        os.pwrite(fd, data, 0)
        landed.append(1)
    except OSError as error:
        assert error.errno == errno.EAGAIN, error
        refused.append(1)
        if len(refused) == 560: enough.set()
threading.stack_size(1 << 16)
threads = [threading.Thread(target=write) for _ in range(600)]
for thread in threads: thread.start()
enough.wait(20)
print("waiting")
for thread in threads: thread.join()
print(len(landed), len(refused))
`;

/** Of this process, the server in it. */
function anonymousBytes(): number {
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}
