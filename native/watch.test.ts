import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { native } from "./index.ts";

const SIZE = 65536;

function setUp() {
  const directory = mkdtempSync(join(tmpdir(), "famfs-watch-"));
  const fd = openSync(join(directory, "memory"), "w+");
  ftruncateSync(fd, SIZE);
  const window = native.windowMap(fd, 0, SIZE, true);
  return {
    window,
    fd,
    [Symbol.dispose]() {
      native.windowUnmap(window);
      closeSync(fd);
      rmSync(directory, { recursive: true });
    },
  };
}

/** Watches words 0 and 4096 and counts what it hears. */
function watchOf(window: number, coherent: boolean, echoAt = -1) {
  let heard = 0;
  let wake = () => {};
  const onNews = () => {
    heard++;
    wake();
  };
  const watch = native.watchOpen(window, Float64Array.of(0, 4096), 1, coherent, onNews, echoAt);
  return {
    heard: () => heard,
    news: async () => {
      const before = heard;
      const timer = setInterval(() => {}, 1000); // a watch keeps no event loop alive
      while (heard === before) await new Promise<void>((resolve) => (wake = resolve));
      clearInterval(timer);
    },
    [Symbol.dispose]: () => native.watchClose(watch),
  };
}

for (const coherent of [true, false]) {
  test(`a change of any word is told, once (${coherent ? "coherent" : "past the caches"})`, async () => {
    using memory = setUp();
    using watch = watchOf(memory.window, coherent);
    for (const offset of [0, 4096]) {
      const news = watch.news();
      native.store64(memory.window, offset, 7n);
      await news;
    }
    native.store64(memory.window, 8192, 7n); // nobody watches this one
    await delay(20);
    assert.equal(watch.heard(), 2);
  });
}

for (const coherent of [true, false]) {
  test(`the first word is echoed while JavaScript is busy (${coherent ? "coherent" : "past the caches"})`, async () => {
    using memory = setUp();
    using _watch = watchOf(memory.window, coherent, 8192);
    native.store64(memory.window, 0, 7n);
    for (const until = performance.now() + 5000; performance.now() < until; ) {
      if (native.load64(memory.window, 8192) === 7n) break;
    }
    assert.equal(native.load64(memory.window, 8192), 7n);
  });
}

test("memory that cannot be read any more is told, and so is that it can be again", async () => {
  using memory = setUp();
  using watch = watchOf(memory.window, true);
  const lost = watch.news();
  ftruncateSync(memory.fd, 0);
  await lost;
  const back = watch.news();
  ftruncateSync(memory.fd, SIZE);
  await back;
  assert.equal(watch.heard(), 2);
});

test("nothing is told after a watch was closed, and one of a closed window does no harm", async () => {
  using memory = setUp();
  const watch = watchOf(memory.window, true);
  watch[Symbol.dispose]();
  native.store64(memory.window, 0, 1n);
  const other = setUp();
  using _orphan = watchOf(other.window, true);
  other[Symbol.dispose]();
  await delay(20);
  assert.equal(watch.heard(), 0);
});
