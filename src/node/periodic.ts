import { type Logger, messageOf } from "../base/index.ts";

export interface PeriodicOptions {
  readonly what: string;
  readonly periodMs: number;
  readonly logger: Logger;
}

/** Does `look` every so often, never twice at a time, until it is disposed, which waits for the last one. */
export function periodically(look: () => Promise<void>, { what, periodMs, logger }: PeriodicOptions): AsyncDisposable {
  let looking: Promise<void> | undefined;
  const timer = setInterval(() => {
    looking ??= look()
      .catch((error: unknown) => logger.warn({ reason: messageOf(error) }, `${what}: trying again later`))
      .finally(() => {
        looking = undefined;
      });
  }, periodMs);
  timer.unref();
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await looking;
    },
  };
}
