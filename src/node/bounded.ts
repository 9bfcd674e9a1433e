import { FamfsError } from "../base/index.ts";

interface Bound<T> {
  /** The subject of the wait, as in "mount of /staging". */
  readonly what: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Takes back what arrives after nobody waits for it any more. */
  readonly late?: (value: T) => void;
}

/**
 * Waits for a call that cannot be cancelled, at most `timeoutMs`: DEADLINE_EXCEEDED after that, CANCELLED when
 * `signal` aborts. A result that comes later goes to `late`; a late failure is of no interest.
 */
export async function bounded<T>(call: Promise<T>, { what, timeoutMs, signal, late }: Bound<T>): Promise<T> {
  const gaveUp = Promise.withResolvers<never>();
  let waiting = true;
  const giveUp = (code: "DEADLINE_EXCEEDED" | "CANCELLED", why: string) => {
    waiting = false;
    gaveUp.reject(new FamfsError(code, `${what}: ${why}`));
  };
  const timer = setTimeout(() => giveUp("DEADLINE_EXCEEDED", `no answer within ${timeoutMs} ms`), timeoutMs);
  const onAbort = () => giveUp("CANCELLED", "the caller gave up");
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  call.then(
    (value) => {
      if (!waiting) late?.(value);
    },
    () => undefined,
  );
  try {
    return await Promise.race([call, gaveUp.promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
