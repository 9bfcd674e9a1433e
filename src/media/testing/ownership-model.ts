/**
 * The ownership protocol on a log that is small enough to be searched: entries of a line and a half, transactions of
 * two.
 */
import { crc32 } from "node:zlib";
import {
  type Claim,
  ExtensionType,
  encodeClaimLine,
  encodeIdentity,
  type FillerEntry,
  inspectClaimLines,
  LOG_COUNTERS_OFFSET,
  LOG_HEADER_SIZE,
  type LogEntry,
  type MkdirEntry,
} from "../../format/index.ts";
import { type EntryShape, LogReader } from "../log-reader.ts";
import { appendPlan, carryOut, dataPlan, type OwnedLog, release, type Term, takeOver } from "../ownership/protocol.ts";
import { load } from "../ownership/steps.ts";
import { ownerLines } from "../ownership/words.ts";
import { type Found, type Host, type Note, type Program, search } from "./search.ts";

const LINE = 64;
const LONGEST = 2;
const SLOTS = 3;
const ENTRY = 96;
const ENTRIES = 18;
const IDENTITY = {
  volumeUuid: "00112233-4455-6677-8899-aabbccddee00",
  generation: 1,
  layout: 2,
  slots: SLOTS,
} as const;
const GUARD_LINE = LINE;
const GUARD = 2 * LINE;
const CLAIMS = GUARD;
const PLACES = CLAIMS + SLOTS * LINE;
const DATA = PLACES + 2 * SLOTS * LINE;
const LOG = DATA + LINE;
const LENGTH = Math.ceil((LOG + LOG_HEADER_SIZE + ENTRIES * ENTRY) / LINE) * LINE;

const claimAt = (slot: number) => CLAIMS + slot * LINE;

// ---- entries: seqnum, type, name; of a filler first, epoch and run; crc ----

const TYPE = 8;
const NAME = 16;
const CRC = ENTRY - 4;

function encode(first: number, entries: readonly LogEntry[]): Uint8Array {
  const bytes = Buffer.alloc(entries.length * ENTRY);
  for (const [position, entry] of entries.entries()) {
    const at = bytes.subarray(position * ENTRY, (position + 1) * ENTRY);
    at.writeUInt32LE(first + position, 0);
    if (entry.type === "mkdir") {
      at.writeUInt32LE(1, TYPE);
      at.write(entry.path, NAME);
      // To the end of the entry, so that each line of it counts.
      at.fill(entry.path, NAME + 16, CRC);
    } else if (entry.type === "filler") {
      at.writeUInt32LE(ExtensionType.FILLER, TYPE);
      for (const [word, value] of [entry.first, entry.epoch, entry.run].entries())
        at.writeUInt32LE(value, NAME + 4 * word);
      at.fill(0xff, NAME + 16, CRC);
    }
    at.writeUInt32LE(crc32(at.subarray(0, CRC)), CRC);
  }
  return bytes;
}

const shapeOf = (run: number): EntryShape => ({
  size: ENTRY,
  run,
  decoder(buffer) {
    const bytes = Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    return {
      check(base, index) {
        const entry = bytes.subarray(base, base + ENTRY);
        const valid = entry.readUInt32LE(0) === index && entry.readUInt32LE(CRC) === crc32(entry.subarray(0, CRC));
        return valid ? undefined : { code: "ENTRY_CORRUPT", index, message: `log entry ${index}: not valid` };
      },
      typeCode: (base) => bytes.readUInt32LE(base + TYPE),
      decode(base) {
        const words = [0, 1, 2].map((word) => bytes.readUInt32LE(base + NAME + 4 * word));
        const filler = {
          type: "filler",
          first: words[0],
          epoch: words[1],
          run: words[2],
          nodeIdHash: "",
        } as FillerEntry;
        const name = bytes.toString("latin1", base + NAME, base + NAME + 16).replaceAll("\0", "");
        return {
          entry:
            bytes.readUInt32LE(base + TYPE) === ExtensionType.FILLER
              ? filler
              : { type: "mkdir", path: name, uid: 0, gid: 0, mode: 0 },
        };
      },
    };
  },
});

