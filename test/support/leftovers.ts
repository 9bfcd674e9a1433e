/** Finds (and ends) the processes and mounts of a test run that should have cleaned up after itself. */

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout } from "node:timers/promises";

interface Process {
  readonly pid: number;
  readonly command: string;
}

/** Other processes with `marker` (NAME=value) in their environment. */
function processesWith(marker: string): Process[] {
  const found: Process[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(marker)) continue;
      readlinkSync(`/proc/${pid}/exe`); // a zombie has none
      const command = readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim();
      found.push({ pid, command });
    } catch {
      // gone, or not ours
    }
  }
  return found;
}

/** Mount points below `directory`, innermost first. */
export function mountsBelow(directory: string): string[] {
  return readFileSync("/proc/self/mountinfo", "latin1")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((path) => path.startsWith(`${directory}/`))
    .reverse();
}

export async function findLeftovers(marker: string, directory: string): Promise<string[]> {
  // What was told to stop may take a moment.
  let processes = processesWith(marker);
  for (let tries = 0; processes.length > 0 && tries < 20; tries++) {
    await setTimeout(100);
    processes = processesWith(marker);
  }
  for (const { pid } of processes) process.kill(pid, "SIGKILL");
  const mounts = mountsBelow(directory);
  for (const mount of mounts) spawnSync("umount", ["--lazy", mount], { stdio: "inherit", timeout: 10_000 });
  return [
    ...processes.map(({ pid, command }) => `process ${pid}: ${command}`),
    ...mounts.map((mount) => `mount ${mount}`),
  ];
}
