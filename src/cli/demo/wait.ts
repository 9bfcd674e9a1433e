import { setTimeout as delay } from "node:timers/promises";
import { FamfsError } from "../../base/index.ts";

/** Asks every 5 ms until `condition` holds; DEADLINE_EXCEEDED with `what` after `timeoutMs`. */
export async function waitUntil(condition: () => Promise<boolean>, timeoutMs: number, what: string): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new FamfsError("DEADLINE_EXCEEDED", `${what} within ${timeoutMs} ms`);
    await delay(5);
  }
}
