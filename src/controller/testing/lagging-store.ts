import { setImmediate as nextTurn } from "node:timers/promises";
import { Informer, type Shown, type Store } from "../../state/index.ts";

export interface Lag {
  /** Turns of the event loop until the next step is shown; undefined: not before a resync. */
  turns(): number | undefined;
}

/** Informers of the volumes that are behind: each step is shown later, in order. */
export function laggingVolumes(
  store: Store,
  lag: Lag,
): AsyncDisposable & { readonly informer: () => Informer<"volumes"> } {
  const opened = new AsyncDisposableStack();
  return {
    informer: () => opened.use(laggingInformer(store.informer("volumes"), lag)),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

function laggingInformer(inner: Informer<"volumes">, lag: Lag): Informer<"volumes"> {
  return new Informer("volumes", (sink) => {
    const steps: (readonly Shown<"volumes">[])[] = [];
    let open = false;
    let delivering = false;
    let following: Disposable | undefined;
    const flush = () => {
      for (const step of steps.splice(0)) sink.show(step);
    };
    const deliver = async () => {
      if (delivering) return;
      delivering = true;
      while (steps.length > 0) {
        const turns = lag.turns();
        if (turns === undefined) break;
        for (let turn = 0; turn < turns; turn++) await nextTurn();
        const step = steps.shift();
        if (step !== undefined) sink.show(step);
      }
      delivering = false;
    };
    const start = async () => {
      await inner.synced();
      following = inner.onChange((step) => {
        steps.push(step);
        if (open) void deliver();
      });
      flush();
      sink.show([]);
      open = true;
    };
    const started = start();
    return {
      resync: async () => {
        await started;
        await inner.resync();
        flush();
      },
      [Symbol.asyncDispose]: async () => {
        await started;
        following?.[Symbol.dispose]();
      },
    };
  });
}
