/** What the addon does with a plan is what the protocol's steps say: the same plans, both ways, in every situation. */
import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { native } from "../../../native/index.ts";
import {
  type Claim,
  encodeClaimLine,
  encodeEntries,
  encodeIdentity,
  inspectClaimLines,
  type LogEntry,
} from "../../format/index.ts";
import { Window } from "../window.ts";
import { perform, performPlan } from "./perform.ts";
import { appendPlan, carryOut, changePlan, dataPlan, type OwnedLog, type Term } from "./protocol.ts";
import type { Plan } from "./steps.ts";

const GUARD = 64 * 2;
const LENGTH = 1 << 20;

const log: OwnedLog = {
  name: "test",
  identity: { volumeUuid: "00112233-4455-6677-8899-aabbccddee00", generation: 1, layout: 2, slots: 512 },
  guardAt: 0,
  guardLength: GUARD,
  claims: {
    at: 128,
    length: 128,
    inspect: inspectClaimLines,
    ofSlot: (slot) => 64 * (2 + slot),
    encode: encodeClaimLine,
  },
  lines: undefined,
  countersAt: 8192 + 32,
  entryAt: (index) => 8192 + 48 + index * 544,
  entries: 100,
  entrySize: 544,
  run: 11,
  encode: encodeEntries,
  ring: {
    counterAt: () => 4096,
    changeAt: (_slot, sequence) => 4160 + (sequence % 7) * 64,
    former: () => undefined,
    begin: () => ({ next: 0, stores: [], whole: true }),
  },
};
const claim: Claim = { ballot: { order: 0, round: 3, slot: 0 }, nonce: "11".repeat(16), released: false };
const other = (round: number, released: boolean) =>
  encodeClaimLine({ ...claim, ballot: { order: 0, round, slot: 1 }, released });
const directory = (path: string): LogEntry => ({ type: "mkdir", path, uid: 0, gid: 0, mode: 0o755 });

/** What another node has done to the claims since this one judged them. */
const SITUATIONS: readonly [string, Uint8Array | undefined][] = [
  ["nothing", undefined],
  ["a later claim", other(4, false)],
  ["a later claim that was released", other(4, true)],
];

const PLANS: readonly [string, (term: Term) => Plan][] = [
  ["one entry", () => appendPlan(log, 5, encodeEntries(5, [directory("a")]))],
  ["eight entries", () => appendPlan(log, 7, encodeEntries(7, "abcdefgh".split("").map(directory)))],
  ["data", () => dataPlan(300_000, new Uint8Array(65536).fill(9))],
  ["a change", (term) => changePlan(term, { file: 3, generation: 4, mtime: { seconds: 5, nanoseconds: 6 } })],
];

for (const [what, planOf] of PLANS) {
  for (const [situation, claims] of SITUATIONS) {
    test(`${what}, after ${situation}: the addon stores and answers what the steps say`, async () => {
      const outcomes = await Promise.all([true, false].map((inAddon) => outcome(planOf, claims, inAddon)));
      assert.deepEqual(outcomes[0]?.failed, outcomes[1]?.failed);
      assert.equal(outcomes[0]?.failed, claims === undefined ? undefined : 0);
      assert.equal(Buffer.compare(outcomes[0]?.memory ?? Buffer.alloc(0), outcomes[1]?.memory ?? Buffer.alloc(1)), 0);
    });
  }
}

async function outcome(planOf: (term: Term) => Plan, claims: Uint8Array | undefined, inAddon: boolean) {
  const folder = mkdtempSync(join(tmpdir(), "famfs-perform-"));
  const fd = openSync(join(folder, "memory"), "w+");
  try {
    ftruncateSync(fd, LENGTH);
    await using window = Window.map(
      fd,
      { offset: 0, length: LENGTH },
      { writable: true, what: "test memory", through: "nothing" },
    );
    window.copyIn(0, encodeIdentity(log.identity));
    window.copyIn(log.claims.ofSlot(0), encodeClaimLine(claim));
    window.copyIn(log.claims.ofSlot(1), other(2, true));
    const term: Term = { log, claim, expected: window.read(0, GUARD), changes: 9 };
    const guard = native.guardCreate(window.id, 0, term.expected, false);
    if (claims !== undefined) {
      window.copyIn(log.claims.ofSlot(1), claims);
      window.copyIn(64, new Uint8Array(64).fill(1)); // rung by whoever claims
    }
    const plan = planOf(term);
    const failed = inAddon
      ? performPlan(plan, guard, window)
      : perform(carryOut(term, plan), { window, coherent: true, findEnd: () => ({ end: 0 }) });
    native.guardDestroy(guard);
    return { failed, memory: window.read(0, LENGTH) };
  } finally {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
}
