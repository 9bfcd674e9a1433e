/** Turns at the log: nodes that ask, a holder that listens, and one that gives the log away. */
import { ASK_LINE_SIZE, type Ask, encodeAsk, encodeBell, HEARD_OFFSET } from "../../format/index.ts";
import { type AskPlaces, ask, askAgain, handOn, hear, heardBy, waiting, withdraw } from "../ownership/asks.ts";
import { durable, load, type Steps } from "../ownership/steps.ts";
import { type Found, type Host, type Note, type Program, search } from "./search.ts";

const SLOTS = 3;
const BELL = SLOTS * ASK_LINE_SIZE;
/** Stands for the claim of the holder, slot 0: a word that is zero until it is released, then the slot it went to. */
const CLAIM = BELL + 64;
const PLACES: AskPlaces = { asksAt: 0, bellAt: BELL, slots: SLOTS };
const NOBODY = 0xff;
/** The last bell that a node heard that has stopped since. */
const OLD: Ask = { slot: 0, number: 7, ticket: 0 };

const note = (text: string): Note => ({ type: "note", note: text });

function* release(next: Ask | undefined): Steps<void> {
  for (const step of durable(CLAIM, new Uint8Array(64).fill(next?.slot ?? NOBODY))) yield step;
}

/** Gives the log to the first one that it hears of; otherwise it says at which bell it sleeps. */
const holder =
  (listens: number): Program =>
  () =>
    (function* () {
      let last = 0n;
      for (let time = 0; time < listens; time++) {
        const { bell, asks } = yield* hear(PLACES, last);
        last = bell;
        if (asks === undefined) continue;
        if (asks.length > 0) {
          const { next } = yield* handOn(PLACES, 0, release);
          yield note(`gives to ${next?.slot}`);
          return;
        }
        yield note(`sleeps at ${bell}`);
      }
    })() as never;

const waiter =
  (slot: number, { withdraws = false, asksAgain = false, anew = false } = {}): Program =>
  () =>
    (function* () {
      for (const other of yield* waiting(PLACES)) yield note(`${slot} saw ${other.slot}`);
      if (anew) yield* withdraw(PLACES, yield* ask(PLACES, slot));
      const asked = yield* ask(PLACES, slot);
      if (asksAgain) yield* askAgain(PLACES, asked);
      if (withdraws) yield* withdraw(PLACES, asked);
      else yield note(`${slot} waits`);
    })() as never;

/** Asks, and then sleeps whenever it has heard a bell and found the log not given to it. */
const receiver =
  (slot: number, listens: number): Program =>
  () =>
    (function* () {
      yield* ask(PLACES, slot);
      let last = 0n;
      for (let time = 0; time < listens; time++) {
        const { bell, asks } = yield* hear(PLACES, last);
        last = bell;
        if (asks === undefined) continue;
        const [given] = yield* load(CLAIM, 1);
        if (given === slot) return;
        yield note(`${slot} sleeps at ${bell}`);
      }
    })() as never;

/** Asks, and judges whether slot 0 lives. */
const doubter =
  (slot: number): Program =>
  () =>
    (function* () {
      const before = yield* heardBy(PLACES, 0);
      yield* ask(PLACES, slot);
      if ((yield* heardBy(PLACES, 0)) !== before) yield note("lives");
    })() as never;

/** What the thread that watches the bell does (native/watch.c). */
const listener: Program = () =>
  (function* () {
    let last = encodeBell(OLD);
    for (let time = 0; time < 2; time++) {
      const bell = Buffer.from(yield* load(BELL, 8)).readBigUInt64LE(0);
      if (bell === last) continue;
      yield { type: "store64", at: HEARD_OFFSET, value: bell };
      yield { type: "flush", at: HEARD_OFFSET, length: 8 };
      yield { type: "fence" };
      last = bell;
    }
  })() as never;

function harmOf(memory: Uint8Array, notes: readonly string[]): string | undefined {
  const bell = Buffer.from(memory).readBigUInt64LE(BELL);
  const given = memory[CLAIM];
  const waits = notes.filter((text) => text.endsWith("waits"));
  if (waits.length > 0 && notes.includes(`sleeps at ${bell}`)) return `${waits.join()}, and the holder sleeps`;
  const gives = notes.find((text) => text.startsWith("gives to "));
  if (gives !== undefined && notes.includes(`${given} sleeps at ${bell}`)) return `${gives}, and that sleeps`;
  const [late, early] = notes.find((text) => text.includes(" saw "))?.split(" saw ") ?? [];
  if (gives === `gives to ${late}` && waits.includes(`${early} waits`)) return `${gives}, and ${early} asked before`;
  if (notes.includes("lives")) return "slot 0 counts as living";
  return undefined;
}

export const SCENES: Readonly<Record<string, readonly Host[]>> = {
  "one that asks": [{ program: holder(4) }, { program: waiter(1) }],
  "one that asks twice": [{ program: holder(4) }, { program: waiter(1, { asksAgain: true }) }],
  "one that thinks better of it, and asks anew": [{ program: holder(4) }, { program: waiter(1, { anew: true }) }],
  "two that ask": [{ program: holder(4) }, { program: waiter(1) }, { program: waiter(2) }],
  "two that ask, and one of them thinks better of it": [
    { program: holder(4) },
    { program: waiter(1) },
    { program: waiter(2, { withdraws: true }) },
  ],
  "one that is given the log": [{ program: holder(4) }, { program: receiver(1, 4) }],
  "a holder that stopped": [{ program: doubter(1) }],
  "a holder that listens": [{ program: doubter(1) }, { program: listener }],
};

export function searchScene(scene: string): Found {
  const memory = new Uint8Array(CLAIM + 64);
  memory.set(encodeAsk(OLD));
  const view = new DataView(memory.buffer);
  view.setBigUint64(HEARD_OFFSET, encodeBell(OLD), true);
  view.setBigUint64(BELL, encodeBell(OLD), true);
  return search({
    memory,
    hosts: SCENES[scene] ?? [],
    findEnd: () => ({ end: 0 }),
    harm: harmOf,
  });
}
