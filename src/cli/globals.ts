import type { Command } from "commander";
import type { Logger } from "../base/index.ts";
import { createLogger, type LogLevel } from "./logging.ts";
import type { OutputFormat } from "./output.ts";

/** The options every command has. */
export function globals(command: Command): { readonly output: OutputFormat; readonly logger: Logger } {
  const { output, logLevel } = command.optsWithGlobals<{ output: OutputFormat; logLevel: LogLevel }>();
  return { output, logger: createLogger(logLevel) };
}
