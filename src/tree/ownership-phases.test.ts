import assert from "node:assert/strict";
import { test } from "node:test";
import { FamfsError, silentLogger } from "../base/index.ts";
import { Ownership, stale } from "./ownership.ts";
import type { LogWriter, WriterGrant } from "./ports.ts";
import { USER } from "./testing/actions.ts";
import { ManualClock } from "./testing/manual-clock.ts";

const NEVER = AbortSignal.any([]);

const WRITER: LogWriter = {
  guard: 0,
  nextIndex: 0,
  append: () => undefined,
  publishReservations: () => undefined,
  recordChanged: () => undefined,
  foreignReservations: [],
  unknownReservations: [],
  holds: () => true,
};

/** Ownership of nothing, and what it asks of the grant, in order. */
function ownership(
  grant: Partial<WriterGrant> = {},
  catchUp = () => Promise.resolve(),
  yielded: () => void = () => undefined,
  minimumHoldMs = 0,
) {
  const asked: string[] = [];
  const clock = new ManualClock();
  const owner = new Ownership({
    clock,
    logger: silentLogger,
    minimumHoldMs,
    grant: {
      acquire: (options) => {
        asked.push("acquire");
        return grant.acquire?.(options) ?? WRITER;
      },
      release: () => {
        asked.push("release");
        return grant.release?.();
      },
    },
    events: {
      catchUp,
      gained: () => undefined,
      yielding: async () => undefined,
      yielded,
      lost: () => undefined,
      isBusy: () => false,
    },
  });
  return { owner, asked, clock };
}

test("who asks for the grant after the volume was given up does not keep it from being closed", async () => {
  const { owner, asked } = ownership();
  await owner.acquire(1000, NEVER);
  owner.abandon();
  await assert.rejects(owner.acquire(1000, NEVER), { code: "OWNER_STALE" });
  // A loop that waits for nothing would never let the test's own timeout come: it is cut short here.
  const { signal } = new AbortController();
  let looks = 0;
  Object.defineProperty(signal, "aborted", { get: () => ++looks > 100 });
  assert.equal(await owner.handOver({ forced: true, signal }), true);
  assert.ok(looks < 100, `${looks} looks`);
  assert.deepEqual(asked, ["acquire", "release"]);
});

test("after a loss the grant is asked for again only when the old one has been given back", async () => {
  const released = Promise.withResolvers<void>();
  const { owner, asked } = ownership({ release: () => released.promise });
  await owner.acquire(1000, NEVER);
  owner.lose(stale());
  const again = owner.acquire(1000, NEVER);
  await new Promise(setImmediate);
  assert.deepEqual(asked, ["acquire", "release"]);
  assert.equal(await owner.handOver({ forced: false, signal: AbortSignal.any([]) }), true, "nothing is held");
  released.resolve();
  assert.equal(await again, WRITER);
  assert.deepEqual(asked, ["acquire", "release", "acquire"]);
});

test("an operation that takes a while keeps the grant until it has ended", async () => {
  const { owner, asked } = ownership();
  const work = Promise.withResolvers<string>();
  const operation = owner.with(1000, USER, () => work.promise);
  await new Promise(setImmediate);
  const handedOver = owner.handOver({ forced: false, signal: NEVER });
  await new Promise(setImmediate);
  assert.deepEqual(asked, ["acquire"]);
  work.resolve("done");
  assert.equal(await operation, "done");
  assert.equal(await handedOver, true);
  assert.deepEqual(asked, ["acquire", "release"]);
});

test("a release that fails after a failed take-over keeps nobody from trying again", async () => {
  const unreadable = new Error("the log cannot be read");
  let catchUp = () => Promise.reject<void>(unreadable);
  const { owner } = ownership({ release: () => Promise.reject(new Error("no answer")) }, () => catchUp());
  await assert.rejects(owner.acquire(1000, NEVER), unreadable);
  catchUp = () => Promise.resolve();
  assert.equal(await owner.acquire(1000, NEVER), WRITER);
});

test("a hand-over that cannot give back what was reserved, or the grant, ends all the same", async () => {
  const refusal = () => Promise.reject<void>(new Error("no answer"));
  const { owner } = ownership({ release: refusal }, undefined, () => {
    throw new Error("bad memory");
  });
  await owner.acquire(1000, NEVER);
  const handedOver = owner.handOver({ forced: false, signal: AbortSignal.any([]) });
  const waiting = owner.acquire(1000, NEVER); // it waits for the hand-over to end
  assert.equal(await handedOver, true);
  assert.equal(await waiting, WRITER);
});

test("a volume that is closed does not wait for a grant that nobody needs any more", async () => {
  const { owner } = ownership({
    acquire: ({ signal }) => {
      const { promise, reject } = Promise.withResolvers<LogWriter>();
      signal.addEventListener("abort", () => reject(signal.reason));
      return promise;
    },
  });
  const waiting = assert.rejects(owner.acquire(30_000, NEVER), { code: "CANCELLED" });
  const turn = new Promise((resolve) => setImmediate(resolve, "still waiting"));
  assert.equal(await Promise.race([owner.close(), turn]), undefined);
  await waiting;
});

test("a request waits no longer than it may, also for an answer that never comes", async () => {
  const { owner, clock } = ownership({ acquire: () => new Promise(() => undefined) });
  const waiting = assert.rejects(owner.acquire(5000, NEVER), { code: "OWNER_BUSY" });
  await clock.advance(5000);
  await waiting;
});

test("a request that joined one with less time does not fail with it", async () => {
  const late = new FamfsError("DEADLINE_EXCEEDED", "the plugin did not answer");
  const answers = [Promise.withResolvers<LogWriter>(), Promise.withResolvers<LogWriter>()];
  const { owner, clock, asked } = ownership({
    acquire: () => answers[asked.filter((what) => what === "acquire").length - 1]?.promise ?? WRITER,
  });
  const short = assert.rejects(owner.acquire(5000, NEVER), { code: "OWNER_BUSY" });
  const long = owner.acquire(30_000, NEVER);
  await clock.advance(15_000);
  await short;
  answers[0]?.reject(late);
  await clock.advance(1000);
  answers[1]?.resolve(WRITER);
  assert.equal(await long, WRITER);
});

test("a grant that comes when nobody waits any more is kept for the next request", async () => {
  const answer = Promise.withResolvers<LogWriter>();
  const { owner, asked } = ownership({ acquire: () => answer.promise });
  const abort = new AbortController();
  const waiting = assert.rejects(owner.acquire(5000, abort.signal), { code: "CANCELLED" });
  abort.abort(new FamfsError("CANCELLED", "interrupted"));
  await waiting;
  answer.resolve(WRITER);
  assert.equal(await owner.acquire(5000, NEVER), WRITER);
  assert.deepEqual(asked, ["acquire"]);
});

test("the grant is kept for its least time while it is used, and goes at once when it is not", async () => {
  for (const uses of [true, false]) {
    const { owner, clock } = ownership({}, undefined, undefined, 100);
    await owner.acquire(1000, NEVER);
    const startMs = clock.monotonicMs();
    let heldMs: number | undefined;
    const handedOver = owner.handOver({ forced: false, signal: NEVER }).then(() => {
      heldMs = clock.monotonicMs() - startMs;
    });
    for (let passed = 0; passed < 150 && heldMs === undefined; passed += 5) {
      if (uses) void owner.with(1000, USER, () => undefined);
      await clock.advance(5);
    }
    await handedOver;
    assert.equal(heldMs, uses ? 100 : 10);
  }
});
