/** The checker itself: each kind of harm is reported, and what faults and races allow is not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { check } from "./checker.ts";
import { BLOCKS } from "./content.ts";
import { judgeErrors } from "./errors.ts";
import {
  ABSENT,
  type Effect,
  type Fault,
  type Kind,
  type Operation,
  PRESENT,
  type Seen,
  type Session,
} from "./history.ts";

const SECOND = 1000;

interface Step {
  readonly by: string;
  readonly kind: Kind;
  readonly at: readonly [number, number];
  readonly target?: string;
  readonly effects?: readonly Effect[];
  readonly seen?: readonly Seen[];
  readonly errno?: string;
  readonly outcome?: Operation["outcome"];
  readonly session?: Session;
  readonly synced?: string;
}

/** Client "a1" is of node "a". */
function operation({ by, kind, at: [start, end], errno, outcome, ...rest }: Step): Operation {
  const happened = outcome ?? (errno === undefined ? "done" : "refused");
  const defaults = { target: "d/f", effects: [], seen: [], stepStart: start };
  const failure = errno === undefined ? {} : { errno, step: kind };
  return { client: by, node: by.slice(0, 1), kind, start, end, outcome: happened, ...defaults, ...failure, ...rest };
}

const made = (register: string, value: string | null): Effect => ({ register, value });
const whole = (version: string) => Array.from({ length: BLOCKS }, () => version);

function put(by: string, version: string, at: readonly [number, number], name = "d/f"): Operation {
  return operation({ by, kind: "create", at, effects: [made(name, version)] });
}

function read(by: string, version: string | null, at: readonly [number, number], more: Partial<Seen> = {}): Operation {
  const blocks = version === ABSENT ? {} : { blocks: whole(version) };
  return operation({
    by,
    kind: "read",
    at,
    seen: [{ register: "d/f", value: version, current: false, ...blocks, ...more }],
  });
}

const sync = (by: string, at: readonly [number, number]) =>
  operation({ by, kind: "fsync directory", at, target: "d", synced: "d" });

const fault = (node: string, kind: Fault["kind"], start: number, end: number): Fault => ({ node, kind, start, end });

function reported(operations: readonly Operation[], faults: readonly Fault[] = []): string[] {
  return check({ operations, faults }).map(({ what }) => what);
}

const fine = (operations: readonly Operation[], faults: readonly Fault[] = []) =>
  assert.deepEqual(reported(operations, faults), []);

function wrong(pattern: RegExp, operations: readonly Operation[], faults: readonly Fault[] = []): void {
  const found = reported(operations, faults);
  assert.ok(
    found.some((what) => pattern.test(what)),
    `${pattern} is not among ${JSON.stringify(found)}`,
  );
}

test("an acknowledged write that is lost is reported, by who looks with the right to write at once", () => {
  const before = [put("a1", "v1", [0, 10]), put("a1", "v2", [20, 30])];
  wrong(/saw v1, but since the create of a1/, [...before, read("b1", "v1", [40, 50], { current: true })]);
  fine([...before, read("b1", "v2", [40, 50], { current: true })]);
});

test("another node's reader may be late, but not for long; the writer's own node may not", () => {
  const before = [put("a1", "v1", [0, 10]), put("a1", "v2", [20, 30])];
  fine([...before, read("b1", "v1", [40, 50])]);
  wrong(/saw v1/, [...before, read("b1", "v1", [12 * SECOND, 12 * SECOND + 5])]);
  wrong(/saw v1/, [...before, read("a2", "v1", [40, 50])]);
});

test("what was seen does not go back", () => {
  const writes = [put("a1", "v1", [0, 10]), put("a1", "v2", [20, 30])];
  wrong(/saw v1/, [...writes, read("b1", "v2", [40, 50]), read("b2", "v1", [60, 70])]);
  fine([...writes, read("b1", "v2", [40, 50]), read("c1", "v1", [60, 70])]);
});

test("a killed node may lose what it had not sealed, and nothing that an fsync of the directory made sure of", () => {
  const dead = [fault("a", "kill server", 40, 50)];
  const writes = [put("a1", "v1", [0, 10]), sync("a1", [11, 12]), put("a1", "v2", [20, 30])];
  const later = read("b1", "v1", [60, 70], { current: true });
  fine([...writes, later], dead);
  wrong(/saw v1/, [...writes, sync("a1", [31, 35]), later], dead);
  wrong(/saw v1/, [...writes, read("b1", "v2", [55, 58]), later], dead);
});

