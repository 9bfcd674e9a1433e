/** What the kernel does that a server must know (docs/guarantees.md, Traps), each with what we do about it. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import test, { after, before } from "node:test";
import { Worker } from "node:worker_threads";
import { native } from "../../native/index.ts";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { FuseServer } from "./server.ts";
import type { SessionOptions } from "./session.ts";
import { TestMount } from "./testing/mount.ts";
import { stateOf, untilStateStays } from "./testing/process-state.ts";
import { ScratchFileSystem, type ScratchOptions } from "./testing/scratch-file-system.ts";

const skip = skipWithoutMounts();
const options = { skip, timeout: 30_000 };

let server: FuseServer;
before(async () => {
  if (skip === false) server = await FuseServer.open({ workers: 2 });
});
after(async () => {
  if (skip === false) await server[Symbol.asyncDispose]();
});

/** A scratch file system of which a mkdir, or preparing a write, waits while there is a gate. */
class GatedFileSystem extends ScratchFileSystem {
  #gate: PromiseWithResolvers<void> | undefined;
  #reached = Promise.withResolvers<void>();

  /** Resolves when the operation waits. */
  closeGate(): Promise<void> {
    this.#gate = Promise.withResolvers();
    this.#reached = Promise.withResolvers();
    return this.#reached.promise;
  }

  openGate(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
  }

  async #pass(): Promise<void> {
    if (this.#gate === undefined) return;
    this.#reached.resolve();
    await this.#gate.promise;
  }

  override async makeDirectory(...args: Parameters<ScratchFileSystem["makeDirectory"]>) {
    await this.#pass();
    return super.makeDirectory(...args);
  }

  override async prepareWrite(...args: Parameters<ScratchFileSystem["prepareWrite"]>) {
    await this.#pass();
    return super.prepareWrite(...args);
  }
}

async function mounted(scratch: ScratchOptions = {}, session: SessionOptions = {}) {
  await using stack = new AsyncDisposableStack();
  const files = stack.use(new GatedFileSystem(server.fileMaps, { sizeBytes: 1 << 24, ...scratch }));
  const mount = stack.use(await TestMount.open(server, files, session));
  const owned = stack.move();
  return {
    files,
    path: mount.path,
    session: mount.session,
    [Symbol.asyncDispose]: () => {
      files.openGate(); // a failed test must not hang in its unmount
      return owned.disposeAsync();
    },
  };
}

