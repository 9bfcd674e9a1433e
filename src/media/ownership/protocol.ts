/**
 * Who appends to a log, and who may write data. All of the protocol is here; docs/guarantees.md says what it is good
 * for, and `protocol.model.test.ts` searches it.
 *
 * The memory knows plain loads and stores between hosts, no compare-and-swap. A store may arrive late, line by line: its
 * host was paused, or its cache wrote a dirty line back when it liked to. A host may stop anywhere, for any time. No rule
 * here uses a clock.
 *
 * WORDS. Each word has one writer. The *claim* of an owner slot (64 bytes, one line) belongs to the node that the store
 * gave the slot to, and to one process of it: ballot, nonce, RELEASED, successor. Ballots compare by order, round and slot,
 * so no two takers have the same one; the highest owns the log. The two *place lines* of a slot, written by turns, say
 * where the log of its node's latest term is; of all slots the one with the highest ballot counts. A claim cannot say
 * that: it is overwritten before the new term knows. The *ring of changes* of a slot is its node's, too. Log entries and
 * their counters belong to the owner, and a former owner may still store there: that is what runs of fillers are for. The
 * *guard line* is a doorbell that every taker stores, and never a holder: what it holds says nothing, that it is another
 * one says that somebody claimed.
 *
 * LOOK. (L1) Load identity and guard line. (L2) The same as expected: nobody has claimed, the log is mine. (L3) Otherwise
 * remember *these* bytes, and load the claims after them: the identity is the volume's, and the highest claim is mine with
 * my nonce, not released. Then the remembered bytes are expected from now on, not what is there by now: whoever claims
 * after the claims were loaded stores the guard line after that, and is seen by the next look.
 *
 * APPEND of at most 8 entries. (A1) Look. (A2) Store the entries behind the first, durable; (A3) the first, durable: a
 * reader that looks past the counter stops at a slot that is not valid, so it sees all of the transaction or nothing.
 * (A4) Store the counters, durable. (A5) Look; only then is it acknowledged. A failed A5 is "unknown": the successor
 * decides. Never more than one append between two looks.
 *
 * DATA. (D1) Look. (D2) Store at most 64 KiB, fence. (D3) Look; only then go on, or acknowledge. Where D3 fails, the
 * bytes may lie over those of the new owner: the write fails. Nobody else is told which bytes those are.
 *
 * TAKE-OVER. (T1) Load the claims: my round must be above all, and what my own former claim said is remembered.
 * (T2) Store my claim, durable. (T3) Store the guard line, durable: every holder looks at the claims from here on. Load the
 * guard line, and remember it; load the claims *again*, and judge: mine is the highest, or stop and write nothing. The
 * remembered bytes are expected from now on. (T4) *Clean* if the highest claim of another slot is RELEASED, none is
 * unreadable, and my former claim was RELEASED. What was read before T2 says nothing about that: another node may have
 * claimed and begun to append between the two. (T5) Load the place lines, the highest counts; read where the log ends: what
 * a former owner appended before T2 is seen here, and what it appends later fails its second look. (T6) Not clean: a run
 * of 11 fillers, the tenth one first; look, that one, look, the others, look. One filler alone says that nothing counts in
 * all of the run. A transaction that is still on its way has at most 8 entries, and its last line reaches into the ninth,
 * so the tenth is whole whatever arrives. If another node claims before the look behind the tenth, its run may begin where
 * ours does: both store the same bytes, so that lines of ours which arrive late leave its tenth whole, and the last of them
 * reaches into its eleventh. If it claims afterwards, it sees our tenth, and begins behind our run. (T7) The own ring of
 * changes: clean, with those that the former owner's ring has over, under their numbers. (T8) Look: a node that claims
 * from here on finds the end where this taker did, or behind it, so that a late counter points into its run. Ring, counters
 * to the end of the run, look. (T9) The own place line, look: the term is ready. Not clean, or without a former ring that
 * can be read: the line names this term as the last that all contents are to be doubted from; otherwise it repeats the
 * one of the former owner, so that readers that missed some owners notice, too.
 *
 * CHANGES. (C1) Look. (C2) Store the change into the slot of its number, durable; (C3) the counter, durable. (C4) Look.
 * The ring is of the slot: what a former owner stores late does not touch its successor's.
 *
 * RELEASE, when nothing more is appended or written. (R1) Nothing passes a look any more but this one: the guard line does
 * not change with my own claim. Look. (R2) Store my claim, RELEASED, durable.
 *
 * READERS (log-reader.ts) go past the counter only where a run is, since a late store of a former owner lowers the
 * counter into its successor's run and nowhere else. They apply nothing in a run, and believe no filler that lies in a
 * run that begins later. One that was given an entry which a run then covers begins again.
 *
 * LAYOUT 1 of a volume (words.ts) has no guard line, no places and one ring. There the claims themselves are compared in L2,
 * which is the same with more bytes, and the shared ring's counter jumps when a term does not begin clean.
 */