test("a short stop loses nothing", () => {
  const writes = [put("a1", "v1", [0, 10]), put("a1", "v2", [20, 30])];
  wrong(/saw v1/, [...writes, read("b1", "v1", [60, 70], { current: true })], [fault("a", "stop node", 40, 50)]);
});

test("a name that was removed does not come back, and one that was renamed is not there twice", () => {
  const removed = operation({ by: "a1", kind: "remove", at: [20, 30], effects: [made("d/f", ABSENT)] });
  wrong(/saw v1, but since the remove/, [put("a1", "v1", [0, 10]), removed, read("a2", "v1", [40, 50])]);
  const renamed = operation({
    by: "a1",
    kind: "rename",
    at: [20, 30],
    effects: [{ register: "d/g", moved: "d/f" }, made("d/f", ABSENT)],
  });
  const both = [put("a1", "v1", [0, 10]), renamed];
  const there = (at: readonly [number, number]) => read("a2", "v1", at, { register: "d/g" });
  fine([...both, there([40, 50]), read("a2", ABSENT, [60, 70])]);
  wrong(/d\/f: saw v1/, [...both, there([40, 50]), read("a2", "v1", [60, 70])]);
  wrong(/d\/g: saw nothing/, [...both, read("a2", ABSENT, [40, 50], { register: "d/g" })]);
  wrong(/d\/g: saw v0/, [put("a1", "v0", [-20, -10]), ...both, read("a2", "v0", [60, 70], { register: "d/g" })]);
});

test("a rename that another node has just done may succeed once more, without any effect", () => {
  const rename = (by: string, at: readonly [number, number], [from, to] = ["d/f", "d/g"]) =>
    operation({
      by,
      kind: "rename",
      at,
      target: `${from} to ${to}`,
      effects: [
        { register: to, moved: from },
        { register: from, value: ABSENT },
      ],
      seen: [{ register: from, value: PRESENT, current: true }],
    });
  const before = [put("a1", "v1", [0, 10]), rename("a1", [20, 30])];
  const there = read("b1", "v1", [60, 70], { register: "d/g" });
  fine([...before, rename("b1", [31, 32]), there]);
  const twice = /d\/f: saw something, but since the rename of a1/;
  wrong(twice, [...before, rename("a2", [31, 32]), there]);
  wrong(twice, [...before, rename("b1", [31, 32], ["d/f", "d/h"])]);
  wrong(twice, [...before, rename("b1", [2 * SECOND, 2 * SECOND + 1])]);
  wrong(/d\/g: saw v0/, [
    put("a1", "v0", [-20, -10]),
    ...before,
    rename("b1", [31, 32]),
    read("b1", "v0", [12 * SECOND, 12 * SECOND + 1], { register: "d/g" }),
  ]);
  const moved = rename("b1", [40, 50], ["d/g", "d/h"]);
  fine([...before, rename("b1", [31, 32]), moved, read("b1", "v1", [60, 70], { register: "d/h" })]);
  wrong(/d\/h: saw nothing/, [
    ...before,
    rename("b1", [31, 32]),
    moved,
    read("b1", ABSENT, [60, 70], { register: "d/h" }),
  ]);
});

test("listings say what is there, and nothing else", () => {
  const list = (names: readonly string[]) =>
    operation({
      by: "a2",
      kind: "list",
      at: [40, 50],
      target: "d",
      seen: [{ register: "d", value: JSON.stringify(names), current: false }],
    });
  const before = put("a1", "v1", [0, 10]);
  fine([before, list(["f"])]);
  wrong(/d\/f: saw nothing/, [before, list([])]);
  wrong(/d\/x is listed, and nobody made it/, [before, list(["f", "x"])]);
});

test("two directories of one name are reported", () => {
  const mkdir = (by: string, id: string, at: readonly [number, number]) =>
    operation({
      by,
      kind: "mkdir",
      at,
      effects: [made("d/m", id)],
      seen: [{ register: "d/m", value: ABSENT, current: true }],
    });
  wrong(/d\/m: saw nothing, but since the mkdir of a1/, [mkdir("a1", "m1", [0, 10]), mkdir("b1", "m2", [20, 30])]);
  fine([mkdir("a1", "m1", [0, 10])]);
});

