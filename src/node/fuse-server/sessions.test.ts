import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLogger } from "../../base/index.ts";
import { eventually } from "../testing/fixtures.ts";
import type { VolumeAttachment } from "./messages.ts";
import { monotonicMs, Sessions, type VolumeServer } from "./sessions.ts";

/** A session of a volume of which only stalling is of interest. */
async function session() {
  const stalls: boolean[] = [];
  const server = {
    setStalled: (stalled: boolean) => void stalls.push(stalled),
    abandon: () => undefined,
    seal: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  } as unknown as VolumeServer;
  const sessions = new Sessions({
    serve: async () => server,
    receive: () => ({ descriptor: -1, tag: 1 }),
    ready: async () => undefined,
    logger: silentLogger,
  });
  const { handlers } = sessions;
  await handlers.attach({ volumeId: "v", tag: 1 } as VolumeAttachment);
  return {
    sessions,
    stalls,
    lease: (goodUntilMs: number | undefined) => handlers.lease({ volumeId: "v", goodUntilMs }),
  };
}

test("a server whose plugin says no more stops its writers by itself when the lease is about to run out", async () => {
  const { stalls, lease } = await session();
  await lease(monotonicMs() + 20);
  await eventually("stalled", () => stalls.at(-1));
  assert.deepEqual(stalls, [false, true]);
});

test("a later word counts, and no word at all stops them at once", async () => {
  const { sessions, stalls, lease } = await session();
  await lease(monotonicMs() + 3_600_000);
  await lease(undefined);
  await lease(monotonicMs() + 3_600_000);
  assert.deepEqual(stalls, [false, true, false]);
  await lease(monotonicMs() - 1);
  assert.equal(stalls.at(-1), true);
  await sessions[Symbol.asyncDispose]();
});