import { FamfsError } from "../../base/index.ts";
import {
  type Ballot,
  type Claim,
  type Claims,
  compareBallots,
  encodeChange,
  type FillerEntry,
  highest,
  type Identity,
  type InPlaceChange,
  inspectIdentity,
  type LogEntry,
  type PlaceLine,
  type Successor,
} from "../../format/index.ts";
import { durable, findEnd, load, type Plan, type Steps, type StoreStep } from "./steps.ts";

/** Where a log's words are, from the start of its region. */
export interface LogPlaces {
  /** Seqnum and index, eight bytes each. */
  readonly countersAt: number;
  entryAt(index: number): number;
  readonly entrySize: number;
}

/** Where all words of a volume are, and how large. */
export interface OwnedLog extends LogPlaces {
  /** Named in errors. */
  readonly name: string;
  readonly identity: Identity;
  /** What a look compares: the identity line, and what every taker stores. */
  readonly guardAt: number;
  readonly guardLength: number;
  readonly claims: {
    readonly at: number;
    readonly length: number;
    readonly inspect: (bytes: Uint8Array) => Claims;
    readonly ofSlot: (slot: number) => number;
    readonly encode: (claim: Claim) => Uint8Array;
  };
  /** Undefined in layout 1. */
  readonly lines: OwnerLines | undefined;
  readonly entries: number;
  /** Entries of a run of fillers. */
  readonly run: number;
  encode(first: number, entries: readonly LogEntry[]): Uint8Array;
  readonly ring: OwnerRing;
}

/** What layout 2 has beside claims. */
export interface OwnerLines {
  readonly guardLineAt: number;
  readonly guardLine: (nonce: string) => Uint8Array;
  readonly placesAt: number;
  readonly placesLength: number;
  /** The highest place line of all, and the sequence of the latest one of `slot`, 0 for none. */
  readonly inspect: (bytes: Uint8Array, slot: number) => { place: PlaceLine | undefined; sequence: number };
  readonly placeAt: (slot: number, turn: number) => number;
  readonly encode: (place: PlaceLine) => Uint8Array;
  /** Where the log is, as a place line says it. */
  readonly logUnit: number;
}

/** The ring of changes of each slot, or of all in layout 1. */
export interface OwnerRing {
  readonly counterAt: (slot: number) => number;
  readonly changeAt: (slot: number, sequence: number) => number;
  /** What a taker reads of the ring of the former owner, of whom `place` is. */
  readonly former: (place: PlaceLine | undefined) => { readonly at: number; readonly length: number } | undefined;
  /** `bytes`: what `former` names. `whole`: no change that a reader may still want is missing. */
  readonly begin: (
    ballot: Ballot,
    bytes: Uint8Array | undefined,
    clean: boolean,
    place: PlaceLine | undefined,
  ) => { readonly next: number; readonly stores: readonly StoreStep[]; readonly whole: boolean };
}

/** One ownership: what it expects of identity and guard line, and what is private to it. */
export interface Term {
  readonly log: OwnedLog;
  readonly claim: Claim;
  expected: Uint8Array;
  /** Number of the next change in place. */
  changes: number;
}

/** With what a node takes a log over. */
export interface Bid {
  readonly slot: number;
  /** 32 hex digits, new with each bid. */
  readonly nonce: string;
  /** Given by the store; undefined: one above all that are in the memory. */
  readonly round: number | undefined;
  /** Given by the store; raised to that of the highest claim. */
  readonly order: number;
}

export interface TakenOver {
  readonly term: Term;
  /** Of the next entry. */
  readonly nextIndex: number;
  /**
   * Nobody can still be writing what the former owner began. Otherwise the contents of files that may be written in
   * place are doubtful, everywhere.
   */
  readonly clean: boolean;
  /** Where the run of fillers begins. */
  readonly filler: number | undefined;
}

/** L1 to L3. */
export function* look(term: Term): Steps<boolean> {
  const { log } = term;
  const guard = yield* load(log.guardAt, log.guardLength);
  if (Buffer.compare(guard, term.expected) === 0) return true;
  const claims = log.claims.inspect(yield* load(log.claims.at, log.claims.length));
  if (!owns(term, guard, claims)) return false;
  term.expected = guard;
  return true;
}

function owns({ log, claim }: Pick<Term, "log" | "claim">, guard: Uint8Array, { claims }: Claims): boolean {
  const owner = ownerOf(claims);
  return (
    isVolume(log, guard) &&
    owner !== undefined &&
    compareBallots(owner.ballot, claim.ballot) === 0 &&
    owner.nonce === claim.nonce &&
    !owner.released
  );
}

