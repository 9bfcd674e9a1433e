import type { Time } from "../format/index.ts";
import type { Clock } from "./ports.ts";

/** What files are stamped with. */
export function clockTime(clock: Clock): () => Time {
  return () => msToTime(clock.wallMs());
}

export function msToTime(ms: number): Time {
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanoseconds: Math.round((ms - seconds * 1000) * 1_000_000) };
}

export function sameTime(a: Time | undefined, b: Time | undefined): boolean {
  return a?.seconds === b?.seconds && a?.nanoseconds === b?.nanoseconds;
}
