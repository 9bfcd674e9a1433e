import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { native } from "./index.ts";

const LENGTH = 2 ** 20;
const GUARD = 8192;
const GUARD_LENGTH = 4096;
const LOG = 65536;

let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "famfs-log-"));
});
after(() => rmSync(folder, { recursive: true }));

function open(name: string, writable = true) {
  const fd = openSync(join(folder, name), "w+");
  ftruncateSync(fd, LENGTH);
  const window = native.windowMap(fd, 0, LENGTH, true);
  const expected = Buffer.alloc(GUARD_LENGTH, 0x11);
  native.copyIn(window, GUARD, expected);
  const used = writable ? window : native.windowMap(fd, 0, LENGTH, false);
  const guard = native.guardCreate(used, GUARD, expected, false);
  return {
    fd,
    window: used,
    guard,
    read(offset: number, length: number) {
      const bytes = Buffer.alloc(length);
      native.copyOut(window, offset, bytes);
      return bytes;
    },
    /** What another owner does. */
    disturb: () => native.copyIn(window, GUARD + GUARD_LENGTH - 1, Uint8Array.of(0x12)),
    [Symbol.dispose]() {
      native.guardDestroy(guard);
      native.windowUnmap(window);
      if (used !== window) native.windowUnmap(used);
      closeSync(fd);
    },
  };
}

const fails = (code: string, call: () => unknown) => assert.throws(call, { code });

describe("a guard", () => {
  for (const invalidate of [false, true]) {
    it(`holds while the memory is the same, to the last byte${invalidate ? " (caches dropped)" : ""}`, () => {
      using log = open(`holds-${invalidate}`);
      const bytes = log.read(GUARD, GUARD_LENGTH);
      const guard = native.guardCreate(log.window, GUARD, bytes, invalidate);
      assert.ok(native.guardHolds(guard));
      log.disturb();
      assert.equal(native.guardHolds(guard), false);
      native.guardUpdate(guard, log.read(GUARD, GUARD_LENGTH));
      assert.ok(native.guardHolds(guard));
      native.guardDestroy(guard);
      fails("EBADF", () => native.guardHolds(guard));
    });
  }

  it("is refused outside its window, empty, or with another length", () => {
    using log = open("refused");
    fails("ERANGE", () => native.guardCreate(log.window, LENGTH - 10, new Uint8Array(11), false));
    fails("EINVAL", () => native.guardCreate(log.window, 0, new Uint8Array(0), false));
    fails("EBADF", () => native.guardCreate(0, 0, new Uint8Array(1), false));
    fails("EINVAL", () => native.guardUpdate(log.guard, new Uint8Array(GUARD_LENGTH - 1)));
    fails("EBADF", () => native.guardUpdate(0, new Uint8Array(1)));
    fails("EBADF", () => native.guardDestroy(0));
    assert.ok(native.guardHolds(0), "0 is no guard");
  });

  it("does not hold for a window that was closed, and its number does not come back", () => {
    using log = open("closed");
    const window = native.windowMap(log.fd, 0, LENGTH, false);
    const guard = native.guardCreate(window, 0, new Uint8Array(64), false);
    native.windowUnmap(window);
    fails("EBADF", () => native.guardHolds(guard));
    native.guardDestroy(guard);
    for (let round = 0; round < 3000; round++) {
      const other = native.guardCreate(log.window, 0, new Uint8Array(64), false);
      assert.notEqual(other, guard);
      native.guardDestroy(other);
    }
  });

  it("reports a memory error as EIO", () => {
    using log = open("guard-eio");
    ftruncateSync(log.fd, 0);
    fails("EIO", () => native.guardHolds(log.guard));
    ftruncateSync(log.fd, LENGTH);
  });
});

const LOOK = [0, 0, 0, 0];
const FENCE = [4, 0, 0, 0];
const store = (at: number, from: number, length: number) => [1, at, from, length];
const store64 = (at: number, value: number) => [2, at, value, 0];
const storePair = (at: number, value: number) => [5, at, value, 0];
const flush = (at: number, length: number) => [3, at, length, 0];
const run = (on: { window: number; guard: number }, steps: number[][], bytes = new Uint8Array(0)) =>
  native.planRun(on.window, on.guard, Float64Array.from(steps.flat()), bytes);