/** The claim that owns the log. */
export function ownerOf(claims: readonly Claim[]): Claim | undefined {
  return highest(claims, ({ ballot }) => ballot);
}

function isVolume({ identity }: OwnedLog, guard: Uint8Array): boolean {
  const { value } = inspectIdentity(guard, 0);
  return (
    value?.volumeUuid === identity.volumeUuid &&
    value.generation === identity.generation &&
    value.layout === identity.layout
  );
}

/** Does what the plan says. The place of the look that failed in it, or undefined when all of it is done. */
export function* carryOut(term: Term, plan: Plan): Steps<number | undefined> {
  for (const [at, step] of plan.entries()) {
    if (step.type !== "look") yield step;
    else if (!(yield* look(term))) return at;
  }
  return undefined;
}

/** A1 to A5: `bytes` are whole entries. */
export function appendPlan(log: LogPlaces, index: number, bytes: Uint8Array): Plan {
  const others = bytes.subarray(log.entrySize);
  return [
    { type: "look" },
    ...(others.byteLength === 0 ? [] : durable(log.entryAt(index + 1), others)),
    ...durable(log.entryAt(index), bytes.subarray(0, log.entrySize)),
    ...counters(log, index + bytes.byteLength / log.entrySize),
    { type: "look" },
  ];
}

/** D1 to D3. The addon does the same for each piece of a WRITE (native/fuse-worker.c). */
export function dataPlan(at: number, bytes: Uint8Array): Plan {
  return [{ type: "look" }, ...durable(at, bytes), { type: "look" }];
}

/** C1 to C4. The number of the change is `term.changes`, which the caller raises when all of it is done. */
export function changePlan(term: Term, change: Omit<InPlaceChange, "sequence" | "epoch">): Plan {
  const { ring } = term.log;
  const { round, slot } = term.claim.ballot;
  const sequence = term.changes;
  const bytes = encodeChange({ ...change, sequence, epoch: round });
  return [
    { type: "look" },
    ...durable(ring.changeAt(slot, sequence), bytes),
    ...durable64(ring.counterAt(slot), sequence + 1),
    { type: "look" },
  ];
}

/** R1, R2. False: it is not this node's any more, so there is nothing to release. */
export function* release(term: Term, successor?: Successor): Steps<boolean> {
  const { claims } = term.log;
  const claim = claims.encode({ ...term.claim, released: true, successor });
  const at = claims.ofSlot(term.claim.ballot.slot);
  return (yield* carryOut(term, [{ type: "look" }, ...durable(at, claim)])) === undefined;
}

/**
 * T1 to T9. OWNER_STALE when the round is too low, or another node claimed meanwhile; LOG_CORRUPT; NOT_SUPPORTED. The
 * claim stays behind: a successor outbids it.
 */
export function* takeOver(log: OwnedLog, bid: Bid): Steps<TakenOver> {
  const { slot } = bid;
  const { at, length, inspect, ofSlot, encode } = log.claims;
  if (!isVolume(log, yield* load(log.guardAt, log.guardLength))) {
    throw stale(log, "its region was given to another volume");
  }
  const before = inspect(yield* load(at, length));
  const claim: Claim = { ballot: ballotOf(log, bid, before.claims), nonce: bid.nonce, released: false };
  const former = before.claims.find(({ ballot }) => ballot.slot === slot);

  yield* all(durable(ofSlot(slot), encode(claim)));
  if (log.lines !== undefined) yield* all(durable(log.lines.guardLineAt, log.lines.guardLine(claim.nonce)));

  const expected = yield* load(log.guardAt, log.guardLength);
  const now = inspect(yield* load(at, length));
  if (!owns({ log, claim }, expected, now)) {
    throw stale(log, `another node claimed it while this one did (epoch ${claim.ballot.round})`);
  }
  const term: Term = { log, claim, expected, changes: 0 };
  const clean = isReleased(now, slot) && former?.released !== false && before.findings.length === 0;

  const { place, sequence } = yield* placesOf(log, claim);
  const { end, bad } = yield* findEnd();
  if (bad !== undefined) {
    throw new FamfsError("LOG_CORRUPT", `${bad.message}; the log cannot be continued, run fsck`, {
      details: { index: bad.index ?? end },
    });
  }
  // Where no run fits, nobody can append, so nothing can be on its way.
  const fills = !clean && end + log.run <= log.entries;
  if (fills) yield* must(term, fillersPlan(term, end));
  const nextIndex = fills ? end + log.run : end;

  const ringOf = log.ring.former(place);
  const formerRing = ringOf && (yield* load(ringOf.at, ringOf.length));
  const ring = log.ring.begin(claim.ballot, formerRing, clean, place);
  term.changes = ring.next;
  yield* must(term, [{ type: "look" }, ...ring.stores, ...counters(log, nextIndex), { type: "look" }]);
  if (log.lines !== undefined) {
    const isDoubtful = !clean || !ring.whole;
    const doubt = isDoubtful ? claim.ballot : (place?.doubt ?? NO_DOUBT);
    yield* must(term, placePlan(log.lines, claim.ballot, sequence + 1, place, doubt));
  }
  return { term, nextIndex, clean, filler: fills ? end : undefined };
}

