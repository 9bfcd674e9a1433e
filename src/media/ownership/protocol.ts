/**
 * Who appends to a log, and who may write data. All of the protocol is here; docs/guarantees.md says what it is good
 * for, and `protocol.model.test.ts` searches it.
 *
 * The memory knows plain loads and stores between hosts, no compare-and-swap. A store may arrive late, line by line: its
 * host was paused, or its cache wrote a dirty line back when it liked to. A host may stop anywhere, for any time. No rule
 * here uses a clock.
 *
 * WORDS. Each word has one writer. The *claim* of an owner slot (64 bytes, one line) belongs to the node that the store
 * gave the slot to, and to one process of it: slot, epoch, nonce, RELEASED. Epochs come from the store by
 * compare-and-swap, so no two takers have the same. The highest epoch owns the log. Log entries, their counters and the
 * ring of changes belong to the owner, and a former owner may still store there: that is what runs of fillers, and the
 * jump of the ring's counter, are for.
 *
 * LOOK. (L1) Load the guard range: identity line and claims. (L2) The same as expected: the log is mine. (L3) Otherwise
 * judge *these* bytes: the identity is the volume's, and the highest epoch is mine with my nonce, not released. Then
 * they are expected from now on. Never expect what was not judged: a guard of the bytes that happen to be there compares
 * them with themselves, and an overtaken node would own the log for ever.
 *
 * APPEND of at most 8 entries. (A1) Look. (A2) Store the entries behind the first, durable; (A3) the first, durable: a
 * reader that looks past the counter stops at a slot that is not valid, so it sees all of the transaction or nothing.
 * (A4) Store the counters, durable. (A5) Look; only then is it acknowledged. A failed A5 is "unknown": the successor
 * decides. Never more than one append between two looks.
 *
 * DATA. (D1) Look. (D2) Store at most 64 KiB, fence. (D3) Look; only then go on, or acknowledge. Where D3 fails, the
 * bytes may lie over those of the new owner: the write fails. Nobody else is told which bytes those are.
 *
 * TAKE-OVER. (T1) Load the claims: my epoch must be above all, and what my own former claim said is remembered.
 * (T2) Store my claim, durable. (T3) Load the claims *again*, and judge: mine is the highest, or stop and write nothing.
 * These bytes are expected from now on. (T4) *Clean* if, in them, the highest claim of another slot is RELEASED, none is
 * unreadable, and my former claim was RELEASED. What was read before T2 says nothing about that: another node may have
 * claimed and begun to append between the two. (T5) Read where the log ends: what a former owner appended before T2 is
 * seen here, and what it appends later fails its second look. (T6) Not clean: a run of 11 fillers, the tenth one first;
 * look, that one, look, the others, look. One filler alone says that nothing counts in all of the run. A transaction that
 * is still on its way has at most 8 entries, and its last line reaches into the ninth, so the tenth is whole whatever
 * arrives. If another node claims before the look behind the tenth, its run may begin where ours does: both store the same
 * bytes, so that lines of ours which arrive late leave its tenth whole, and the last of them reaches into its eleventh.
 * If it claims afterwards, it sees our tenth, and begins behind our run. (T7) Ring of changes: from the counter that is
 * there; not clean: from beyond all that readers have seen, so that each of them doubts all contents. (T8) Look: a node
 * that claims from here on finds the end where this taker did, or behind it, so that a late counter points into its run.
 * Counters to the end of the run, look: the term is ready.
 *
 * CHANGES. (C1) Look. (C2) Store the change into the slot of its number, durable; (C3) the counter, durable. (C4) Look.
 * The number comes from a counter that is private to the term: what a former owner stores late cannot lower it.
 *
 * RELEASE, when nothing more is appended or written. (R1) Look. (R2) Store my claim, RELEASED, durable.
 *
 * READERS (log-reader.ts) go past the counter only where a run is, since a late store of a former owner lowers the
 * counter into its successor's run and nowhere else. They apply nothing in a run, and believe no filler that lies in a
 * run that begins later. One that was given an entry which a run then covers begins again.
 */
import { FamfsError } from "../../base/index.ts";
import {
  encodeChange,
  encodeClaim,
  type FillerEntry,
  type GuardRange,
  type Identity,
  type InPlaceChange,
  inspectGuardRange,
  type LogEntry,
  type OwnerClaim,
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
  readonly guardAt: number;
  readonly guardLength: number;
  claimAt(slot: number): number;
  readonly entries: number;
  /** Entries of a run of fillers. */
  readonly run: number;
  encode(first: number, entries: readonly LogEntry[]): Uint8Array;
  readonly ring: { readonly counterAt: number; changeAt(sequence: number): number; readonly slots: number };
}