describe("a plan", () => {
  it("stores what its steps say, nothing else", () => {
    using log = open("plan");
    const bytes = Buffer.from(Array.from({ length: 300 }, (_, at) => (at * 31) & 0xff));
    const steps = [
      LOOK,
      store(LOG + 48, 100, 200),
      flush(LOG + 48, 200),
      FENCE,
      store64(LOG + 40, 2 ** 40 + 3),
      storePair(LOG, 9),
      LOOK,
    ];
    assert.equal(run(log, steps, bytes), steps.length);
    const expected = Buffer.alloc(400);
    bytes.copy(expected, 48, 100, 300);
    expected.writeBigUInt64LE(2n ** 40n + 3n, 40);
    for (const at of [0, 8]) expected.writeBigUInt64LE(9n, at);
    assert.ok(log.read(LOG, 400).equals(expected));
  });

  it("ends at a look that fails: the first, or one whose guard changed on the way", () => {
    using log = open("looks");
    // A guard over a counter fails exactly between two looks.
    const guard = native.guardCreate(log.window, LOG, Buffer.alloc(8), false);
    const steps = [LOOK, store64(LOG, 7), FENCE, LOOK, store64(LOG + 8, 7)];
    assert.equal(run({ ...log, guard }, steps), 3);
    assert.deepEqual([native.load64(log.window, LOG), native.load64(log.window, LOG + 8)], [7n, 0n]);
    assert.equal(run({ ...log, guard }, steps), 0);
    native.guardDestroy(guard);
  });

  it("refuses steps outside the window or the bytes, odd places and numbers that are none", () => {
    using log = open("bad");
    fails("ERANGE", () => run(log, [store(LENGTH - 10, 0, 11)], new Uint8Array(11)));
    fails("ERANGE", () => run(log, [store(LOG, 1, 10)], new Uint8Array(10)));
    fails("ERANGE", () => run(log, [store(LOG, 2 ** 52, 2 ** 52)], new Uint8Array(10)));
    fails("ERANGE", () => run(log, [store64(LENGTH, 1)]));
    fails("EINVAL", () => run(log, [store64(LOG + 4, 1)]));
    fails("EINVAL", () => run(log, [storePair(LOG + 8, 1)]));
    fails("EINVAL", () => run(log, [[6, 0, 0, 0]]));
    fails("EINVAL", () => native.planRun(log.window, log.guard, new Float64Array(3), new Uint8Array(0)));
    for (const odd of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
      fails("ERANGE", () => run(log, [store64(LOG, odd)]));
    }
    fails("EBADF", () => run({ ...log, guard: 4242 }, [LOOK]));
    fails("EBADF", () => run({ ...log, window: 0 }, [store64(LOG, 1)]));
    assert.ok(log.read(LOG, 4096).every((byte) => byte === 0));
  });

  it("through a read-only window is EROFS", () => {
    using log = open("readonly", false);
    fails("EROFS", () => run(log, [store64(LOG, 1)]));
  });

  it("says how far it came when the memory fails", () => {
    using log = open("plan-eio");
    ftruncateSync(log.fd, LOG);
    const steps = [store64(GUARD - 8, 1), LOOK, store64(LOG + 4096, 1)];
    assert.throws(() => run(log, steps), { code: "EIO", done: 2 });
    ftruncateSync(log.fd, LENGTH);
  });
});

describe("the data of a write", () => {
  const segments = (...pairs: number[]) => Float64Array.from(pairs);

  it("is not stored when the guard does not hold before", () => {
    using log = open("write-before");
    log.disturb();
    const errno = native.fuseCopyIn(log.guard, log.window, segments(LOG, 100), 1, new Uint8Array(100).fill(1), 0);
    assert.equal(errno, constants.errno.ESTALE);
    assert.ok(log.read(LOG, 100).every((byte) => byte === 0));
  });

  it("is not acknowledged when the guard stops to hold meanwhile, and ends at the next 64 KiB", () => {
    using log = open("write-after");
    const length = 3 * 65536;
    // What the write itself stores makes this guard fail, as a claim of another node does.
    for (const [at, stored] of [
      [0, 65536],
      [65536, 2 * 65536],
      [length - 1, length],
    ] as const) {
      native.zero(log.window, LOG, length);
      const guard = native.guardCreate(log.window, LOG + at, new Uint8Array(1), false);
      const pieces = segments(LOG, 1000, LOG + 1000, length - 1000);
      const errno = native.fuseCopyIn(guard, log.window, pieces, 2, new Uint8Array(length).fill(1), 0);
      assert.equal(errno, constants.errno.ECANCELED);
      assert.equal(log.read(LOG, length).lastIndexOf(1) + 1, stored);
      native.guardDestroy(guard);
    }
  });

  it("of a guard that was given up is stale", () => {
    using log = open("write-gone");
    const guard = native.guardCreate(log.window, LOG, new Uint8Array(1), false);
    native.guardDestroy(guard);
    const errno = native.fuseCopyIn(guard, log.window, segments(LOG, 100), 1, new Uint8Array(100), 0);
    assert.equal(errno, constants.errno.ESTALE);
  });
});