const NO_DOUBT = { round: 0, slot: 0 };

/** T1. */
function ballotOf(log: OwnedLog, { slot, round, order }: Bid, claims: readonly Claim[]): Ballot {
  const highestRound = claims.reduce((most, { ballot }) => Math.max(most, ballot.round), 0);
  if (round !== undefined && round <= highestRound) {
    throw stale(log, `epoch ${round} is not above epoch ${highestRound} in the memory`);
  }
  return { order: Math.max(order, ownerOf(claims)?.ballot.order ?? 0), round: round ?? highestRound + 1, slot };
}

/** T4, of the claims that are not of `slot`. */
function isReleased({ claims, findings }: Claims, slot: number): boolean {
  if (findings.length > 0) return false;
  return ownerOf(claims.filter(({ ballot }) => ballot.slot !== slot))?.released ?? true;
}

/** T5. Of a claim that cannot be read the place line may still say how high it was. */
function* placesOf({ name, lines }: OwnedLog, { ballot }: Claim): Steps<ReturnType<OwnerLines["inspect"]>> {
  if (lines === undefined) return { place: undefined, sequence: 0 };
  const found = lines.inspect(yield* load(lines.placesAt, lines.placesLength), ballot.slot);
  const { place } = found;
  if (place !== undefined && place.ballot.round >= ballot.round) {
    throw stale({ name }, `epoch ${ballot.round} is not above epoch ${place.ballot.round} in the memory`);
  }
  if (place !== undefined && place.logUnit !== lines.logUnit) {
    throw new FamfsError(
      "NOT_SUPPORTED",
      `the log of volume ${name} is at unit ${place.logUnit}: needs a newer famfs-csi`,
    );
  }
  return found;
}

/** T9. */
function placePlan(
  lines: OwnerLines,
  ballot: Ballot,
  sequence: number,
  former: PlaceLine | undefined,
  { round, slot }: PlaceLine["doubt"],
): Plan {
  const logGeneration = former?.logGeneration ?? 0;
  const line = lines.encode({ ballot, sequence, logUnit: lines.logUnit, logGeneration, doubt: { round, slot } });
  return [{ type: "look" }, ...durable(lines.placeAt(ballot.slot, sequence % 2), line), { type: "look" }];
}

/** T6. The bytes are those of every taker whose run begins here: mixed with late lines of another one, they stay whole. */
function fillersPlan({ log }: Term, first: number): Plan {
  const filler: FillerEntry = { type: "filler", first, run: log.run, epoch: 0, nodeIdHash: "00".repeat(8) };
  const bytes = log.encode(first, Array<LogEntry>(log.run).fill(filler));
  const speaking = (log.run - 2) * log.entrySize;
  const behind = speaking + log.entrySize;
  return [
    { type: "look" },
    ...durable(log.entryAt(first + log.run - 2), bytes.subarray(speaking, behind)),
    { type: "look" },
    ...durable(log.entryAt(first), bytes.subarray(0, speaking)),
    ...durable(log.entryAt(first + log.run - 1), bytes.subarray(behind)),
    { type: "look" },
  ];
}

/**
 * Both at once. They share a line, which a cache writes back whole: stored one after the other, the line of a former owner
 * could hold its own seqnum and, fetched anew in between, an index of its successor that is not the latest any more.
 */
function counters(log: LogPlaces, next: number): StoreStep[] {
  return [
    { type: "storePair", at: log.countersAt, value: BigInt(next) },
    { type: "flush", at: log.countersAt, length: 16 },
    { type: "fence" },
  ];
}

export function durable64(at: number, value: number): StoreStep[] {
  return [{ type: "store64", at, value: BigInt(value) }, { type: "flush", at, length: 8 }, { type: "fence" }];
}

function* all(steps: readonly StoreStep[]): Steps<void> {
  for (const step of steps) yield step;
}

function* must(term: Term, plan: Plan): Steps<void> {
  if ((yield* carryOut(term, plan)) !== undefined) throw stale(term.log, "another node took it over meanwhile");
}

export function stale(log: Pick<OwnedLog, "name">, why: string): FamfsError {
  return new FamfsError("OWNER_STALE", `this node does not own the log of volume ${log.name}: ${why}`, {
    details: { outcome: "nothing appended" },
  });
}
