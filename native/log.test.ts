import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { native } from "./index.ts";

const LENGTH = 2 ** 20;
const GUARD = 8192;
const GUARD_LENGTH = 4096;
const LOG = 65536;
const ENTRY = 544;

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
const entries = (count: number) => Buffer.from(Array.from({ length: count * ENTRY }, (_, at) => (at * 31) & 0xff));

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

describe("append", () => {
  it("stores the entries and both counters, nothing else", () => {
    using log = open("append");
    const bytes = entries(3);
    assert.equal(native.logAppend(log.window, LOG, log.guard, 5, bytes), "appended");
    const found = log.read(LOG, 48 + 9 * ENTRY);
    const expected = Buffer.alloc(found.length);
    expected.writeBigUInt64LE(8n, 32);
    expected.writeBigUInt64LE(8n, 40);
    bytes.copy(expected, 48 + 5 * ENTRY);
    assert.ok(found.equals(expected));
  });

  it("stores the first entry of a transaction last, so that a part of it is never valid", () => {
    using log = open("half");
    const index = Math.floor((4096 - 48) / ENTRY) - 1; // the entry after it does not fit on the first page
    ftruncateSync(log.fd, LOG + 4096);
    fails("EIO", () => native.logAppend(log.window, LOG, log.guard, index, entries(2)));
    const first = log.read(LOG + 48 + index * ENTRY, ENTRY);
    assert.ok(first.every((byte) => byte === 0));
    ftruncateSync(log.fd, LENGTH);
  });

  it("by a stale owner writes nothing", () => {
    using log = open("stale");
    log.disturb();
    assert.equal(native.logAppend(log.window, LOG, log.guard, 0, entries(1)), "stale");
    assert.ok(log.read(LOG, 4096).every((byte) => byte === 0));
  });

  it("is unknown when the owner became stale on the way", () => {
    using log = open("unknown");
    // A guard over the counters fails exactly between the first check and the second.
    const guard = native.guardCreate(log.window, LOG, Buffer.alloc(48), false);
    assert.equal(native.logAppend(log.window, LOG, guard, 0, entries(1)), "unknown");
    assert.equal(native.load64(log.window, LOG + 40), 1n);
    native.guardDestroy(guard);
  });

  it("refuses a range outside the window, halves of entries and odd places", () => {
    using log = open("bad");
    const last = Math.floor((LENGTH - LOG - 48) / ENTRY) - 1;
    assert.equal(native.logAppend(log.window, LOG, log.guard, last, entries(1)), "appended");
    fails("ERANGE", () => native.logAppend(log.window, LOG, log.guard, last, entries(2)));
    fails("ERANGE", () => native.logAppend(log.window, LOG, log.guard, Number.MAX_SAFE_INTEGER, entries(1)));
    fails("ERANGE", () => native.logAppend(log.window, 2 ** 52, log.guard, 0, entries(1)));
    fails("EINVAL", () => native.logAppend(log.window, LOG, log.guard, 0, new Uint8Array(543)));
    fails("EINVAL", () => native.logAppend(log.window, LOG, log.guard, 0, new Uint8Array(0)));
    fails("EINVAL", () => native.logAppend(log.window, LOG + 8, log.guard, 0, entries(1)));
    fails("EBADF", () => native.logAppend(log.window, LOG, 4242, 0, entries(1)));
    fails("EBADF", () => native.logAppend(0, LOG, log.guard, 0, entries(1)));
  });

  it("through a read-only window is EROFS", () => {
    using log = open("readonly", false);
    fails("EROFS", () => native.logAppend(log.window, LOG, log.guard, 0, entries(1)));
  });

  it("onto memory that fails throws EIO and publishes nothing", () => {
    using log = open("append-eio");
    ftruncateSync(log.fd, LOG + 4096);
    fails("EIO", () => native.logAppend(log.window, LOG, log.guard, 7, entries(1)));
    assert.equal(native.load64(log.window, LOG + 40), 0n);
    ftruncateSync(log.fd, LENGTH);
  });
});
