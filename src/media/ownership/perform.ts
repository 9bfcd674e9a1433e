import { setTimeout as sleep } from "node:timers/promises";
import { native } from "../../../native/index.ts";
import type { Window } from "../window.ts";
import type { FoundEnd, Plan, PlanStep, Step, Steps, StoreStep } from "./steps.ts";

/** The memory of one volume, as this host sees it. */
export interface Memory {
  readonly window: Window;
  /** Whether the caches of all hosts agree by themselves; otherwise lines are dropped before they are read. */
  readonly coherent: boolean;
  /** Reads the log to its end, once. */
  findEnd(): FoundEnd;
}

/** How long a taker waits, in sum, for entries below the counter that are not valid yet. */
const ARRIVAL_MS = 1000;

/** Carries `steps` out, to the end. */
export function perform<T>(steps: Steps<T>, memory: Memory): T {
  for (let step = steps.next(); ; step = steps.next(take(memory, step.value)))
    if (step.done === true) return step.value;
}

/** The same, and waits for entries that are still on their way. */
export async function performWaiting<T>(steps: Steps<T>, memory: Memory): Promise<T> {
  for (let step = steps.next(); ; ) {
    if (step.done === true) return step.value;
    step = steps.next(step.value.type === "findEnd" ? await arrivedEnd(memory) : take(memory, step.value));
  }
}

/** The place of the look that failed in `plan`, or undefined when all of it is done: one call of the addon. */
export function performPlan(plan: Plan, guard: number, window: Window): number | undefined {
  const { steps, bytes } = encodePlan(plan);
  const done = native.planRun(window.id, guard, steps, bytes);
  return done === plan.length ? undefined : done;
}

/** For `native.planRun`: four numbers for each step, and the bytes of all stores. */
export function encodePlan(plan: Plan): { readonly steps: Float64Array; readonly bytes: Uint8Array } {
  const steps = new Float64Array(4 * plan.length);
  const stored: Uint8Array[] = [];
  let length = 0;
  for (const [at, step] of plan.entries()) {
    steps.set(operandsOf(step, length), 4 * at);
    if (step.type !== "store") continue;
    stored.push(step.bytes);
    length += step.bytes.byteLength;
  }
  return { steps, bytes: Buffer.concat(stored, length) };
}

function operandsOf(step: PlanStep, stored: number): readonly number[] {
  switch (step.type) {
    case "look":
      return [0];
    case "store":
      return [1, step.at, stored, step.bytes.byteLength];
    case "store64":
      return [2, step.at, Number(step.value)];
    case "storePair":
      return [5, step.at, Number(step.value)];
    case "flush":
      return [3, step.at, step.length];
    case "fence":
      return [4];
    default:
      return step satisfies never;
  }
}

function take(memory: Memory, step: Step): unknown {
  const { window, coherent } = memory;
  switch (step.type) {
    case "load":
      if (!coherent) window.invalidate(step.at, step.length);
      return window.read(step.at, step.length);
    case "findEnd":
      return memory.findEnd();
    default:
      store(window, step);
      return undefined;
  }
}

function store(window: Window, step: StoreStep): void {
  switch (step.type) {
    case "store":
      window.copyIn(step.at, step.bytes);
      break;
    case "store64":
      window.store64(step.at, step.value);
      break;
    case "storePair":
      window.copyIn(step.at, new Uint8Array(BigUint64Array.of(step.value, step.value).buffer));
      break;
    case "flush":
      window.flush(step.at, step.length);
      break;
    case "fence": // each flush ends with one
      break;
    default:
      step satisfies never;
  }
}

async function arrivedEnd(memory: Memory): Promise<FoundEnd> {
  let found = memory.findEnd();
  for (let waitMs = 1; found.bad !== undefined && waitMs < ARRIVAL_MS; waitMs *= 2) {
    await sleep(waitMs);
    found = memory.findEnd();
  }
  return found;
}
