/** Which error may be the answer to what, and when. */
import { FaultTimes } from "./faults.ts";
import type { History, Operation } from "./history.ts";

/** How long an operation waits for the right to write before EAGAIN: src/tree/options.ts. */
const NAMES_WAIT_MS = 5000;
const OPEN_WAIT_MS = 30_000;
/** Timers may be that much early: they count whole milliseconds. */
const EARLY_MS = 50;
/** Of the operations while nobody is stopped. */
const MOST_EAGAIN = 0.001;

export interface ErrorCount {
  /** While nobody was stopped, or still felt. */
  calm: number;
  disturbed: number;
}

export interface WrongError {
  readonly operation: Operation;
  readonly what: string;
}

export interface ErrorReport {
  readonly counts: Readonly<Record<string, ErrorCount>>;
  readonly calmOperations: number;
  readonly wrong: readonly WrongError[];
}

/** Names come and go: these say how they are, and the checker judges that. */
const ABOUT_NAMES = new Set(["ENOENT", "EEXIST"]);

export function judgeErrors({ operations, faults }: History): ErrorReport {
  const times = new FaultTimes(faults);
  const counts: Record<string, ErrorCount> = {};
  const wrong: WrongError[] = [];
  const late: Operation[] = [];
  let calmOperations = 0;
  for (const operation of operations) {
    const calm = times.calm(operation);
    if (calm) calmOperations++;
    const { errno } = operation;
    if (errno === undefined) continue;
    counts[errno] ??= { calm: 0, disturbed: 0 };
    counts[errno][calm ? "calm" : "disturbed"]++;
    const what = whyWrong(operation, times, calm);
    if (what !== undefined) wrong.push({ operation, what });
    else if (errno === "EAGAIN" && calm) late.push(operation);
  }
  const [first] = late;
  if (first !== undefined && late.length > calmOperations * MOST_EAGAIN) {
    const what = `${late.length} EAGAIN in ${calmOperations} operations while nobody was stopped: more than 1 in ${1 / MOST_EAGAIN}`;
    wrong.push({ operation: first, what });
  }
  return { counts, calmOperations, wrong };
}

function whyWrong(operation: Operation, times: FaultTimes, calm: boolean): string | undefined {
  const { errno, step, kind, node, seen } = operation;
  const told = `${errno} from ${step}`;
  switch (errno) {
    case "EAGAIN": {
      const waited = operation.end - operation.stepStart;
      const documented = documentedWaitMs(operation);
      if (!calm || waited >= documented - EARLY_MS) return undefined;
      return `${told} after ${Math.round(waited)} ms; it may come after ${documented} ms`;
    }
    case "ESTALE":
      return times.mayBeStale(node, operation) ? undefined : `${told}, and ${node} lost no term`;
    case "ENOTCONN":
    case "ECONNABORTED":
      return times.killed(node, operation) ? undefined : `${told}, and nobody killed a process of ${node}`;
    default:
      if (errno !== undefined && ABOUT_NAMES.has(errno) && seen.length > 0) return undefined;
      return `${told} of ${kind}`;
  }
}

function documentedWaitMs({ kind, step }: Operation): number {
  const opens = kind === "update" && step !== "close";
  return opens ? OPEN_WAIT_MS : NAMES_WAIT_MS;
}
