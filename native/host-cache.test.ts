import assert from "node:assert/strict";
import { ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { native, THROUGH, type Through } from "./index.ts";

const LENGTH = 4 * 2 ** 20;
const LINE = 64;

/** Windows of hosts on one file. */
function hosts() {
  const folder = mkdtempSync(join(tmpdir(), "famfs-hosts-"));
  const fd = openSync(join(folder, "memory"), "w+");
  rmSync(folder, { recursive: true });
  ftruncateSync(fd, LENGTH);
  return {
    fd,
    window: (host?: string, through: Through = THROUGH.nothing) => native.windowMap(fd, 0, LENGTH, true, through, host),
  };
}

const text = (window: number, offset: number, length: number) => {
  const bytes = Buffer.alloc(length);
  native.copyOut(window, offset, bytes);
  return bytes.toString("latin1");
};
const put = (window: number, offset: number, data: string) => native.copyIn(window, offset, Buffer.from(data));
/** As the data of a WRITE is stored. */
const write = (window: number, offset: number, data: string) => {
  const bytes = Buffer.from(data);
  assert.equal(native.fuseCopyIn(0, window, Float64Array.of(offset, bytes.length), 1, bytes, 0), 0);
};

test("a store is hidden until it is written back, and from who has loaded the line until that is invalidated", () => {
  const { window } = hosts();
  const [a, b, memory] = [window("a"), window("b"), window()];
  assert.equal(text(b, 0, 3), "\0\0\0");
  put(a, 0, "new");
  assert.equal(text(a, 0, 3), "new");
  assert.equal(text(memory, 0, 3), "\0\0\0");
  native.flush(a, 0, 1);
  assert.equal(text(memory, 0, 3), "new");
  assert.equal(text(b, 0, 3), "\0\0\0");
  native.invalidate(b, 2, 1);
  assert.equal(text(b, 0, 3), "new");
});

test("lines are what moves: a clean one is not written back, a dirty one as a whole", () => {
  const { window } = hosts();
  const [a, b, memory] = [window("a"), window("b"), window()];
  put(memory, 0, "before");
  assert.equal(text(a, 0, 6), "before");
  put(memory, 0, "after!");
  native.flush(a, 0, LENGTH);
  assert.equal(text(memory, 0, 6), "after!");
  put(a, LINE - 1, "xy");
  put(b, LINE + 1, "z");
  native.flush(a, LINE, 1);
  assert.equal(text(memory, 0, 6) + text(memory, LINE - 1, 3), "after!\0y\0");
  native.invalidate(b, LINE, 1);
  assert.equal(text(memory, LINE, 2), "\0z", "a stale line that is dirty covers what others wrote beside it");
});

test("durable stores, zeroing and counters are in the memory at once", async () => {
  const { window } = hosts();
  const [a, memory] = [window("a"), window()];
  native.copyInDurable(a, 100, Buffer.from("durable"));
  assert.equal(text(memory, 100, 7), "durable");
  native.zero(a, 100, 3);
  assert.equal(text(memory, 100, 7), "\0\0\0able");
  await native.zeroRange(a, 103, 3);
  assert.equal(text(memory, 100, 7), "\0\0\0\0\0\0e");
  native.store64(a, 8, 7n);
  assert.equal(native.load64(memory, 8), 0n);
  native.flush(a, 8, 8);
  assert.equal(native.load64(memory, 8), 7n);
});

test("windows of one host share its caches, also one after the other", () => {
  const { window, fd } = hosts();
  const first = window("a");
  put(first, 4096, "mine");
  native.windowUnmap(first);
  assert.equal(text(window("a"), 4096, 4), "mine");
  const part = native.windowMap(fd, 4096, 4096, false, THROUGH.nothing, "a");
  assert.equal(text(part, 0, 4), "mine");
  assert.equal(text(window("b"), 4096, 4), "\0\0\0\0");
  assert.throws(() => native.windowMap(fd, 4096, LENGTH, false, THROUGH.nothing, "a"), { code: "EINVAL" });
  assert.throws(() => window("a".repeat(32)), { code: "EINVAL" });
  assert.throws(() => window("a", 3 as Through), { code: "EINVAL" });
});

test("the data of a WRITE goes past caches that do not agree, and past nothing else", () => {
  const { window } = hosts();
  const memory = window();
  write(window("a"), 0, "kept back");
  assert.equal(text(memory, 0, 9), "\0".repeat(9));
  for (const through of [THROUGH.stores, THROUGH.all]) {
    const data = `${through}`.repeat(5000);
    write(window("b", through), 1001, data);
    assert.equal(text(memory, 1000, 5002), `\0${data}\0`);
  }
});

test("where any node may write, a load sees what others have stored, and a store covers nothing beside it", () => {
  const { window } = hosts();
  const [a, b] = [window("a", THROUGH.all), window("b", THROUGH.all)];
  assert.equal(text(b, 0, 4), "\0\0\0\0");
  write(a, 0, "ab");
  assert.equal(text(b, 0, 4), "ab\0\0");
  write(a, LINE - 1, "c");
  write(b, LINE - 2, "d");
  assert.equal(text(a, LINE - 2, 2), "dc", "in the first line of the store");
  write(a, 2 * LINE - 8, "g");
  write(a, 3 * LINE - 1, "e");
  write(b, 2 * LINE - 4, "f".repeat(LINE));
  assert.equal(text(a, 3 * LINE - 4, 4), "\0\0\0e", "in the last line of the store");
  assert.equal(text(a, 2 * LINE - 8, 4 + LINE), `g\0\0\0${"f".repeat(LINE)}`, "in the first one, too");
});

test("memory that does not answer is EIO", () => {
  const { window, fd } = hosts();
  const a = window("a");
  put(a, 0, "dirty");
  ftruncateSync(fd, 0);
  assert.throws(() => text(a, 8192, 1), { code: "EIO" });
  assert.throws(() => native.flush(a, 0, 1), { code: "EIO" });
  assert.throws(() => native.invalidate(a, 0, 1), { code: "EIO" });
  assert.equal(text(a, 0, 5), "dirty");
});