const named = (path: string): LogEntry => ({ type: "mkdir", path, uid: 0, gid: 0, mode: 0 });

// ---- the volume ----

/** `layout` 1: no guard line and no places, a look compares the claims. */
function logOf(run: number, layout: 1 | 2): OwnedLog {
  return {
    name: "model",
    identity: IDENTITY,
    guardAt: 0,
    guardLength: layout === 1 ? PLACES : GUARD,
    claims: {
      at: CLAIMS,
      length: SLOTS * LINE,
      inspect: inspectClaimLines,
      ofSlot: claimAt,
      encode: encodeClaimLine,
    },
    lines:
      layout === 1
        ? undefined
        : ownerLines({
            guardLineAt: GUARD_LINE,
            placesAt: PLACES,
            placesLength: 2 * SLOTS * LINE,
            placeAt: (slot, turn) => PLACES + (2 * slot + turn) * LINE,
            logUnit: 1,
          }),
    countersAt: LOG + LOG_COUNTERS_OFFSET,
    entryAt: (index) => LOG + LOG_HEADER_SIZE + index * ENTRY,
    entries: ENTRIES,
    entrySize: ENTRY,
    run,
    encode,
    // What is changed in place is not searched: the ring of a slot has one writer.
    ring: {
      counterAt: () => DATA,
      changeAt: () => DATA,
      former: () => undefined,
      begin: () => ({ next: 0, stores: [], whole: true }),
    },
  };
}

function claimOf(slot: number, round: number, released = false): Claim {
  return { ballot: { order: 0, round, slot }, released, nonce: `${slot}${round}`.padEnd(32, "0") };
}

/** A log with one entry, "X", owned by slot 0 in round 1. */
function volume(log: OwnedLog, { first = claimOf(0, 1), unreadable = false } = {}): Uint8Array {
  const memory = new Uint8Array(LENGTH);
  const { ballot } = first;
  memory.set(encodeIdentity(IDENTITY));
  memory.set(unreadable ? new Uint8Array(LINE).fill(7) : encodeClaimLine(first), claimAt(ballot.slot));
  memory.set(encode(0, [named("X")]), log.entryAt(0));
  new DataView(memory.buffer).setBigUint64(log.countersAt + 8, 1n, true);
  return memory;
}

/** A reader of `memory` as it is; the clock runs, so that no pause hides anything. */
function readerOf(run: number, memory: () => Uint8Array): LogReader {
  let now = 0;
  const window = {
    load64: (offset: number) => Buffer.from(memory()).readBigUInt64LE(offset),
    copyOut: (offset: number, target: Uint8Array) => target.set(memory().subarray(offset, offset + target.byteLength)),
    invalidate: () => undefined,
  };
  const place = { window, logOffset: LOG, lastIndex: ENTRIES - 1, extended: true, coherent: true, shape: shapeOf(run) };
  return new LogReader(place, () => (now += 10_000));
}

/**
 * What `reader` has, after as many looks as show all there is. Polls of an idle log look past the counter now and then.
 */
function pollAll(reader: LogReader, had: string[]): string[] {
  let all = had;
  for (let poll = 0, again = 0; poll < 70; poll++) {
    const { entries, retracted } = reader.poll();
    if (retracted) {
      if (++again > 1) return [...all, "begins again for ever"];
      reader.rewind();
      all = [];
    }
    all = [
      ...all,
      ...entries.map(({ entry }) => (entry.type === "filler" ? `F${entry.first}` : (entry as MkdirEntry).path)),
    ];
  }
  return all;
}

/** Which of two runs says that an entry does not count is all the same. */
const applied = (name: string) => (name.startsWith("F") ? "F" : name);

// ---- programs ----

const note = (text: string): Note => ({ type: "note", note: text });

function* appends(term: Term, index: number, transactions: readonly (readonly string[])[]): Generator {
  let next = index;
  for (const names of transactions) {
    const plan = appendPlan(term.log, next, term.log.encode(next, names.map(named)));
    if ((yield* carryOut(term, plan)) !== undefined) return;
    for (const [position, name] of names.entries()) yield note(`${name}@${next + position}`);
    next += names.length;
  }
}

