import { print } from "../output.ts";

/** One line per step: what was done, what came of it, how long it took. */
export interface Step {
  readonly step: string;
  readonly outcome: string;
  readonly ok: boolean;
  readonly ms: number;
}

/** Runs the demo's steps in order, tells them as they happen, and keeps them for the verdict. */
export class Story {
  readonly steps: Step[] = [];
  readonly #tell: boolean;

  /** `tell` false: nothing is printed (JSON output prints everything at the end). */
  constructor(tell: boolean) {
    this.#tell = tell;
  }

  get ok(): boolean {
    return this.steps.every((step) => step.ok);
  }

  heading(text: string): void {
    if (this.#tell) print(`\n${text}`);
  }

  note(text: string): void {
    if (this.#tell) print(text);
  }

  /** Does `action`; what it returns is the outcome. A throw is told and passed on: later steps build on this one. */
  async step<T>(step: string, action: () => Promise<T>, outcome: (result: T) => string): Promise<T> {
    const started = performance.now();
    try {
      const result = await action();
      this.#add({ step, outcome: outcome(result), ok: true, ms: performance.now() - started });
      return result;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#add({ step, outcome: message, ok: false, ms: performance.now() - started });
      throw error;
    }
  }

  /** Does what must be refused: fine only when it fails with one of `expected`, the `code` of the error. */
  async refused(step: string, expected: readonly string[], action: () => Promise<unknown>): Promise<void> {
    const started = performance.now();
    let outcome: string;
    let ok = false;
    try {
      await action();
      outcome = `was not refused (expected ${expected.join(" or ")})`;
    } catch (error) {
      const code = String((error as { code?: unknown }).code);
      ok = expected.includes(code);
      const message = error instanceof Error ? error.message : String(error);
      outcome = ok ? `refused: ${message}` : `failed with ${message}, expected ${expected.join(" or ")}`;
    }
    this.#add({ step, outcome, ok, ms: performance.now() - started });
  }

  /** A claim about facts in hand. */
  check(step: string, ok: boolean, outcome: string): void {
    this.#add({ step, outcome, ok, ms: 0 });
  }

  #add(step: Step): void {
    this.steps.push(step);
    if (!this.#tell) return;
    const time = step.ms < 0.05 ? "" : `${step.ms < 10 ? step.ms.toFixed(1) : Math.round(step.ms)} ms`;
    print(`  ${step.ok ? "✓" : "✗"} ${step.step.padEnd(52)} ${time.padStart(9)}  ${step.outcome}`);
  }
}
