/** When nodes were disturbed, as the judges ask for it. */
import { type Fault, losesTerm } from "./history.ts";

/** Until leases, take-overs and queues that a fault upset are as before. */
const RECOVERY_MS = 25_000;
/** A handle or a call of before a loss may still be told of it for as long. */
const AFTERMATH_MS = 60_000;

interface Interval {
  readonly start: number;
  readonly end: number;
}

export class FaultTimes {
  readonly #faults: readonly Fault[];

  constructor(faults: readonly Fault[]) {
    this.#faults = faults;
  }

  /** Nobody was stopped or killed, or is still felt. */
  calm({ start, end }: Interval): boolean {
    return !this.#faults.some((fault) => fault.start <= end && fault.end + RECOVERY_MS >= start);
  }

  /** The node may have lost what it had not sealed, or the right to write, within the time. */
  lost(node: string, { start, end }: Interval): boolean {
    return this.#faults.some(
      (fault) => fault.node === node && losesTerm(fault) && fault.start <= end && fault.end >= start,
    );
  }

  /** The node's handles may be told that their term is over. */
  mayBeStale(node: string, { start, end }: Interval): boolean {
    return this.lost(node, { start: start - AFTERMATH_MS, end });
  }

  /** The node's connection was gone within the time. */
  killed(node: string, { start, end }: Interval): boolean {
    return this.#faults.some(
      (fault) =>
        fault.node === node && fault.kind.startsWith("kill") && fault.start <= end && fault.end + 1000 >= start,
    );
  }

  /** For how long of the time a node could not tell, or hear, what happened; Infinity when it was killed. */
  deafMs(nodes: readonly string[], { start, end }: Interval): number {
    let total = 0;
    for (const fault of this.#faults) {
      if (!nodes.includes(fault.node) || fault.start > end || fault.end < start) continue;
      if (losesTerm(fault)) total += fault.end - fault.start + RECOVERY_MS;
      else total += Math.min(fault.end, end) - Math.max(fault.start, start);
    }
    return total;
  }
}
