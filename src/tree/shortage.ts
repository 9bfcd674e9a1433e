import { hasCode } from "../base/index.ts";
import type { TreeContext } from "./context.ts";

/**
 * What `attempt` answers, tried again after each step that gives space back when it is short: what was removed and
 * nobody holds any more, then what closed files hold beyond their bytes. NO_SPACE when that does not suffice.
 */
export function withRoom<T>({ space, sealer }: TreeContext, attempt: () => T): T {
  for (const makeRoom of [() => space.reclaim(), () => sealer.sealClosed()]) {
    try {
      return attempt();
    } catch (error) {
      if (!hasCode(error, "NO_SPACE")) throw error;
    }
    makeRoom();
  }
  return attempt();
}
