import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { FamfsError } from "../../base/index.ts";
import { Channel, type Port } from "./channel.ts";

type Calls = { double(value: number): number; fail(code: "OWNER_BUSY" | "other"): void; never(): void };

/** One end of an in-memory channel that clones and delays like a real one. */
class FakePort extends EventEmitter implements Port {
  other: FakePort | undefined;

  send(message: object, callback: (error: Error | null) => void): boolean {
    const copy: unknown = structuredClone(message);
    setImmediate(() => this.other?.emit("message", copy));
    callback(null);
    return true;
  }
}

function ports(): [FakePort, FakePort] {
  const [here, there] = [new FakePort(), new FakePort()];
  here.other = there;
  there.other = here;
  return [here, there];
}

const handlers = {
  double: (value: number) => value * 2,
  fail(code: "OWNER_BUSY" | "other"): void {
    if (code === "other") throw new TypeError("a defect");
    throw new FamfsError(code, "node b has it", { details: { nodeId: "b" } });
  },
  never: () => new Promise<void>(() => undefined),
};

test("calls are answered, in whatever order", async () => {
  const [here, there] = ports();
  const channel = new Channel<Calls, Record<never, never>>(here, {});
  new Channel<Record<never, never>, Calls>(there, handlers);
  const answers = await Promise.all([1, 2, 3].map((value) => channel.call("double", value, { timeoutMs: 1000 })));
  assert.deepEqual(answers, [2, 4, 6]);
});

test("failures keep their code and details; a defect is INTERNAL", async () => {
  const [here, there] = ports();
  const channel = new Channel<Calls, Record<never, never>>(here, {});
  new Channel<Record<never, never>, Calls>(there, handlers);
  await assert.rejects(channel.call("fail", "OWNER_BUSY", { timeoutMs: 1000 }), {
    code: "OWNER_BUSY",
    message: "node b has it",
    details: { nodeId: "b" },
  });
  await assert.rejects(channel.call("fail", "other", { timeoutMs: 1000 }), { code: "INTERNAL", message: "a defect" });
});

test("a call waits only so long, and not at all for a side that is gone", async () => {
  const [here, there] = ports();
  const channel = new Channel<Calls, Record<never, never>>(here, {});
  new Channel<Record<never, never>, Calls>(there, handlers);
  await assert.rejects(channel.call("never", undefined, { timeoutMs: 5 }), { code: "DEADLINE_EXCEEDED" });
  const open = channel.call("never", undefined, { timeoutMs: 60_000 });
  here.emit("disconnect");
  await assert.rejects(open, { code: "NODE_UNAVAILABLE" });
  await assert.rejects(channel.call("double", 1, { timeoutMs: 60_000 }), { code: "NODE_UNAVAILABLE" });
});
