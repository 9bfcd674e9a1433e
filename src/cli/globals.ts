import type { Command } from "commander";
import type { Logger } from "../base/index.ts";
import { createLogger, type LogLevel } from "./logging.ts";
import type { OutputFormat } from "./output.ts";

/** The options every command has; `defaultLevel` where a command's own default level differs. */
export function globals(
  command: Command,
  defaultLevel: LogLevel = "warn",
): { readonly output: OutputFormat; readonly logger: Logger } {
  const { output, logLevel } = command.optsWithGlobals<{ output: OutputFormat; logLevel?: LogLevel }>();
  return { output, logger: createLogger(logLevel ?? defaultLevel) };
}
