import assert from "node:assert/strict";
import test from "node:test";
import { setImmediate as tick } from "node:timers/promises";
import fc from "fast-check";
import { cases } from "../../test/support/cases.ts";
import { OPCODES, type Opcode } from "./opcode.ts";
import { parseRequest } from "./request.ts";
import { FakeKernel, request } from "./testing/fake-kernel.ts";
import { ScratchFileSystem } from "./testing/scratch-file-system.ts";

const names = Object.keys(OPCODES) as Opcode[];

/** Requests from plausible to nonsense: a known opcode, its fixed part with random bytes, names, and then some. */
const hostile = fc
  .record({
    name: fc.constantFrom(...names),
    fixed: fc.uint8Array({ minLength: 96, maxLength: 96 }),
    zeroed: fc.boolean(), // small numbers get further than random ones
    texts: fc.array(fc.string({ minLength: 0, maxLength: 20 }), { maxLength: 3 }),
    tail: fc.uint8Array({ maxLength: 40 }),
    cut: fc.integer({ min: 0, max: 60 }),
    nodeid: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.maxSafeNat()),
  })
  .map(({ name, fixed, zeroed, texts, tail, cut, nodeid }) => {
    const row = OPCODES[name];
    const head = fixed.slice(0, row.in?.size ?? 0);
    if (zeroed) head.fill(0);
    const parts = [head, ...texts.slice(0, 3), tail];
    const whole = request(row.opcode, 100n, nodeid, parts);
    return cut > 40 ? whole.slice(0, Math.max(0, whole.byteLength - cut)) : whole;
  });

test("parsing never throws and never reads beyond the request", () => {
  fc.assert(
    fc.property(fc.oneof(hostile, fc.uint8Array({ maxLength: 300 })), (bytes) => {
      const parsed = parseRequest(bytes);
      if ("refused" in parsed) return;
      assert.ok(parsed.bytes.byteLength >= (parsed.row.in?.size ?? 0));
      assert.equal(parsed.names.length, parsed.row.names);
      assert.ok(parsed.dataAt <= parsed.bytes.byteLength);
      for (const name of parsed.names) assert.ok(name.length > 0 && !name.includes("\0"));
    }),
    cases(2000),
  );
});

test("whatever arrives, each request gets at most one well-formed answer and the session goes on", async () => {
  let files: ScratchFileSystem | undefined;
  const kernel = new FakeKernel((maps) => {
    files = new ScratchFileSystem(maps, { sizeBytes: 1 << 22 });
    return files;
  });
  kernel.init();
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(hostile, { minLength: 1, maxLength: 5 }), async (requests) => {
        for (const bytes of requests) {
          kernel.replies.clear();
          kernel.session.receive(bytes); // FakeKernel throws for a reply the kernel would refuse
          await tick();
        }
        kernel.replies.clear();
        assert.equal(kernel.answered(kernel.send("STATFS", 1)).errno, 0);
      }),
      cases(300),
    );
  } finally {
    files?.[Symbol.dispose]();
  }
});