interface Owner {
  readonly slot: number;
  readonly epoch: number;
  readonly transactions?: readonly (readonly string[])[];
  /** What it writes over the line of data. */
  readonly data?: string;
  readonly releases?: boolean;
  /** Length of a run: it notes what it finds in the log once its term is ready. */
  readonly remembers?: number;
}

function* works(term: Term, index: number, { transactions = [], data, releases }: Owner): Generator {
  yield* appends(term, index, transactions);
  if (data !== undefined) {
    const failed = yield* carryOut(term, dataPlan(DATA, new Uint8Array(LINE).fill(data.charCodeAt(0))));
    yield note(failed === undefined ? `wrote ${data}` : `failed ${data}`);
  }
  if (releases === true) yield* release(term);
}

/** Owns the log from the beginning. */
const owner =
  (log: OwnedLog, memory: Uint8Array, options: Owner): Program =>
  () => {
    const expected = memory.slice(0, log.guardLength);
    return works({ log, claim: claimOf(options.slot, options.epoch), expected, changes: 0 }, 1, options) as never;
  };

const bidOf = ({ slot, epoch }: Owner) => ({ slot, round: epoch, order: 0, nonce: claimOf(slot, epoch).nonce });

const taker =
  (log: OwnedLog, options: Owner): Program =>
  () =>
    (function* () {
      const { term, nextIndex } = yield* takeOver(log, bidOf(options));
      yield { type: "mark", key: `${nextIndex} ${Buffer.from(term.expected).toString("hex")}` };
      if (options.remembers !== undefined) {
        const memory = new Uint8Array(LENGTH);
        memory.set(yield* load(LOG, LENGTH - LOG), LOG);
        const found = pollAll(
          readerOf(options.remembers, () => memory),
          [],
        );
        yield note(`found ${found.map(applied).join()}`);
      }
      yield* works(term, nextIndex, options);
    })() as never;

/** Polls twice: what it was given the first time must still hold, or it must have been told. */
const reader =
  (run: number): Program =>
  () =>
    (function* () {
      const memory = new Uint8Array(LENGTH);
      const one = readerOf(run, () => memory);
      memory.set(yield* load(LOG, LENGTH - LOG), LOG);
      const before = pollAll(one, []);
      yield {
        type: "mark",
        key: JSON.stringify([before, one.position, Buffer.from(memory.subarray(LOG)).toString("hex", 40, 48)]),
      };
      memory.set(yield* load(LOG, LENGTH - LOG), LOG);
      const now = pollAll(one, before);
      const fresh = pollAll(
        readerOf(run, () => memory),
        [],
      );
      const misled = now.some((name, at) => at < fresh.length && applied(name) !== applied(fresh[at] ?? ""));
      if (misled || now.at(-1) === "begins again for ever") {
        yield note(`harm: a reader had ${before.join()}, then ${now.join()}, and it is ${fresh.join()}`);
      }
    })() as never;

function harmOf(run: number, memory: Uint8Array, notes: readonly string[]): string | undefined {
  const told = notes.find((text) => text.startsWith("harm"));
  if (told !== undefined) return told;
  const seen = pollAll(
    readerOf(run, () => memory),
    [],
  );
  for (const text of notes) {
    const [name, at] = text.split("@");
    if (at !== undefined && seen[Number(at)] !== name) return `acknowledged ${text} is lost: ${seen.join()}`;
  }
  for (const name of ["A", "B"]) {
    if (seen.includes(`${name}0`) !== seen.includes(`${name}1`)) return `half of ${name}'s transaction: ${seen.join()}`;
  }
  const found = notes.find((text) => text.startsWith("found "))?.slice("found ".length);
  const now = seen.map(applied).join();
  if (found !== undefined && !now.startsWith(found)) return `of ${found} something vanished: ${now}`;
  const data = String.fromCharCode(memory[DATA] ?? 0);
  if (notes.includes("wrote B") && data === "A" && notes.includes("wrote A"))
    return "A's late bytes lie over B's, silently";
  return undefined;
}

// ---- what is searched ----

const TWO = (name: string) => [[`${name}0`, `${name}1`]];

type Scenes = Readonly<Record<string, (log: OwnedLog, memory: Uint8Array, run: number) => readonly Host[]>>;

