/** Ends processes that were started elsewhere, with all that they started. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Kills every process that `isRoot` says yes to, and the descendants of each, until there is none. Never this process
 * or the one that started it, which may well look like one of them.
 */
export async function endTrees(isRoot: (pid: number) => boolean): Promise<void> {
  for (let round = 0; round < 100; round++) {
    const parents = new Map<number, number>();
    const roots = new Set<number>();
    for (const entry of readdirSync("/proc")) {
      const pid = Number(entry);
      if (!Number.isInteger(pid) || pid === process.pid) continue;
      try {
        // Field 4 after the command, which may hold anything; "Z" is dead already.
        const [state, parent] = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)?.split(" ") ?? [];
        if (state === "Z") continue;
        parents.set(pid, Number(parent));
        if (isRoot(pid)) roots.add(pid);
      } catch {
        // it has ended
      }
    }
    const belongs = (pid: number): boolean =>
      roots.has(pid) || (parents.has(pid) && pid > 1 && belongs(parents.get(pid) ?? 0));
    const found = [...parents.keys()].filter((pid) => pid !== process.ppid && belongs(pid));
    if (found.length === 0) return;
    for (const pid of found) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // it has ended
      }
    }
    await sleep(100);
  }
}
