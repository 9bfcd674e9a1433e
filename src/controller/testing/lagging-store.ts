import { setImmediate as nextTurn } from "node:timers/promises";
import type { Kind, Shown, Store } from "../../state/index.ts";

export interface Lag {
  /** Turns of the event loop until the next step is shown; undefined: not before a refresh. */
  turns(): number | undefined;
}

/** The same store, whose followers are behind: each step is shown later, in order. */
export function laggingStore(store: Store, lag: Lag): Pick<Store, "follow"> {
  return {
    async follow<K extends Kind>(kind: K, show: (changes: readonly Shown<K>[]) => void) {
      const steps: (readonly Shown<K>[])[] = [];
      let open = false;
      let delivering = false;
      const flush = () => {
        for (const step of steps.splice(0)) show(step);
      };
      const deliver = async () => {
        if (delivering) return;
        delivering = true;
        while (steps.length > 0) {
          const turns = lag.turns();
          if (turns === undefined) break;
          for (let turn = 0; turn < turns; turn++) await nextTurn();
          const step = steps.shift();
          if (step !== undefined) show(step);
        }
        delivering = false;
      };
      const following = await store.follow(kind, (step) => {
        steps.push(step);
        if (open) void deliver();
      });
      flush();
      open = true;
      return {
        refresh: async () => {
          await following.refresh();
          flush();
        },
        [Symbol.asyncDispose]: () => following[Symbol.asyncDispose](),
      };
    },
  };
}
