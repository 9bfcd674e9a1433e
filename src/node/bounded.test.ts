import assert from "node:assert/strict";
import { test } from "node:test";
import { bounded } from "./bounded.ts";

test("a call that answers in time gives its value or its failure", async () => {
  assert.equal(await bounded(Promise.resolve(7), { what: "x", timeoutMs: 1000 }), 7);
  await assert.rejects(bounded(Promise.reject(new Error("no")), { what: "x", timeoutMs: 1000 }), { message: "no" });
});

test("a call that does not answer is DEADLINE_EXCEEDED, and what it brings later is taken back", async () => {
  const call = Promise.withResolvers<string>();
  const late = Promise.withResolvers<string>();
  const waited = bounded(call.promise, { what: "mount of /m", timeoutMs: 5, late: late.resolve });
  await assert.rejects(waited, { code: "DEADLINE_EXCEEDED", message: "mount of /m: no answer within 5 ms" });
  call.resolve("a mount");
  assert.equal(await late.promise, "a mount");
});

test("a caller that gives up gets CANCELLED at once", async () => {
  const controller = new AbortController();
  const never = new Promise<void>(() => undefined);
  const waited = bounded(never, { what: "x", timeoutMs: 60_000, signal: controller.signal });
  controller.abort();
  await assert.rejects(waited, { code: "CANCELLED" });
  await assert.rejects(bounded(never, { what: "x", timeoutMs: 60_000, signal: controller.signal }), {
    code: "CANCELLED",
  });
});
