import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

/** S, D, R …, as ps shows it. */
export function stateOf(pid: number | undefined): string {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  return text.slice(text.lastIndexOf(")") + 2, text.lastIndexOf(")") + 3);
}

/**
 * Until a process is in one of `states`, and not only for a moment: one that is being loaded from a disk is in D, too.
 */
export async function untilStateStays(pid: number | undefined, states: string): Promise<void> {
  const steady = 40;
  for (let tries = 0, same = 0; same < steady; tries++) {
    same = states.includes(stateOf(pid)) ? same + 1 : 0;
    assert.ok(tries < 2000, `the process is in state ${stateOf(pid)}`);
    await delay(5);
  }
}
