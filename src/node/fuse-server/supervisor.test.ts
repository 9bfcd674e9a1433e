import assert from "node:assert/strict";
import { open } from "node:fs/promises";
import { test } from "node:test";
import { native } from "../../../native/index.ts";
import { cleanup, eventually, testLogger } from "../testing/fixtures.ts";
import { FuseServerSupervisor } from "./supervisor.ts";

test("a FUSE server that could not be spawned is tried again at the next call", async (t) => {
  const lock = cleanup(t).use(await open("/dev/null"));
  const supervisor = cleanup(t).use(
    await FuseServerSupervisor.open({
      logger: testLogger,
      lock: lock.fd,
      handlers: {
        acquireWriter: () => Promise.reject(new Error("nobody writes here")),
        releaseWriter: () => undefined,
        problem: () => undefined,
      },
      onLost: () => undefined,
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
