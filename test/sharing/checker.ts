/**
 * Judges a history: nothing acknowledged is lost or comes back, no stale write is accepted, no file shows bytes of
 * another, no name is there twice. Where a fault allows several outcomes, each of them is right until one was seen.
 */
import { BLOCKS } from "./content.ts";
import { FaultTimes } from "./faults.ts";
import { ABSENT, type History, type Operation, PRESENT, type Seen, TORN, ZERO } from "./history.ts";
import { type Elsewhere, type Look, Register, type Write } from "./register.ts";

export interface Violation {
  readonly what: string;
  readonly operation: Operation;
  /** The register, or name, it is about: its history explains it. */
  readonly register: string | undefined;
}

/** A name is at most as many renames away from where its file was made. */
const MOST_MOVES = 6;
/** So long a kernel may know a name that another node took away. */
const STALE_NAME_MS = 1000;

export function check(history: History): Violation[] {
  return new Checker(history).run();
}

class Checker {
  readonly #history: History;
  readonly #times: FaultTimes;
  readonly #registers = new Map<string, Register>();
  /** By directory: the names in it that somebody made. */
  readonly #names = new Map<string, Set<string>>();
  /** What made each version of a file. */
  readonly #makers = new Map<string, Operation>();
  /** By what they rename to what, those that were not refused. */
  readonly #renames = new Map<string, Operation[]>();
  readonly #violations: Violation[] = [];

  constructor(history: History) {
    this.#history = history;
    this.#times = new FaultTimes(history.faults);
  }

  run(): Violation[] {
    const { operations } = this.#history;
    for (const operation of operations) {
      const { kind, target, outcome } = operation;
      if (kind !== "rename" || outcome === "refused") continue;
      this.#renames.set(target, [...(this.#renames.get(target) ?? []), operation]);
    }
    for (const operation of operations) this.#addEffects(operation);
    for (const register of this.#registers.values()) register.sort();
    this.#markDurable();
    for (const operation of operations.toSorted((a, b) => a.end - b.end)) this.#judge(operation);
    this.#judgeSessions();
    return this.#violations;
  }

  #register(name: string): Register {
    const present = this.#registers.get(name);
    if (present !== undefined) return present;
    const made = new Register(name, { times: this.#times, inPlace: name.includes("#") });
    this.#registers.set(name, made);
    if (!name.includes("#")) made.add({ ...NOTHING, value: ABSENT });
    return made;
  }

  #addEffects(operation: Operation): void {
    const { node, start, end, outcome, effects, session, kind } = operation;
    const fields = { operation, node, start, end, done: outcome === "done" && !this.#mayBeDoneAlready(operation) };
    for (const effect of outcome === "refused" ? [] : effects) {
      const value = "moved" in effect ? undefined : effect.value;
      this.#register(effect.register).add({ ...fields, value, moved: "moved" in effect ? effect.moved : undefined });
      const [directory = ""] = effect.register.split("/");
      const names = this.#names.get(directory) ?? new Set();
      this.#names.set(directory, names.add(effect.register));
    }
    const [effect] = effects;
    if ((kind === "create" || kind === "overwrite") && effect !== undefined && "value" in effect) {
      const version = String(effect.value);
      this.#makers.set(version, operation);
      for (let block = 0; block < BLOCKS; block++) {
        this.#register(`${version}#${block}`).add({ ...fields, value: version, moved: undefined });
      }
    }
    for (const { block, id, errno, ...times } of session?.writes ?? []) {
      if (errno === "EAGAIN") continue;
      const done = errno === undefined && outcome === "done";
      const write = { operation, node, ...times, value: id, moved: undefined, done };
      const added = this.#register(`${session?.version}#${block}`).add(write);
      if (operation.fsynced === true && done) added.durableAt = end;
    }
  }

  /**
   * A rename that another node has just done: as long as a kernel knows the old name and has looked the new one up
   * again, both are one file for it, whose rename succeeds and does nothing.
   */
  #mayBeDoneAlready({ kind, target, node, start, end }: Operation): boolean {
    if (kind !== "rename") return false;
    const alike = this.#renames.get(target) ?? [];
    return alike.some((other) => other.node !== node && other.start < end && other.end > start - STALE_NAME_MS);
  }

  /** What an fsync of its directory made sure of. */
  #markDurable(): void {
    const syncs = this.#history.operations.filter(({ synced, outcome }) => synced !== undefined && outcome === "done");
    for (const [name, register] of this.#registers) {
      const [directory] = name.split("/");
      const here = syncs.filter(({ synced }) => synced === directory);
      if (here.length === 0) continue;
      for (const write of register.writes) {
        for (const { node, start, end } of here) {
          if (node === write.node && start >= write.end) write.durableAt = Math.min(write.durableAt, end);
        }
      }
    }
  }

  #judge(operation: Operation): void {
    if (operation.damage !== undefined) this.#report(operation, operation.damage, undefined);
    if (operation.outcome === "done" && this.#mayBeDoneAlready(operation)) return;
    for (const seen of operation.seen) {
      if (operation.kind === "list") this.#judgeListing(operation, seen);
      else {
        this.#judgeLook(operation, seen.register, lookOf(operation, seen));
        if (seen.blocks !== undefined) this.#judgeContent(operation, seen, seen.blocks);
      }
    }
  }

  #judgeLook(operation: Operation, name: string, look: Look): void {
    const register = this.#register(name);
    if (register.explain(look, this.#elsewhere(0)).length > 0) return;
    this.#report(operation, explainWrong(name, look, register), name);
  }

  #elsewhere(depth: number): Elsewhere {
    return (name, look, without) =>
      depth < MOST_MOVES && this.#register(name).mayHaveHad(look, without, this.#elsewhere(depth + 1));
  }

