/** Resident memory of a server: what it holds itself, without the pool that it maps. */
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

/** The process and all below it, in MB. RssShmem is left out: a simulated device is the pool, not the server. */
export function residentMegabytes(pid: number): number {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  const own = ((field(text, "RssAnon") + field(text, "RssFile")) * 1024) / 1e6;
  return childrenOf(pid).reduce((sum, child) => sum + residentMegabytes(child), own);
}
