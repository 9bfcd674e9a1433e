import assert from "node:assert/strict";
import { test } from "node:test";
import { EventThrottle } from "./event-throttle.ts";

function throttle() {
  let now = 0;
  const subject = new EventThrottle(() => now);
  return {
    pass(minutes: number) {
      now += minutes * 60_000;
    },
    admit: (key: string, text: string) => subject.admit(key, text),
  };
}

test("what is noticed every second is told once, and then how often, once a minute", () => {
  const t = throttle();
  const verdicts = Array.from({ length: 181 }, () => {
    const verdict = t.admit("Died v1", "it died");
    t.pass(1 / 60);
    return verdict;
  });
  assert.deepEqual(
    verdicts.filter(({ type }) => type !== "counted"),
    [{ type: "first" }, { type: "again", count: 61 }, { type: "again", count: 121 }, { type: "again", count: 181 }],
  );
});

test("after ten quiet minutes it is news again; other objects have nothing to do with it", () => {
  const t = throttle();
  assert.deepEqual(t.admit("Died v1", "it died"), { type: "first" });
  assert.deepEqual(t.admit("Died v2", "it died"), { type: "first" });
  t.pass(9);
  assert.deepEqual(t.admit("Died v1", "it died"), { type: "again", count: 2 });
  t.pass(10.5);
  assert.deepEqual(t.admit("Died v1", "it died"), { type: "first" });
});

test("another text is news, but only so many of them in a short time", () => {
  const t = throttle();
  const types = (from: number, count: number) =>
    Array.from({ length: count }, (_, index) => t.admit("Group v1", `group ${from + index}`).type);
  assert.deepEqual(types(0, 7), ["first", "first", "first", "first", "first", "dropped", "dropped"]);
  t.pass(2);
  assert.deepEqual(types(10, 3), ["first", "first", "dropped"]);
});

test("of a great many keys the oldest are forgotten", () => {
  const t = throttle();
  t.admit("first", "text");
  for (let index = 0; index < 1_000; index++) t.admit(`key ${index}`, "text");
  assert.deepEqual(t.admit("key 999", "text"), { type: "counted" });
  assert.deepEqual(t.admit("first", "text"), { type: "first" });
});
