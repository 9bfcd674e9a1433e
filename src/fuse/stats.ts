import type { OPCODES } from "./opcode.ts";
import { COUNTER, MAX_CONNECTIONS, type SharedMemory } from "./shared-memory.ts";

export interface OpcodeCounts {
  readonly requests: number;
  /** File data; 0 for all but READ and WRITE. */
  readonly bytes: number;
  readonly errors: number;
}

export interface SessionStats {
  readonly opcodes: Partial<Record<keyof typeof OPCODES, OpcodeCounts>>;
  /** READs and WRITEs that met bad memory (EIO). */
  readonly memoryErrors: number;
  /** Requests that wait for the file system. */
  readonly pending: number;
}

export interface DataCounts {
  readonly READ: OpcodeCounts;
  readonly WRITE: OpcodeCounts;
  readonly memoryErrors: number;
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
      memoryErrors: since(COUNTER.memoryErrors),
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
