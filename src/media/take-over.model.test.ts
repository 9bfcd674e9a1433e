/**
 * Append against take-over, exhaustively: every interleaving of the single loads and stores of an old owner, two
 * takers and a reader on sequentially consistent memory, each of which may stop for ever at any point. What
 * `log-writer.ts`, `log-reader.ts` and native/log.c do is written down here once more, small enough to be searched, and
 * every rule can be switched off: then the search must find the harm that the rule prevents.
 *
 * Not in the model: weaker memory (the addon fences, see native/cache.c), and more than one append in flight per node
 * (LogWriter appends synchronously).
 */
import assert from "node:assert/strict";
import { test } from "node:test";

interface Rules {
  /** The owner checks the claims again before it acknowledges. */
  readonly checkAgain: boolean;
  /** A taker claims before it reads where the log ends. */
  readonly claimFirst: boolean;
  /** Length of a taker's run of fillers: one more than the longest transaction. */
  readonly run: number;
  /** The last filler of the run, which no late transaction reaches, is stored before the others. */
  readonly lastFirst: boolean;
  /** Readers go past the counter where a run is. */
  readonly lookPast: boolean;
  /** Entries in the place of a run are not applied, whatever they are. */
  readonly covered: boolean;
  /** A late filler in the run of a later epoch says nothing. */
  readonly outbid: boolean;
  /** A reader begins again when what it has was written by an owner that had lost the log. */
  readonly retract: boolean;
  /** It does so only when what it has differs from what is there now. */
  readonly compare: boolean;
  /** The first entry of a transaction is stored last. */
  readonly firstLast: boolean;
  /** Epochs come from a compare-and-swap in the store, not from what is seen in the memory. */
  readonly epochFromStore: boolean;
}

const LONGEST = 2;
const OURS: Rules = {
  checkAgain: true,
  claimFirst: true,
  run: LONGEST + 1,
  lastFirst: true,
  lookPast: true,
  covered: true,
  outbid: true,
  retract: true,
  compare: true,
  firstLast: true,
  epochFromStore: true,
};

/** "" was never written, "~" is torn; a filler says where its run begins. */
interface Filler {
  readonly first: number;
  readonly epoch: number;
}
type Entry = string | Filler;

interface State {
  claims: number[];
  log: Entry[];
  counter: number;
  acknowledged: { index: number; name: string }[];
  /** By actor: the next step, and where it found the end of the log (or the highest epoch). */
  pcs: number[];
  ends: number[];
  delivered: string[];
  deliveredRuns: Entry[];
  harm: string;
}

/** One load or store, or a check; false: this actor does nothing more. */
type Step = (state: State) => boolean;

/** A step that always goes on. */
const always =
  (action: (state: State) => void): Step =>
  (state) => {
    action(state);
    return true;
  };

const isFiller = (entry: Entry | undefined) => typeof entry === "object";
const isValid = (entry: Entry | undefined) => entry !== undefined && entry !== "" && entry !== "~";

/** Fillers near `index` whose run has it. */
function runsAt(state: State, rules: Rules, index: number): { at: number; first: number; epoch: number }[] {
  return state.log.flatMap((entry, at) =>
    typeof entry === "object" &&
    Math.abs(at - index) < rules.run &&
    entry.first <= index &&
    index < entry.first + rules.run
      ? [{ at, ...entry }]
      : [],
  );
}

function isCovered(state: State, rules: Rules, index: number): boolean {
  if (!rules.covered) return false;
  return runsAt(state, rules, index).some(
    ({ at, epoch }) => !rules.outbid || runsAt(state, rules, at).every((other) => other.epoch <= epoch),
  );
}

function endOf(state: State, rules: Rules, counter: number): number {
  const hidden = isFiller(state.log[counter]) || isCovered(state, rules, counter);
  let end = counter;
  if (rules.lookPast && hidden) while (isValid(state.log[end]) || isCovered(state, rules, end)) end++;
  return end;
}

/** What a reader that begins now sees: "F" for what is not applied. */
function read(state: State, rules: Rules): string[] {
  const seen: string[] = [];
  const end = endOf(state, rules, state.counter);
  for (let index = 0; index < end; index++) {
    const entry = state.log[index];
    if (isFiller(entry) || isCovered(state, rules, index)) seen.push("F");
    else if (typeof entry === "string" && isValid(entry)) seen.push(entry);
    else break;
  }
  return seen;
}

