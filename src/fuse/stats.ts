import { getSystemErrorName } from "node:util";
import type { OPCODES } from "./opcode.ts";
import { COUNTER, MAX_CONNECTIONS, type SharedMemory, WORKER_ERRNOS } from "./shared-memory.ts";

export interface OpcodeCounts {
  readonly requests: number;
  /** File data; 0 for all but READ and WRITE. */
  readonly bytes: number;
  readonly errors: number;
}

export interface SessionStats {
  readonly opcodes: Partial<Record<keyof typeof OPCODES, OpcodeCounts>>;
  /** Requests answered with an error, by the name of its errno; "other" where a worker met a rare one. */
  readonly errnos: Readonly<Record<string, number>>;
  /** READs and WRITEs that met bad memory (EIO). */
  readonly memoryErrors: number;
  /** Requests that wait for the file system. */
  readonly pending: number;
}

export interface DataCounts {
  readonly READ: OpcodeCounts;
  readonly WRITE: OpcodeCounts;
  readonly errnos: ErrnoCounts;
}

export const OTHER_ERRNO = 0;

/** How often each errno was answered; OTHER_ERRNO stands for those that are not told apart. */
export type ErrnoCounts = ReadonlyMap<number, number>;

export function errnoName(errno: number): string {
  return errno === OTHER_ERRNO ? "other" : getSystemErrorName(-errno);
}

/** Sums what the workers counted for the connection since it began; its slot may have had another one before. */
export class WorkerCounters {
  readonly #memory: SharedMemory;
  readonly #slot: number;
  readonly #before: readonly number[];

  constructor(memory: SharedMemory, connection: number) {
    this.#memory = memory;
    this.#slot = connection % MAX_CONNECTIONS;
    this.#before = this.#sums();
  }

  read(): DataCounts {
    const sums = this.#sums();
    const since = (counter: number) => (sums[counter] ?? 0) - (this.#before[counter] ?? 0);
    const counts = (first: number) => ({
      requests: since(first),
      bytes: since(first + 1),
      errors: since(first + 2),
    });
    return {
      READ: counts(COUNTER.reads),
      WRITE: counts(COUNTER.writes),
      errnos: new Map(
        [...WORKER_ERRNOS, OTHER_ERRNO]
          .map((errno, index): [number, number] => [errno, since(COUNTER.errnos + index)])
          .filter(([, count]) => count > 0),
      ),
    };
  }

  #sums(): number[] {
    const sums = new Array<number>(COUNTER.words).fill(0);
    for (let worker = 0; worker < this.#memory.workers; worker++) {
      const base = (worker * MAX_CONNECTIONS + this.#slot) * COUNTER.words;
      for (let word = 0; word < COUNTER.words; word++) {
        sums[word] = (sums[word] ?? 0) + (this.#memory.counters[base + word] ?? 0);
      }
    }
    return sums;
  }
}