  #judgeListing(operation: Operation, { register: directory, value }: Seen): void {
    const listed = new Set((JSON.parse(value ?? "[]") as string[]).map((name) => `${directory}/${name}`));
    const known = this.#names.get(directory) ?? new Set();
    for (const name of listed) {
      if (!known.has(name)) this.#report(operation, `${name} is listed, and nobody made it`, name);
    }
    for (const name of known) {
      const there = listed.has(name) ? PRESENT : ABSENT;
      this.#judgeLook(operation, name, { ...lookOf(operation, { register: name, value: there, current: false }) });
    }
  }

  #judgeContent(operation: Operation, seen: Seen, blocks: readonly string[]): void {
    if (seen.mixed !== undefined) {
      if (this.#overwrittenTogether(seen.mixed)) return;
      this.#report(operation, `${seen.register} has bytes of several files: ${seen.mixed.join(", ")}`, seen.register);
      return;
    }
    const maker = seen.value === null || seen.value === PRESENT ? undefined : this.#makers.get(seen.value);
    if (blocks.length < BLOCKS || blocks.includes(ZERO) || maker === undefined) {
      if (blocks.length > BLOCKS)
        this.#report(operation, `${seen.register} is longer than what was written`, seen.register);
      else if (!this.#mayBeUnfinished(maker, operation)) {
        const what = `${seen.register} lacks bytes that were acknowledged: ${blocks.join(" ")} of ${seen.value}`;
        this.#report(operation, what, seen.register);
      }
      return;
    }
    for (const [index, id] of blocks.entries()) {
      const name = `${seen.value}#${index}`;
      if (id !== TORN) this.#judgeLook(operation, name, { ...lookOf(operation, seen), value: id });
      else if (!this.#mayBeTorn(this.#register(name), operation)) {
        this.#report(operation, `block ${index} of ${seen.register} mixes writes, and nobody was writing it`, name);
      }
    }
  }

  /** One node's programs that overwrite a file at a time write into the same one. */
  #overwrittenTogether(versions: readonly string[]): boolean {
    const makers = versions.map((version) => this.#makers.get(version));
    const [first] = makers;
    return makers.every(
      (maker) =>
        maker?.kind === "overwrite" &&
        maker.node === first?.node &&
        makers.every((other) => other !== undefined && other.start < maker.end && maker.start < other.end),
    );
  }

  /** Whether somebody was still writing that file, or may have been stopped in the middle of it. */
  #mayBeUnfinished(maker: Operation | undefined, { start, end }: Operation): boolean {
    const unfinished = (made: Operation) =>
      made.start < end && made.outcome !== "refused" && (made.outcome === "unknown" || made.end > start);
    return maker === undefined ? [...this.#makers.values()].some(unfinished) : unfinished(maker);
  }

  #mayBeTorn({ writes }: Register, { start, end }: Operation): boolean {
    return writes.some((write) => write.start < end && (write.end > start || !write.done));
  }

  /** No two nodes have one file open for write at a time, and a handle that was refused once writes no more. */
  #judgeSessions(): void {
    const byVersion = Map.groupBy(
      this.#history.operations.filter(({ session }) => session !== undefined),
      ({ session }) => session?.version ?? "",
    );
    for (const [version, operations] of byVersion) {
      for (const operation of operations) {
        const { writes = [] } = operation.session ?? {};
        const refused = writes.findIndex(({ errno }) => errno === "ESTALE");
        if (refused >= 0 && writes.slice(refused).some(({ errno }) => errno === undefined)) {
          this.#report(operation, `a handle of ${version} wrote again after its term was lost`, `${version}#`);
        }
        const span = heldFor(operation);
        const other = operations.find((each) => {
          const held = heldFor(each);
          return each.node !== operation.node && span.from < held.to && held.from < span.to && held.from >= span.from;
        });
        if (other === undefined) continue;
        const what = `${operation.node} and ${other.node} wrote ${version} at the same time: a stale write was accepted`;
        this.#report(operation, what, `${version}#`);
      }
    }
  }

  #report(operation: Operation, what: string, register: string | undefined): void {
    this.#violations.push({ what, operation, register });
  }
}

const NOTHING: Omit<Write, "seenAt" | "durableAt" | "value"> = {
  operation: undefined,
  node: "",
  start: Number.NEGATIVE_INFINITY,
  end: Number.NEGATIVE_INFINITY,
  moved: undefined,
  done: true,
};

function lookOf({ node, start, end }: Operation, { value, current }: Seen): Look {
  return { node, start, end, value, current };
}

/** While it certainly had the file open for write: until its last write that was acknowledged began. */
function heldFor({ session }: Operation): { from: number; to: number } {
  const last = session?.writes.findLast(({ errno }) => errno === undefined);
  return { from: session?.opened ?? 0, to: last?.start ?? Number.NEGATIVE_INFINITY };
}

function explainWrong(name: string, look: Look, register: Register): string {
  const seen = look.value === ABSENT ? "nothing" : look.value === PRESENT ? "something" : look.value;
  const replacement = register.replacement(look);
  const known = register.writes.some(({ value }) => value === look.value || value === undefined);
  if (replacement?.operation === undefined || (!known && look.value !== PRESENT))
    return `${name}: saw ${seen}, which nobody left there`;
  const { kind, client, end } = replacement.operation;
  const now = replacement.value === ABSENT ? "no longer there" : (replacement.value ?? `what was ${replacement.moved}`);
  const ago = Math.round(look.start - end);
  return `${name}: saw ${seen}, but since the ${kind} of ${client}, acknowledged ${ago} ms before, it is ${now}`;
}