const owns = (state: State, me: number) =>
  state.claims.every((epoch, node) => node === me || epoch < (state.claims[me] ?? 0));

/** Check, entries (each torn for a moment), counter, check. `at` is looked up when a step runs. */
function append(me: number, rules: Rules, names: readonly string[], at: (state: State) => number): Step[] {
  const store = (position: number, entry: string) =>
    always((state) => {
      state.log[at(state) + position] = entry;
    });
  const stores = names.map((name, position) => [store(position, "~"), store(position, name)]);
  if (rules.firstLast) stores.reverse();
  return [
    (state) => owns(state, me),
    ...stores.flat(),
    always((state) => {
      state.counter = at(state) + names.length;
    }),
    (state) => {
      if (rules.checkAgain && !owns(state, me)) return false;
      for (const [position, name] of names.entries()) state.acknowledged.push({ index: at(state) + position, name });
      return true;
    },
  ];
}

function taker(me: number, rules: Rules, names: readonly string[]): Step[] {
  const end = (state: State) => state.ends[me] ?? 0;
  const owner: Step = (state) => owns(state, me);
  const remember = (value: (state: State) => number) =>
    always((state) => {
      state.ends[me] = value(state);
    });
  const claimAs = (epoch: (state: State) => number) =>
    always((state) => {
      state.claims[me] = epoch(state);
    });
  const claim = rules.epochFromStore
    ? [claimAs(() => me + 1)]
    : [remember((state) => Math.max(...state.claims)), claimAs((state) => end(state) + 1)];
  const look = [remember((state) => state.counter), remember((state) => endOf(state, rules, end(state)))];
  const filler = (position: number) =>
    always((state) => {
      state.log[end(state) + position] = { first: end(state), epoch: me + 1 };
    });
  const others = [...Array(Math.max(0, rules.run - 1)).keys()].map(filler);
  const last = rules.run === 0 ? [] : [owner, filler(rules.run - 1), owner];
  const raise = always((state) => {
    state.counter = end(state) + rules.run;
  });
  return [
    ...(rules.claimFirst ? [...claim, ...look] : [...look, ...claim]),
    ...(rules.lastFirst ? [...last, ...others] : [...others, ...last]),
    owner,
    raise,
    ...(names.length === 0 ? [] : append(me, rules, names, (state) => end(state) + rules.run)),
  ];
}

/** Polls twice, as LogReader does: what it was given before must still hold, or a filler must tell it otherwise. */
function reader(rules: Rules): Step[] {
  return [
    always((state) => {
      state.delivered = read(state, rules);
      state.deliveredRuns = state.log.slice(0, state.delivered.length);
    }),
    always((state) => {
      const now = read(state, rules);
      const { delivered, deliveredRuns } = state;
      const inRun = (filler: Filler, at: number) => at >= filler.first && at < filler.first + rules.run;
      const told = state.log.some(
        (entry, index) =>
          typeof entry === "object" &&
          index >= delivered.length &&
          index < now.length &&
          (delivered.some((name, at) => name !== "F" && inRun(entry, at)) ||
            deliveredRuns.some((run, at) => typeof run === "object" && run.first < entry.first && inRun(entry, at))),
      );
      const differs = delivered.some((name, at) => at < now.length && name !== now[at]);
      const beginsAgain = rules.retract && told && (differs || !rules.compare);
      if (differs && !beginsAgain) state.harm = `a reader had ${delivered.join()}, now it is ${now.join()}`;
      if (beginsAgain && !differs) state.harm = `a reader of ${now.join()} begins again for ever`;
    }),
  ];
}

function harmOf(state: State, rules: Rules): string {
  if (state.harm !== "") return state.harm;
  const seen = read(state, rules);
  for (const { index, name } of state.acknowledged) {
    if (seen[index] !== name) return `acknowledged ${name} at ${index} is lost: ${seen.join()}`;
  }
  for (const name of ["A", "B"]) {
    if (seen.includes(`${name}0`) !== seen.includes(`${name}1`)) return `half of ${name}'s transaction: ${seen.join()}`;
  }
  const epochs = state.claims.filter((epoch) => epoch > 0);
  return new Set(epochs).size === epochs.length ? "" : `nodes share an epoch: ${state.claims.join()}`;
}