/** A Python program that says "ready" and goes on when told to. */
async function python(program: string, ...args: string[]) {
  const child = spawn("python3", ["-uc", program, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const exited = once(child, "exit");
  const [first] = (await once(child.stdout, "data")) as [Buffer];
  const end = async () => {
    child.stdin.end("\n");
    const [status] = (await exited) as [number | null];
    return status;
  };
  return { said: first.toString().trim(), end };
}

test("without DIRECT_IO_ALLOW_MMAP a file that is open with direct I/O cannot be mapped", options, async () => {
  const map = `
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    mmap.mmap(fd, 4096)
    print("mapped")
except OSError as error:
    print(error.errno)
input()
`;
  const ENODEV = "19";
  const extents = [{ offset: 0, length: 65536 }];
  {
    await using on = await mounted({ directIo: true }, { withhold: ["DIRECT_IO_ALLOW_MMAP"] });
    on.files.addSealed("file", 4096, extents);
    const program = await python(map, join(on.path, "file"));
    assert.equal(program.said, ENODEV);
    await program.end();
  }
  await using on = await mounted({ directIo: false }, { withhold: ["DIRECT_IO_ALLOW_MMAP"] });
  on.files.addSealed("file", 4096, extents);
  const program = await python(map, join(on.path, "file"));
  assert.equal(program.said, "mapped");
  await program.end();
});

test("INVAL_INODE waits for dirty pages to be written, which this server answers meanwhile", options, async () => {
  await using on = await mounted();
  await using other = await mounted();
  const nodeid = on.files.addSealed("file", 4096, [{ offset: 65536, length: 65536 }]);
  const program = await python(
    `
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
memory = mmap.mmap(fd, 4096)
memory[0:5] = b"dirty"
print("ready")
input()
`,
    join(on.path, "file"),
  );
  const map = on.files.mapOf(nodeid);
  server.fileMaps.setPaused(map, true); // its writes ask `prepareWrite`
  const written = on.files.closeGate();
  let told = false;
  const invalidated = on.session.caches.forget([{ type: "content", nodeid }]).then(() => {
    told = true;
  });
  await written; // the notification itself makes the kernel write the page
  assert.equal(told, false, "it waits for that WRITE");
  await fs.writeFile(join(on.path, "meanwhile"), "");
  await other.session.caches.forget([{ type: "content", nodeid: 1 }]); // has a notifier of its own
  assert.equal(told, false);
  on.files.openGate();
  await invalidated;
  const seen = new Uint8Array(5);
  native.copyOut(on.files.window, 65536, seen);
  assert.equal(Buffer.from(seen).toString(), "dirty");
  assert.equal(await program.end(), 0);
});

test(
  "while a name change waits, uncached names of its directory wait, unkillably; cached ones and open files do not",
  options,
  async () => {
    await using on = await mounted({ validSeconds: Number.POSITIVE_INFINITY });
    on.files.addSealed("cached", 4096, [{ offset: 0, length: 65536 }]);
    on.files.addSealed("uncached", 4096, [{ offset: 65536, length: 65536 }]);
    // Not opened by this process: it has to answer, and what it spawns would wait for the FLUSH of its copy.
    const holder = await python(
      `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
print("ready")
input()
assert os.pwrite(fd, b"goes on", 0) == 7
assert os.stat(sys.argv[1]).st_size == 4096
`,
      join(on.path, "cached"),
    );
    const waits = on.files.closeGate();
    const change = spawn("mkdir", [join(on.path, "directory")]);
    const changed = once(change, "exit");
    await waits;
    const look = spawn("stat", [join(on.path, "uncached")], { stdio: "ignore" });
    const looked = once(look, "exit");
    await untilStateStays(look.pid, "D");
    look.kill("SIGKILL");
    assert.equal(await holder.end(), 0);
    assert.equal(stateOf(look.pid), "D", "a name change must give up after a bounded time: nothing else ends this");
    on.files.openGate();
    assert.deepEqual(await looked, [null, "SIGKILL"]);
    assert.deepEqual(await changed, [0, null]);
  },
);

test("a worker that waits for requests ends when it is woken", options, async () => {
  const code = `
    const { workerData, parentPort } = require("node:worker_threads");
    const native = require(workerData);
    const worker = native.fuseWorkerOpen(new Uint8Array(1 << 16), new Float64Array(2 * 1023), new Uint32Array(1), false);
    parentPort.postMessage(worker);
    native.fuseReceive(worker, -1);
    native.fuseWorkerClose(worker);`;
  const addon = join(import.meta.dirname, "../../native/build/famfs.node");
  const thread = new Worker(code, { eval: true, workerData: addon });
  const [worker] = (await once(thread, "message")) as [number];
  const ended = thread.terminate(); // by itself it waits for the call of the addon for ever
  native.fuseWake(worker);
  await ended;
});

test("a reply goes out of memory that was populated: none is faulted in while the kernel copies", options, async () => {
  await using on = await mounted({ directIo: true });
  on.files.addSealed("file", 65536, [{ offset: 1 << 20, length: 65536 }]); // a small one is copied by us
  await fs.readFile(join(on.path, "file"));
  // What was populated once is remembered. So after its pages are gone, asking for them again brings none back.
  const device = await fs.open(on.files.path, "r+");
  await native.punchHole(device.fd, 1 << 20, 65536);
  await device.close();
  const resident = residentBytes(on.files.path);
  native.populate(on.files.window, 1 << 20, 1);
  assert.equal(residentBytes(on.files.path), resident);
});

test("a buffer for requests is touched before the first one is read", options, () => {
  const bytes = 64 * 2 ** 20;
  const before = process.memoryUsage.rss();
  const worker = native.fuseWorkerOpen(new Uint8Array(bytes), new Float64Array(2 * 1023), new Uint32Array(1), false);
  const grown = process.memoryUsage.rss() - before;
  native.fuseWorkerClose(worker);
  assert.ok(grown > 0.9 * bytes, `${grown}`);
});

/** Of a file's mapping in this process: what the kernel need not fault in. */
function residentBytes(path: string): number {
  const lines = readFileSync("/proc/self/smaps", "utf8").split("\n");
  const start = lines.findIndex((line) => line.endsWith(path));
  const rss = lines.slice(start).find((line) => line.startsWith("Rss:"));
  return Number(/[0-9]+/.exec(rss ?? "")?.[0]) * 1024;
}