/** One ownership: what it expects in the guard range, and what is private to it. */
export interface Term {
  readonly log: OwnedLog;
  readonly claim: OwnerClaim;
  expected: Uint8Array;
  /** Number of the next change in place. */
  changes: number;
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
  const bytes = yield* load(term.log.guardAt, term.log.guardLength);
  return judge(term, bytes);
}

/** Whether `bytes`, a copy of the guard range, leave the log to this term; then they are what it expects. */
export function judge(term: Term, bytes: Uint8Array): boolean {
  if (Buffer.compare(bytes, term.expected) === 0) return true;
  if (!owns(term, inspectGuardRange(bytes, term.log.identity.slots))) return false;
  term.expected = bytes;
  return true;
}

function owns({ log, claim }: Pick<Term, "log" | "claim">, { identity, owner }: GuardRange): boolean {
  return (
    isVolume(log, identity) &&
    owner?.slot === claim.slot &&
    owner.epoch === claim.epoch &&
    owner.nonce === claim.nonce &&
    !owner.released
  );
}

function isVolume(log: OwnedLog, identity: Identity | undefined): boolean {
  return identity?.volumeUuid === log.identity.volumeUuid && identity.generation === log.identity.generation;
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
  const sequence = term.changes;
  const bytes = encodeChange({ ...change, sequence, epoch: term.claim.epoch });
  return [
    { type: "look" },
    ...durable(ring.changeAt(sequence), bytes),
    ...durable64(ring.counterAt, sequence + 1),
    { type: "look" },
  ];
}

/** R1, R2. False: it is not this node's any more, so there is nothing to release. */
export function* release(term: Term): Steps<boolean> {
  const claim = encodeClaim({ ...term.claim, released: true });
  return (
    (yield* carryOut(term, [{ type: "look" }, ...durable(term.log.claimAt(term.claim.slot), claim)])) === undefined
  );
}

/**
 * T1 to T8. OWNER_STALE when the epoch is too low, or another node claimed meanwhile; LOG_CORRUPT. The claim stays
 * behind: a successor outbids it.
 */
export function* takeOver(log: OwnedLog, claim: OwnerClaim): Steps<TakenOver> {
  const before = inspectGuardRange(yield* load(log.guardAt, log.guardLength), log.identity.slots);
  if (!isVolume(log, before.identity)) throw stale(log, "its region was given to another volume");
  if (claim.epoch <= before.highestEpoch) {
    throw stale(log, `epoch ${claim.epoch} is not above epoch ${before.highestEpoch} in the memory`);
  }
  const former = before.claims.find(({ slot }) => slot === claim.slot);

  yield* all(durable(log.claimAt(claim.slot), encodeClaim(claim)));

  const expected = yield* load(log.guardAt, log.guardLength);
  const now = inspectGuardRange(expected, log.identity.slots);
  if (!owns({ log, claim }, now)) throw stale(log, `another node claimed it while this one did (epoch ${claim.epoch})`);
  const term: Term = { log, claim, expected, changes: 0 };
  const clean = isReleased(now, claim.slot) && former?.released !== false && before.findings.length === 0;

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

  const counter = readU64(yield* load(log.ring.counterAt, 8));
  term.changes = clean ? counter : counter + log.ring.slots + 1;
  yield* must(term, [
    { type: "look" },
    ...(clean ? [] : durable64(log.ring.counterAt, term.changes)),
    ...counters(log, nextIndex),
    { type: "look" },
  ]);
  return { term, nextIndex, clean, filler: fills ? end : undefined };
}

/** T4, of the claims that are not of `slot`. */
function isReleased({ claims, findings }: GuardRange, slot: number): boolean {
  if (findings.length > 0) return false;
  const others = claims.filter((claim) => claim.slot !== slot);
  const highest = Math.max(...others.map(({ epoch }) => epoch));
  return others.every(({ epoch, released }) => epoch < highest || released);
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

function durable64(at: number, value: number): StoreStep[] {
  return [{ type: "store64", at, value: BigInt(value) }, { type: "flush", at, length: 8 }, { type: "fence" }];
}

function* all(steps: readonly StoreStep[]): Steps<void> {
  for (const step of steps) yield step;
}

function* must(term: Term, plan: Plan): Steps<void> {
  if ((yield* carryOut(term, plan)) !== undefined) throw stale(term.log, "another node took it over meanwhile");
}

/** A counter that no program of ours wrote counts as none: what follows it is an overflow for all who saw another. */
function readU64(bytes: Uint8Array): number {
  const value = Buffer.from(bytes).readBigUInt64LE(0);
  return value > 2n ** 52n ? 0 : Number(value);
}

export function stale(log: Pick<OwnedLog, "name">, why: string): FamfsError {
  return new FamfsError("OWNER_STALE", `this node does not own the log of volume ${log.name}: ${why}`, {
    details: { outcome: "nothing appended" },
  });
}
