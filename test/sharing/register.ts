/** One name, or one block of a file: all that was written into it, and whether a value that was seen may be. */
import type { FaultTimes } from "./faults.ts";
import { ABSENT, type Operation, PRESENT } from "./history.ts";

/**
 * Another node sees what was sealed some milliseconds later; here with the second until it is sealed, and a busy
 * machine.
 */
const VISIBLE_MS = 10_000;
/**
 * What was neither fsynced nor seen elsewhere may be lost with its node for as long: it seals a second after its close.
 */
const SEALED_MS = 15_000;

export interface Write {
  readonly operation: Operation | undefined;
  readonly node: string;
  readonly start: number;
  readonly end: number;
  /** undefined: what `moved` had. */
  readonly value: string | typeof ABSENT | undefined;
  readonly moved: string | undefined;
  /** It was acknowledged. */
  readonly done: boolean;
  /** When an fsync had made sure that no fault of the node can take it back. */
  durableAt: number;
  /** Per node: since when it is known to have been seen there. */
  readonly seenAt: Map<string, number>;
}

export interface Look {
  readonly node: string;
  readonly start: number;
  readonly end: number;
  readonly value: string | typeof ABSENT;
  /** With the right to write: whatever was acknowledged anywhere counts. */
  readonly current: boolean;
}

/** Whether `value` may have been in another register at that time: for names that were renamed. */
export type Elsewhere = (register: string, look: Look, without: Write) => boolean;

export class Register {
  readonly name: string;
  readonly writes: Write[] = [];
  readonly #times: FaultTimes;
  /** A block in place is in the memory at once, but other nodes' caches hear of it only by an announcement. */
  readonly #inPlace: boolean;

  constructor(name: string, { times, inPlace }: { times: FaultTimes; inPlace: boolean }) {
    this.name = name;
    this.#times = times;
    this.#inPlace = inPlace;
  }

  add(write: Omit<Write, "seenAt" | "durableAt">): Write {
    const added = { ...write, durableAt: write.end + SEALED_MS, seenAt: new Map() };
    this.writes.push(added);
    return added;
  }

  /** After the last `add`. */
  sort(): void {
    this.writes.sort((a, b) => a.start - b.start);
  }

  /**
   * The writes that `look` may have seen: not begun later, and nothing is known to have replaced them. None: what was
   * seen is wrong. A single one is known from now on to have happened.
   */
  explain(look: Look, elsewhere: Elsewhere): Write[] {
    const possible = this.#shown(look).filter((write) => this.#hasValue(write, look, elsewhere));
    const [only] = possible;
    if (only !== undefined && possible.length === 1 && look.value !== PRESENT) {
      only.seenAt.set(look.node, Math.min(look.end, only.seenAt.get(look.node) ?? Number.POSITIVE_INFINITY));
    }
    return possible;
  }

  /** As `explain`, of a name that `without` moved away. Notes nothing. */
  mayHaveHad(look: Look, without: Write, elsewhere: Elsewhere): boolean {
    return this.#shown(look).some(
      (write) => write.operation !== without.operation && this.#hasValue(write, look, elsewhere),
    );
  }

  /** What replaced the last write of that value, for people. */
  replacement(look: Look): Write | undefined {
    return this.writes.findLast((write) => this.#binds(write, look));
  }

  /** All that may be there for `look`, whatever it saw. */
  #shown(look: Look): Write[] {
    const binding = this.replacement(look)?.start ?? Number.NEGATIVE_INFINITY;
    return this.writes.filter(({ start, end }) => start < look.end && end >= binding);
  }

  #hasValue(write: Write, look: Look, elsewhere: Elsewhere): boolean {
    if (look.value === PRESENT) return write.value !== ABSENT;
    if (write.moved === undefined || look.value === ABSENT) return write.value === look.value;
    const { node, start, end } = write;
    return elsewhere(write.moved, { node, start, end, value: look.value, current: true }, write);
  }

  /** Whether `look` must have seen `write`, or something after it. */
  #binds(write: Write, look: Look): boolean {
    if (write.start >= look.start) return false;
    const late = look.current || look.node === write.node ? 0 : VISIBLE_MS + this.#deaf(write, look);
    const mayBeLost = this.#times.lost(write.node, {
      start: write.start,
      end: Math.min(this.#durableAt(write), look.end),
    });
    if (write.done && !mayBeLost && write.end + late < look.start) return true;
    for (const [node, at] of write.seenAt) {
      const sameNode = node === look.node;
      // What only its own node has seen may be lost with it.
      if (node === write.node && (!sameNode || this.#times.lost(node, { start: write.start, end: look.end }))) continue;
      if (!sameNode && this.#inPlace && mayBeLost) continue;
      if (at + (sameNode || look.current ? 0 : late) < look.start) return true;
    }
    return false;
  }

  #durableAt(write: Write): number {
    const elsewhere = [...write.seenAt].filter(([node]) => node !== write.node).map(([, at]) => at);
    return Math.min(write.durableAt, ...(this.#inPlace ? [] : elsewhere));
  }

  #deaf(write: Write, look: Look): number {
    return this.#times.deafMs([write.node, look.node], { start: write.end, end: look.start });
  }
}
