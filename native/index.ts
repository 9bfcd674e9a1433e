/** The native addon. Imported by `src/media` (memory, log), `src/fuse` (fuse) and `src/node` (system) only. */
import { createRequire } from "node:module";
import type { DeviceCalls } from "./device.ts";
import type { FuseCalls } from "./fuse.ts";
import type { LogCalls } from "./log.ts";
import type { MemoryCalls } from "./memory.ts";
import type { SystemCalls } from "./system.ts";
import type { WatchCalls } from "./watch.ts";

export * from "./fuse.ts";
export * from "./memory.ts";
export * from "./system.ts";
export type { DeviceCalls, LogCalls };

export const native = createRequire(import.meta.url)("./build/famfs.node") as MemoryCalls &
  DeviceCalls &
  LogCalls &
  FuseCalls &
  SystemCalls &
  WatchCalls;
