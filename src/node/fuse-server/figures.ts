import { readFileSync } from "node:fs";
import type { SessionStats } from "../../fuse/index.ts";
import type { Usage } from "./messages.ts";

/** What a FUSE server process tells about itself and its volumes when it is asked: counted since it started. */
export interface ServerFigures {
  readonly process: ProcessFigures;
  readonly volumes: Readonly<Record<string, VolumeFigures>>;
}

export interface ProcessFigures {
  /** User and system time of all threads. */
  readonly cpuSeconds: number;
  /** Memory of its own, without what it maps: the pages of the pool that it touched are not its. */
  readonly memoryBytes: number;
  /** Of that the main thread, which answers everything but READ and WRITE. */
  readonly mainThreadCpuSeconds: number;
}

export interface VolumeFigures {
  readonly requests: SessionStats;
  readonly bytes: Usage;
  readonly logSlots: Usage;
  /** Entries of the log applied here; undefined when the log cannot be read. */
  readonly replay: ReplayFigures | undefined;
  readonly openHandles: number;
  /** Files, directories and symlinks that are not in the log yet. */
  readonly unsealed: number;
  readonly isWriter: boolean;
}

export interface ReplayFigures {
  readonly position: number;
  /** Entries in the log at this moment. */
  readonly published: number;
  readonly behindMs: number;
}

export function processFigures(): ProcessFigures {
  return {
    cpuSeconds: seconds(process.cpuUsage()),
    memoryBytes: anonymousBytes(),
    // Not the event loop's utilization: it takes our own wait for requests for work (native/fuse-idle.c).
    mainThreadCpuSeconds: seconds(process.threadCpuUsage()),
  };
}

function seconds({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) / 1e6;
}

/** proc(5), `RssAnon` in /proc/PID/status. */
function anonymousBytes(): number {
  const found = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"));
  return Number(found?.[1] ?? 0) * 1024;
}
