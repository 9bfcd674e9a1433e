/**
 * Searches every interleaving of programs that are made of the protocol's steps: on memory that stores reach late and
 * line by line, and between hosts each of which may stop for ever after any step. The programs are the product's own
 * generators; a generator cannot be copied, so a program's state is named by what its loads found, and made again by
 * sending it the same once more, each such history once.
 */
import { hasCode } from "../../base/index.ts";
import type { FoundEnd, Step } from "../ownership/steps.ts";

const LINE = 64;

/** A program of one host. It ends by returning, or by throwing (it was refused). */
export type Program = () => Generator<Step | Note | Mark, void, unknown>;

/** What a program tells the search: it takes no step. */
export interface Note {
  readonly type: "note";
  readonly note: string;
}

/** Programs that yield equal keys here go on in the same way, whatever they have loaded before. */
export interface Mark {
  readonly type: "mark";
  readonly key: string;
}

export interface Host {
  readonly program: Program;
  /** Its stores are in the memory at once: for the one that nobody overtakes, to have fewer states. */
  readonly prompt?: boolean;
}

export interface SearchOptions {
  readonly memory: Uint8Array;
  readonly hosts: readonly Host[];
  /** Reads the log to its end: for the `findEnd` of a program, of the memory as it is. */
  readonly findEnd: (memory: Uint8Array) => FoundEnd;
  /** Why a state is not allowed; undefined: it is. Called once for each memory and what was noted before. */
  readonly harm: (memory: Uint8Array, notes: readonly string[]) => string | undefined;
  /** More is not searched: an error, since it says nothing. */
  readonly limit?: number;
}

/** What a program does next, after one history of what it loaded. */
interface Place {
  readonly next: Step | Note | Mark | undefined;
  readonly following: Map<string | number, Place>;
  readonly parent: Place | undefined;
  readonly sent: unknown;
}

/** A line in the caches of a host that the memory does not have yet. */
interface Dirty {
  readonly line: number;
  readonly content: number;
  readonly flushed: boolean;
}

interface State {
  readonly lines: readonly number[];
  readonly places: readonly Place[];
  readonly dirty: readonly (readonly Dirty[])[];
  readonly notes: readonly string[];
  /** How it was reached. */
  readonly from?: State;
  readonly did?: string;
}

export interface Found {
  readonly harm: string | undefined;
  /** What led to it, one step of a host each: host, step, place. */
  readonly trace: readonly string[];
  readonly states: number;
}

/** Interns line contents, so that a state is a list of small numbers. */
class Contents {
  readonly bytes: Buffer[] = [];
  readonly #ids = new Map<string, number>();

  of(bytes: Uint8Array): number {
    const key = Buffer.from(bytes).toString("latin1");
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.bytes.length;
      this.bytes.push(Buffer.from(bytes));
      this.#ids.set(key, id);
    }
    return id;
  }

  join(lines: readonly number[]): Buffer {
    return Buffer.concat(lines.map((id) => this.bytes[id] as Buffer));
  }
}

