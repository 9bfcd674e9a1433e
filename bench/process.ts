/** What a server process takes: memory of its own and processor time. */
import { readdirSync, readFileSync } from "node:fs";

function field(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0);
}

function childrenOf(pid: number): number[] {
  return readdirSync("/proc").flatMap((entry) => {
    try {
      return /^\d+$/.test(entry) && field(readFileSync(`/proc/${entry}/status`, "utf8"), "PPid") === pid
        ? [Number(entry)]
        : [];
    } catch {
      return []; // ended meanwhile
    }
  });
}

/** The process and all below it, in MB; without what it maps of files and of the pool. */
export function anonymousMegabytes(pid: number): number {
  return megabytes(pid, ["RssAnon"]);
}

/** The same with the files. RssShmem is left out: a simulated device is the pool, not the server. */
export function residentMegabytes(pid: number): number {
  return megabytes(pid, ["RssAnon", "RssFile"]);
}

function megabytes(pid: number, kinds: readonly string[]): number {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  const own = kinds.reduce((sum, kind) => sum + (field(text, kind) * 1024) / 1e6, 0);
  return childrenOf(pid).reduce((sum, child) => sum + megabytes(child, kinds), own);
}

/** Milliseconds that the threads of a process which live now have run. */
export function cpuMilliseconds(pid: number): number {
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
    } catch {
      // ended meanwhile
    }
  }
  return nanoseconds / 1e6;
}
