import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { test } from "node:test";
import { native } from "../../../native/index.ts";
import { cleanup, eventually, testLogger } from "../testing/fixtures.ts";
import { FuseServerSupervisor, isDying } from "./supervisor.ts";

const abort = () => Promise.resolve();
const handlers = {
  acquireWriter: () => Promise.reject(new Error("nobody writes here")),
  releaseWriter: () => undefined,
  problem: () => undefined,
};

test("a FUSE server that does not start in time is an error that says so, and leaves no process", async (t) => {
  const lock = cleanup(t).use(await open("/dev/null"));
  const watchdog = { periodMs: 1000, timeoutMs: 1000, startMs: 1 };
  const lost: unknown[] = [];
  const children = () => readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").trim();
  const before = children();
  await assert.rejects(
    FuseServerSupervisor.open({
      logger: testLogger,
      lock: lock.fd,
      handlers,
      watchdog,
      onLost: (ids) => lost.push(ids),
      abort,
    }),
    { code: "NODE_UNAVAILABLE", message: /did not start within 0.001 s: see whether the node is overloaded/ },
  );
  assert.equal(children(), before);
  assert.deepEqual(lost, []);
});

test("a FUSE server that could not be spawned is tried again at the next call", async (t) => {
  const lock = cleanup(t).use(await open("/dev/null"));
  const supervisor = cleanup(t).use(
    await FuseServerSupervisor.open({
      logger: testLogger,
      lock: lock.fd,
      handlers,
      onLost: () => undefined,
      abort,
    }),
  );
  const { mock } = t.mock.method(native, "socketPair", () => {
    throw Object.assign(new Error("too many open files"), { code: "EMFILE" });
  });
  process.kill((await supervisor.pid()) ?? 0, "SIGKILL");
  await eventually("it was tried", () => mock.callCount() > 0 || undefined);
  await assert.rejects(supervisor.answers(), /EMFILE|too many open files/);
  mock.restore();
  await supervisor.answers();
  assert.equal(supervisor.starts, 2);
});

test("a process whose main thread has ended, and another one has not, is dying", async (t) => {
  const EXIT = process.arch === "arm64" ? 93 : 60; // exit(2) ends one thread
  const script = `import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall(${EXIT}, 0)`;
  const child = spawn("python3", ["-c", script], { stdio: "ignore" });
  cleanup(t).defer(() => void child.kill("SIGKILL"));
  await eventually("its main thread has ended", () => isDying(child.pid ?? 0) || undefined);
  assert.equal(child.exitCode, null);
  assert.equal(isDying(process.pid), false);
});
