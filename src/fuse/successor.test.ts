/** A server that goes on with the mount of another one, as after its death: what the kernel held meanwhile. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync } from "node:fs";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import test, { after, before } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { native } from "../../native/index.ts";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { NOTIFY } from "./flags.ts";
import { FuseServer } from "./server.ts";
import { TestMount } from "./testing/mount.ts";
import { stateOf, untilStateStays } from "./testing/process-state.ts";
import { ScratchFileSystem } from "./testing/scratch-file-system.ts";

const skip = skipWithoutMounts();
const options = { skip, timeout: 30_000 };

let server: FuseServer;
before(async () => {
  if (skip === false) server = await FuseServer.open({ workers: 2 });
});
after(async () => {
  if (skip === false) await server[Symbol.asyncDispose]();
});

/** Counts what it is asked to look up, and answers when it is told to. */
class CountingFileSystem extends ScratchFileSystem {
  readonly asked = new Map<string, number>();
  answers = Promise.resolve();

  override async lookup(...args: Parameters<ScratchFileSystem["lookup"]>) {
    const [, name] = args;
    this.asked.set(name, (this.asked.get(name) ?? 0) + 1);
    await this.answers;
    return super.lookup(...args);
  }
}

/** A mount with a second descriptor of its connection, as a descriptor store holds it. */
async function mounted() {
  await using stack = new AsyncDisposableStack();
  const files = stack.use(new CountingFileSystem(server.fileMaps, { sizeBytes: 1 << 24 }));
  let descriptor = -1;
  const mount = stack.use(
    await TestMount.open(server, files, {}, (fd) => {
      descriptor = duplicate(fd);
    }),
  );
  const { kernel } = mount.session;
  let kept = true;
  stack.defer(() => {
    if (kept) closeSync(descriptor);
  });
  const owned = stack.move();
  return {
    files,
    path: mount.path,
    kernel,
    /** Still there when the session is detached. */
    descriptor,
    /** Ends as a killed server does: nothing it took is answered any more. */
    detach: () => mount.session.detach(),
    succeed: () => {
      kept = false;
      return server.attach({ fd: descriptor, operations: files, options: { resume: kernel } });
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** dup(2), which Node lacks: a descriptor sent to oneself. */
function duplicate(fd: number): number {
  const [here, there] = native.socketPair();
  native.sendDescriptor(here, fd, 0);
  const { descriptor } = native.receiveDescriptor(there);
  closeSync(here);
  closeSync(there);
  return descriptor;
}

/** Resolves with the first it says; rejects when it ends before. */
async function saysSomething(child: ChildProcess): Promise<string> {
  assert.ok(child.stdout !== null);
  const ended = once(child, "exit").then(([status]) => assert.fail(`it ended with ${status}`));
  const [data] = (await Promise.race([once(child.stdout, "data"), ended])) as [Buffer];
  return data.toString();
}

async function succeeds(child: ChildProcess): Promise<void> {
  const [status] = child.exitCode === null ? await once(child, "exit") : [child.exitCode];
  assert.equal(status, 0);
}

test("a successor goes on with the mount, without INIT and without an error", options, async () => {
  await using on = await mounted();
  await fs.writeFile(join(on.path, "kept"), "before");
  on.detach();
  const reading = fs.readFile(join(on.path, "kept"), "utf8"); // waits for whoever comes
  const successor = await on.succeed();
  assert.equal(await reading, "before");
  assert.equal(await fs.readFile(join(on.path, "kept"), "utf8"), "before");
  successor.detach();
});

test("a request that was taken and not answered comes again, one that waited comes once", options, async (t) => {
  await using on = await mounted();
  if (!on.kernel.granted.includes("HAS_RESEND")) {
    on.detach();
    t.skip("before Linux 6.9 what a killed server had taken is lost");
    return;
  }
  for (const name of ["taken", "waiting"]) on.files.addFile(1, name); // not known to the kernel yet
  on.detach();
  on.files.asked.clear();
  const look = (name: string) => spawn("stat", ["--format=", join(on.path, name)], { stdio: "inherit" });
  const taken = look("taken");
  // A server that dies with a request that it has read.
  const program = "import os, select, signal; select.select([3], [], []); os.read(3, 1 << 21); print(); signal.pause()";
  const killed = spawn("python3", ["-uc", program], { stdio: ["ignore", "pipe", "inherit", on.descriptor] });
  await saysSomething(killed);
  killed.kill("SIGKILL");
  await once(killed, "exit");
  const waiting = look("waiting");
  await untilStateStays(waiting.pid, "SD");

  const held = Promise.withResolvers<void>();
  on.files.answers = held.promise;
  const successor = await on.succeed();
  while (on.files.asked.size < 2) await delay(5);
  held.resolve();
  await Promise.all([taken, waiting].map(succeeds));
  // Were it asked for after a worker reads, the kernel would queue again what that worker has just taken.
  assert.deepEqual(Object.fromEntries(on.files.asked), { taken: 1, waiting: 1 });
  successor.detach();
});

test("INVAL_INODE waits for pending reads, unkillably, until somebody answers them", options, async () => {
  await using on = await mounted();
  const nodeid = on.files.addSealed("file", 4096, [{ offset: 65536, length: 65536 }]);
  const reader = spawn("sh", ["-c", 'exec <"$1"; echo; read _ <&3; exec head -c 5 2>&1', "sh", join(on.path, "file")], {
    stdio: ["ignore", "pipe", "inherit", "pipe"],
  });
  await saysSomething(reader); // it has the file open
  on.detach();
  (reader.stdio[3] as NodeJS.WritableStream).write("\n");
  await untilStateStays(reader.pid, "D");

  const notify = `
import os, struct
os.write(3, struct.pack("<IiQQqq", 40, ${NOTIFY.INVAL_INODE}, 0, ${nodeid}, 0, 0))
`;
  const notifier = spawn("python3", ["-c", notify], { stdio: ["ignore", "inherit", "inherit", on.descriptor] });
  await untilStateStays(notifier.pid, "D");
  notifier.kill("SIGKILL");
  await delay(50);
  assert.equal(stateOf(notifier.pid), "D", "a thread that also answers READ would never come back");

  const ended = Promise.all([reader, notifier].map((child) => once(child, "exit")));
  const successor = await on.succeed();
  await ended; // the READ with an error, because its file handle went with the predecessor
  successor.detach();
});