export function search(options: SearchOptions): Found {
  const { hosts, limit = 5_000_000 } = options;
  const marked = new Map<string, Place>();
  const contents = new Contents();
  const ids = new Map<Place, number>();
  const judged = new Map<string, string | undefined>();
  const idOf = (place: Place) => {
    let id = ids.get(place);
    if (id === undefined) {
      id = ids.size;
      ids.set(place, id);
    }
    return id;
  };

  /** `place` after its step found `found`; `key` tells apart what may be found. */
  const follow = (index: number, place: Place, key: string | number, found: unknown): Place => {
    const known = place.following.get(key);
    if (known !== undefined) return known;
    const history: unknown[] = [found];
    for (let at: Place = place; at.parent !== undefined; at = at.parent) history.push(at.sent);
    const run = (hosts[index] as Host).program();
    let next = step(run, undefined);
    for (const sent of history.reverse()) next = step(run, sent);
    let after: Place = { next, following: new Map(), parent: place, sent: found };
    if (next?.type === "mark") {
      const known = marked.get(`${index} ${next.key}`);
      if (known === undefined) marked.set(`${index} ${next.key}`, after);
      after = known ?? after;
    }
    place.following.set(key, after);
    return after;
  };

  const memoryOf = (lines: readonly number[]) => contents.join(lines);
  const start: State = settle({
    lines: Array.from({ length: options.memory.byteLength / LINE }, (_, line) =>
      contents.of(options.memory.subarray(line * LINE, (line + 1) * LINE)),
    ),
    places: hosts.map(({ program }) => ({
      next: step(program(), undefined),
      following: new Map(),
      parent: undefined,
      sent: undefined,
    })),
    dirty: hosts.map(() => []),
    notes: [],
  });
  const seen = new Set<string>();
  const pending: State[] = [];
  let last = start;
  let harm = visit(start);
  for (let state = pending.pop(); state !== undefined && harm === undefined; state = pending.pop()) {
    if (seen.size > limit) throw new Error(`more than ${limit} states`);
    for (const next of successors(state)) {
      last = next;
      harm = visit(next);
      if (harm !== undefined) break;
    }
  }
  const trace: string[] = [];
  for (let at: State | undefined = last; at !== undefined; at = at.from)
    if (at.did !== undefined) trace.unshift(at.did);
  return { harm, trace, states: seen.size };

  function visit(state: State): string | undefined {
    const words = state.lines.join();
    const key = `${words};${state.places.map(idOf).join()};${state.dirty
      .map((lines) => lines.map(({ line, content, flushed }) => `${line}:${content}${flushed ? "f" : ""}`).join())
      .join("/")};${state.notes.join()}`;
    if (seen.has(key)) return undefined;
    seen.add(key);
    pending.push(state);
    const judgedKey = `${words};${state.notes.join()}`;
    if (!judged.has(judgedKey)) judged.set(judgedKey, options.harm(memoryOf(state.lines), state.notes));
    return judged.get(judgedKey);
  }

  function* successors(state: State): Generator<State> {
    for (const [host, place] of state.places.entries()) {
      if (place.next !== undefined && isVisible(place.next)) {
        yield settle({ ...advance(state, host, place.next), from: state, did: described(host, place.next) });
      }
      for (const lines of arrivals(state.dirty[host] ?? [])) {
        const [{ line } = { line: 0 }] = lines;
        yield { ...arrive(state, host, lines), from: state, did: `${host}: line ${line} (of ${lines.length}) arrives` };
      }
    }
  }

  /** Notes and flushes change nothing that another host sees: taken at once. */
  function settle(from: State): State {
    let state = from;
    for (const host of from.places.keys()) {
      for (let next = state.places[host]?.next; next !== undefined && !isVisible(next); ) {
        state = advance(state, host, next);
        next = state.places[host]?.next;
      }
    }
    return state;
  }

  function advance(state: State, host: number, next: Step | Note | Mark): State {
    const place = state.places[host] as Place;
    const moved = (changed: Partial<State>, key: string | number = "", found?: unknown): State => ({
      ...state,
      ...changed,
      places: state.places.with(host, follow(host, place, key, found)),
    });
    const own = state.dirty[host] ?? [];
    switch (next.type) {
      case "mark":
        return moved({});
      case "note":
        return moved({ notes: [...state.notes, next.note].sort() });
      case "load": {
        const bytes = seenBy(state, host).subarray(next.at, next.at + next.length);
        return moved({}, `${Buffer.from(bytes).toString("latin1")}`, new Uint8Array(bytes));
      }
      case "findEnd": {
        const found = options.findEnd(seenBy(state, host));
        return moved({}, JSON.stringify(found), found);
      }
      case "store":
        return moved(storing(state, host, next.at, next.bytes));
      case "store64":
      case "storePair": {
        const bytes = Buffer.from(BigUint64Array.of(next.value, next.value).buffer).subarray(
          next.type === "store64" ? 8 : 0,
        );
        return moved(storing(state, host, next.at, bytes));
      }
      case "flush": {
        const within = ({ line }: Dirty) => line * LINE < next.at + next.length && (line + 1) * LINE > next.at;
        return moved({
          dirty: state.dirty.with(
            host,
            own.map((dirty) => (within(dirty) ? { ...dirty, flushed: true } : dirty)),
          ),
        });
      }
      case "fence": {
        const arrived = arrive(
          state,
          host,
          own.filter(({ flushed }) => flushed),
        );
        return moved({ lines: arrived.lines, dirty: arrived.dirty });
      }
      default:
        return next satisfies never;
    }
  }

  function storing(state: State, host: number, at: number, bytes: Uint8Array): Partial<State> {
    const dirty = stored(state, host, at, bytes);
    if (hosts[host]?.prompt !== true) return { dirty: state.dirty.with(host, dirty) };
    const { lines } = arrive(state, host, dirty);
    return { lines };
  }

  function arrive(state: State, host: number, which: readonly Dirty[]): State {
    let lines = state.lines;
    for (const { line, content } of which) lines = lines.with(line, content);
    const left = (state.dirty[host] ?? []).filter((dirty) => !which.includes(dirty));
    return { ...state, lines, dirty: state.dirty.with(host, left) };
  }

  /** The memory, with the lines that this host has in its caches. */
  function seenBy(state: State, host: number): Buffer {
    let lines = state.lines;
    for (const { line, content } of state.dirty[host] ?? []) lines = lines.with(line, content);
    return memoryOf(lines);
  }

  /** A whole line is fetched for a store into it, and so written back with what else it held. */
  function stored(state: State, host: number, at: number, bytes: Uint8Array): readonly Dirty[] {
    const own = [...(state.dirty[host] ?? [])];
    for (let line = Math.floor(at / LINE); line * LINE < at + bytes.byteLength; line++) {
      const index = own.findIndex((dirty) => dirty.line === line);
      const content = Buffer.from(contents.bytes[own[index]?.content ?? (state.lines[line] as number)] as Buffer);
      const from = Math.max(0, line * LINE - at);
      content.set(bytes.subarray(from, (line + 1) * LINE - at), at + from - line * LINE);
      const dirty = { line, content: contents.of(content), flushed: false };
      if (index < 0) own.push(dirty);
      else own[index] = dirty;
    }
    return own.sort((a, b) => a.line - b.line);
  }
}

/**
 * Dirty lines leave the caches when they like: here the first and the last one, which are shared with neighbours, each
 * by itself, and what lies between together, to have fewer states.
 */
function arrivals(dirty: readonly Dirty[]): readonly (readonly Dirty[])[] {
  return [dirty.slice(0, 1), dirty.slice(1, -1), dirty.length < 2 ? [] : dirty.slice(-1)].filter(
    (lines) => lines.length > 0,
  );
}

function isVisible(next: Step | Note | Mark): boolean {
  return next.type !== "note" && next.type !== "mark" && next.type !== "flush";
}

function described(host: number, step: Step | Note | Mark): string {
  const where = "at" in step ? ` ${step.at}` : "";
  return `${host}: ${step.type}${where}${"value" in step ? ` := ${step.value}` : ""}`;
}

/** The next step, or undefined when the program has ended. */
function step(run: ReturnType<Program>, sent: unknown): Step | Note | Mark | undefined {
  try {
    const { value, done } = run.next(sent);
    return done === true ? undefined : value;
  } catch (error) {
    if (hasCode(error, "OWNER_STALE", "LOG_CORRUPT")) return undefined;
    throw error;
  }
}