export const SCENES = {
  /** The owner appends twice; another node takes over and appends. */
  "owner and taker": (log, memory) => [
    { program: owner(log, memory, { slot: 0, epoch: 1, transactions: [["A2"], ["A0", "A1"]] }) },
    { program: taker(log, { slot: 1, epoch: 2, transactions: TWO("B") }) },
  ],
  "owner, taker and reader": (log, memory, run) => [
    { program: owner(log, memory, { slot: 0, epoch: 1, transactions: TWO("A") }) },
    { program: taker(log, { slot: 1, epoch: 2, transactions: [["C0"]] }), prompt: true },
    { program: reader(run) },
  ],
  "owner and two takers": (log, memory) => [
    { program: owner(log, memory, { slot: 0, epoch: 1, transactions: TWO("A") }) },
    { program: taker(log, { slot: 1, epoch: 2 }) },
    { program: taker(log, { slot: 2, epoch: 3, transactions: [["C0"]] }), prompt: true },
  ],
  /** What the last taker found when its term was ready stays: its tree is made of that. */
  "a prompt owner and two takers": (log, memory, run) => [
    { program: owner(log, memory, { slot: 0, epoch: 1, transactions: [["C1"]] }), prompt: true },
    { program: taker(log, { slot: 1, epoch: 2 }) },
    { program: taker(log, { slot: 2, epoch: 3, remembers: run }), prompt: true },
  ],
  "two takers and reader": (log, _memory, run) => [
    { program: taker(log, { slot: 1, epoch: 2 }) },
    { program: taker(log, { slot: 2, epoch: 3 }), prompt: true },
    { program: reader(run) },
  ],
  "an owner that releases, and two takers": (log, memory) => [
    { program: owner(log, memory, { slot: 0, epoch: 1, releases: true }) },
    { program: taker(log, { slot: 1, epoch: 2, transactions: TWO("B") }) },
    { program: taker(log, { slot: 2, epoch: 3, transactions: [["C0"]] }), prompt: true },
  ],
  "takers after a release": (log) => [
    { program: taker(log, { slot: 1, epoch: 2, transactions: TWO("A") }) },
    { program: taker(log, { slot: 2, epoch: 3, transactions: TWO("B") }) },
  ],
  /** Its lines may still be on their way when the next process of its node begins. */
  "an owner and its own successor": (log, memory) => [
    { program: owner(log, memory, { slot: 0, epoch: 1, transactions: TWO("A") }) },
    { program: taker(log, { slot: 0, epoch: 2, transactions: TWO("B") }) },
  ],
  "an owner with an unreadable claim, and a taker": (log, memory) => [
    { program: owner(log, memory, { slot: 0, epoch: 1, transactions: TWO("A") }) },
    { program: taker(log, { slot: 1, epoch: 2, transactions: TWO("B") }) },
  ],
  "data of an owner and of a taker": (log, memory) => [
    { program: owner(log, memory, { slot: 0, epoch: 1, data: "A", releases: true }) },
    { program: taker(log, { slot: 1, epoch: 2, data: "B" }) },
  ],
} as const satisfies Scenes;

export type Scene = keyof typeof SCENES;

/** Three hosts whose stores all come late are too many states with the lines of layout 2. */
const OF_LAYOUT_1: ReadonlySet<Scene> = new Set(["owner and two takers"]);

/** `spare`: entries of a run of fillers beyond the longest transaction. */
export function searchScene(scene: Scene, { spare = 3 } = {}): Found {
  const run = LONGEST + spare;
  const log = logOf(run, OF_LAYOUT_1.has(scene) ? 1 : 2);
  const memory = volume(log, {
    first: claimOf(0, 1, scene === "takers after a release"),
    unreadable: scene === "an owner with an unreadable claim, and a taker",
  });
  return search({
    memory,
    hosts: SCENES[scene](log, memory, run),
    findEnd(bytes) {
      const one = readerOf(run, () => bytes);
      const { end } = one.end();
      return { end, bad: one.firstBad(0, end) };
    },
    harm: (bytes, notes) => harmOf(run, bytes, notes),
  });
}
