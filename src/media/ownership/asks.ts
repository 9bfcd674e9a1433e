/**
 * Turns at the log: nodes that wait for it ask in the memory, and its holder gives it to the next one there. All of this
 * is politeness. The right to append is decided by the claims alone (protocol.ts); with every line of this protocol lost,
 * late or false, nodes wait longer than they need, or take the log over where they should have waited.
 *
 * WORDS. The *ask line* of a slot belongs to its node: its number, which grows with each word that the node says, and its
 * ticket. Behind that, the bell that the node heard last. The *bell* is anybody's: an eight-byte word that is another one
 * after each ring.
 *
 * ASK. (Q1) Load all ask lines; the ticket is one above the highest. (Q2) Store the own line, durable; (Q3) then the
 * bell, durable. A holder that hears the bell finds the line.
 *
 * HEAR. (B1) Load the bell; the same as last time: nobody spoke. (B2) Otherwise load *all* ask lines, since a later ring
 * covers an earlier one, and they are read after the bell: an ask that is not seen now rings again.
 *
 * HAND ON, when nothing more is appended or written. (H1) Load the ask lines; the next one is that of the lowest ticket,
 * then of the lowest slot. (H2) One store of the own claim: RELEASED, and to whom. (H3) Own line: it waits for nothing;
 * then the bell, so that the others look at the claims.
 *
 * SILENCE. (S1) Load what the holder heard last; (S2) ring; (S3) load it again. Another value: it lives, since it stored
 * that after S1. The same for as long as takers wait: it is silent. No clock of another host is read.
 */
import { ASK_LINE_SIZE, type Ask, encodeAsk, encodeBell, HEARD_OFFSET, inspectAsk } from "../../format/index.ts";
import { durable, load, type Steps, type StoreStep } from "./steps.ts";

/** Where the words of turns are, from the start of a volume's region. */
export interface AskPlaces {
  /** Of the first ask line; the others follow. */
  readonly asksAt: number;
  readonly bellAt: number;
  readonly slots: number;
}

/** Q1 to Q3. The number is above that of `last`, what the node said before. */
export function* ask(places: AskPlaces, slot: number): Steps<Ask> {
  const lines = yield* loadAsks(places);
  const ticket = Math.max(0, ...lines.map((line) => line.ticket)) + 1;
  return yield* say(places, { slot, number: nextNumber(lines, slot), ticket });
}

/** The same place in the queue, said anew: the holder has to hear it (S2). */
export function* askAgain(places: AskPlaces, last: Ask): Steps<Ask> {
  return yield* say(places, { ...last, number: last.number + 1 });
}

/** Waits for nothing any more. Nobody needs to hear that. */
export function* withdraw(places: AskPlaces, last: Ask): Steps<Ask> {
  const line = { ...last, ticket: 0 };
  yield* all(durable(askAt(places, line.slot), encodeAsk(line)));
  return line;
}

/** B1, B2. `asks`: those that wait, in order; undefined when nobody has spoken since the bell was `last`. */
export function* hear(
  places: AskPlaces,
  last: bigint,
): Steps<{ readonly bell: bigint; readonly asks?: readonly Ask[] }> {
  const bell = yield* loadWord(places.bellAt);
  if (bell === last) return { bell };
  return { bell, asks: yield* waiting(places) };
}

/** Those that wait, in order. */
export function* waiting(places: AskPlaces): Steps<readonly Ask[]> {
  return (yield* loadAsks(places)).filter(({ ticket }) => ticket > 0).sort(inOrder);
}

/**
 * H1 to H3. `release` stores the claim, and is not called with an ask that `skips`: of a node that was given the log
 * before under the same number, and did not take it.
 */
export function* handOn<T>(
  places: AskPlaces,
  slot: number,
  release: (next: Ask | undefined) => Steps<T>,
  skips: (ask: Ask) => boolean = () => false,
): Steps<{ readonly released: T; readonly next: Ask | undefined }> {
  const lines = yield* loadAsks(places);
  const [next] = lines.filter((line) => line.slot !== slot && line.ticket > 0 && !skips(line)).sort(inOrder);
  const released = yield* release(next);
  yield* say(places, { slot, number: nextNumber(lines, slot), ticket: 0 });
  return { released, next };
}

/** S1, S3: which bell the node of `slot` heard last. */
export function* heardBy(places: AskPlaces, slot: number): Steps<bigint> {
  return yield* loadWord(askAt(places, slot) + HEARD_OFFSET);
}

function* say(places: AskPlaces, line: Ask): Steps<Ask> {
  yield* all(durable(askAt(places, line.slot), encodeAsk(line)));
  yield { type: "store64", at: places.bellAt, value: encodeBell(line) };
  yield { type: "flush", at: places.bellAt, length: 8 };
  yield { type: "fence" };
  return line;
}

/** A line that cannot be read, torn or hostile, asks for nothing: its node says it anew. */
function* loadAsks({ asksAt, slots }: AskPlaces): Steps<Ask[]> {
  const bytes = yield* load(asksAt, slots * ASK_LINE_SIZE);
  const lines: Ask[] = [];
  for (let slot = 0; slot < slots; slot++) {
    const { value } = inspectAsk(bytes, slot * ASK_LINE_SIZE, slot);
    if (value !== undefined) lines.push(value);
  }
  return lines;
}

function* loadWord(at: number): Steps<bigint> {
  return Buffer.from(yield* load(at, 8)).readBigUInt64LE(0);
}

function* all(steps: readonly StoreStep[]): Steps<void> {
  for (const step of steps) yield step;
}

function nextNumber(lines: readonly Ask[], slot: number): number {
  return (lines.find((line) => line.slot === slot)?.number ?? 0) + 1;
}

function inOrder(a: Ask, b: Ask): number {
  return a.ticket - b.ticket || a.slot - b.slot;
}

function askAt({ asksAt }: AskPlaces, slot: number): number {
  return asksAt + slot * ASK_LINE_SIZE;
}