test("an operation that was refused has no effect", () => {
  const refused = operation({ by: "a1", kind: "create", at: [0, 10], errno: "EAGAIN", effects: [made("d/f", "v1")] });
  wrong(/saw v1, which nobody left there/, [refused, read("a1", "v1", [20, 30])]);
  const unknown = { ...refused, outcome: "unknown" as const };
  fine([unknown, read("a1", "v1", [20, 30])]);
  fine([unknown, read("a1", ABSENT, [20, 30])]);
});

test("bytes of another file, missing bytes and torn blocks are reported", () => {
  const before = put("a1", "v1", [0, 10]);
  const blocks = (list: readonly string[], more: Partial<Seen> = {}) =>
    read("a2", "v1", [40, 50], { blocks: list, ...more });
  wrong(/bytes of several files/, [before, blocks(whole("v1"), { mixed: ["v1", "v0"] })]);
  wrong(/lacks bytes/, [before, blocks(["v1"])]);
  wrong(/lacks bytes/, [before, blocks(["zero", ...whole("v1").slice(1)])]);
  wrong(/mixes writes/, [before, blocks(["torn", ...whole("v1").slice(1)])]);
  wrong(/lacks bytes/, [before, blocks([], { value: PRESENT })]);
});

function update(by: string, at: readonly [number, number], writes: Session["writes"], opened = at[0]): Operation {
  return operation({ by, kind: "update", at, session: { version: "v1", opened, writes } });
}

test("a block that was written in place does not go back", () => {
  const before = [put("a1", "v1", [0, 10]), update("b1", [20, 30], [{ block: 0, id: "w1", start: 22, end: 24 }])];
  const seen = (first: string) => read("b2", "v1", [40, 50], { blocks: [first, ...whole("v1").slice(1)] });
  fine([...before, seen("w1")]);
  wrong(/v1#0: saw v1, but since the update of b1/, [...before, seen("v1")]);
  wrong(/v1#0: saw w9, which nobody left there/, [...before, seen("w9")]);
});

test("two nodes that write one file at a time, and a handle that writes on after ESTALE, are reported", () => {
  const write = (id: string, start: number, errno?: string) => ({
    block: 0,
    id,
    start,
    end: start + 1,
    ...(errno === undefined ? {} : { errno }),
  });
  const slow = (last: ReturnType<typeof write>) => update("a1", [20, 60], [write("w1", 22), last], 21);
  const other = update("b1", [30, 40], [write("w2", 32), write("w3", 36)], 31);
  const before = put("a1", "v1", [0, 10]);
  wrong(/a stale write was accepted/, [before, slow(write("w4", 50)), other]);
  fine([before, slow(write("w4", 50, "ESTALE")), other]);
  wrong(/wrote again after its term was lost/, [
    before,
    update("a1", [20, 60], [write("w1", 22, "ESTALE"), write("w4", 50)], 21),
  ]);
});

test("errors: only the documented ones, after the documented time, and where there is a reason", () => {
  const failed = (errno: string, at: readonly [number, number], kind: Kind = "mkdir") =>
    operation({ by: "a1", kind, at, errno });
  const wrongs = (operations: readonly Operation[], faults: readonly Fault[] = []) =>
    judgeErrors({ operations, faults }).wrong.map(({ what }) => what);
  assert.match(String(wrongs([failed("EIO", [0, 1])])), /^EIO from mkdir/);
  assert.match(String(wrongs([failed("ENOSPC", [0, 1])])), /^ENOSPC/);
  assert.match(String(wrongs([failed("EAGAIN", [0, 1000])])), /after 1000 ms; it may come after 5000 ms/);
  assert.match(String(wrongs([failed("EAGAIN", [0, 5001])])), /1 EAGAIN in 1 operations/);
  assert.match(String(wrongs([failed("ESTALE", [0, 1])])), /lost no term/);
  assert.match(String(wrongs([failed("ENOTCONN", [0, 1])])), /nobody killed/);
  const many = Array.from({ length: 2000 }, (_, at) => put("a1", `v${at}`, [at, at + 1]));
  assert.deepEqual(wrongs([...many, failed("EAGAIN", [0, 5001])]), []);
  assert.deepEqual(wrongs([failed("ESTALE", [30, 31])], [fault("a", "stop node long", 0, 20)]), []);
  assert.match(String(wrongs([failed("ESTALE", [30, 31])], [fault("b", "stop node long", 0, 20)])), /lost no term/);
  assert.deepEqual(wrongs([failed("ENOTCONN", [30, 31])], [fault("a", "kill server", 20, 40)]), []);
  assert.deepEqual(wrongs([failed("EAGAIN", [30, 31])], [fault("b", "stop node", 20, 40)]), []);
});