/** B and C append after they have taken over, "B quiet" and "C quiet" do not. */
type Actor = "A" | "B" | "C" | "B quiet" | "C quiet" | "reader";

/** Every reachable state once. A harm, or undefined and how many states there are. */
function search(rules: Rules, actors: readonly Actor[]): { harm: string | undefined; states: number } {
  const all: Record<Actor, Step[]> = {
    A: append(0, rules, ["A0", "A1"], () => 0),
    B: taker(1, rules, ["B0", "B1"]),
    C: taker(2, rules, ["C0"]),
    "B quiet": taker(1, rules, []),
    "C quiet": taker(2, rules, []),
    reader: reader(rules),
  };
  const programs = actors.map((actor) => all[actor]);
  const start: State = {
    claims: [1, 0, 0],
    log: [],
    counter: 0,
    acknowledged: [],
    pcs: programs.map(() => 0),
    ends: [0, 0, 0],
    delivered: [],
    deliveredRuns: [],
    harm: "",
  };
  const seen = new Set<string>();
  const pending = [start];
  for (let state = pending.pop(); state !== undefined; state = pending.pop()) {
    for (const [actor, program] of programs.entries()) {
      const step = program[state.pcs[actor] ?? 0];
      if (step === undefined) continue;
      const next = copyOf(state);
      next.pcs[actor] = step(next) ? (state.pcs[actor] ?? 0) + 1 : program.length;
      const key = JSON.stringify(next);
      if (seen.has(key)) continue;
      seen.add(key);
      const harm = harmOf(next, rules);
      if (harm !== "") return { harm, states: seen.size };
      pending.push(next);
    }
  }
  return { harm: undefined, states: seen.size };
}

function copyOf(state: State): State {
  return {
    ...state,
    claims: state.claims.slice(),
    log: Array.from(state.log, (entry) => entry ?? ""),
    acknowledged: state.acknowledged.slice(),
    pcs: state.pcs.slice(),
    ends: state.ends.slice(),
  };
}

for (const actors of [
  ["A", "B", "reader"],
  ["A", "B", "C"],
  ["A", "B quiet", "C quiet", "reader"],
] as const) {
  test(`${actors.join(", ")}: nothing acknowledged is lost, nothing is half there, no epoch shared, no reader misled`, () => {
    const { harm, states } = search(OURS, actors);
    assert.equal(harm, undefined);
    assert.ok(states > 1000, `${states} states`);
  });
}

const BROKEN: readonly [string, Partial<Rules>, readonly Actor[], RegExp][] = [
  ["no second check", { checkAgain: false }, ["A", "B"], /is lost/],
  ["reading the end before claiming", { claimFirst: false }, ["A", "B"], /is lost/],
  ["no filler", { run: 0 }, ["A", "B"], /is lost|half/],
  ["a run as long as a transaction", { run: LONGEST }, ["A", "B"], /is lost|half/],
  ["the last filler after the others", { lastFirst: false }, ["A", "B", "reader"], /had/],
  ["readers that stop at the counter", { lookPast: false }, ["A", "B"], /is lost/],
  ["applying what a late transaction put into a run", { covered: false }, ["A", "B"], /half|is lost/],
  ["late fillers that count", { outbid: false }, ["A", "B quiet", "C quiet", "reader"], /had|is lost|half/],
  ["readers that never begin again", { retract: false }, ["A", "B", "reader"], /had/],
  ["readers that believe every filler", { compare: false }, ["A", "B quiet", "C quiet", "reader"], /for ever/],
  ["a transaction stored first to last", { firstLast: false }, ["A", "B", "C"], /half/],
  ["epochs from the memory", { epochFromStore: false }, ["A", "B", "C"], /share an epoch/],
];

for (const [name, broken, actors, expected] of BROKEN) {
  test(`${name}: the search finds the harm`, () => {
    const { harm, states } = search({ ...OURS, ...broken }, actors);
    assert.match(harm ?? `none in ${states} states`, expected);
  });
}
