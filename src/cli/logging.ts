import { type Level, pino } from "pino";
import type { Logger } from "../base/index.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** JSON lines on standard error: standard output is for facts. */
export function createLogger(level: LogLevel): Logger {
  return pino(
    { level: level as Level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
}
