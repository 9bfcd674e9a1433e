/** What a server of a hundred volumes takes when nobody asks it for anything. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { makeVolume } from "./full-log.ts";
import { anonymousMegabytes, cpuMilliseconds } from "./process.ts";

const server = fileURLToPath(new URL("many-volumes-server.ts", import.meta.url));
const VOLUMES = 100;
const FILES_PER_VOLUME = 1000;
const SETTLE_MS = 3000;
const IDLE_MS = 2000;

export interface ManyVolumes {
  /** Memory of its own, in MB. */
  readonly megabytes: number[];
  /** Of one core, in percent. */
  readonly idlePercent: number[];
}

export async function measureManyVolumes(scratch: string, rounds: number): Promise<ManyVolumes> {
  const paths = Array.from({ length: VOLUMES }, (_, index) => join(scratch, `volume-${index}`));
  for (const path of paths) makeVolume(path, FILES_PER_VOLUME);
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", server, ...paths], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  const { pid } = child;
  if (pid === undefined) throw new Error("the server of many volumes did not start");
  const ready = await Promise.race([once(child.stdout, "data"), ended]);
  if (!String(ready[0]).startsWith("ready")) throw new Error("the server of many volumes ended early");
  await setTimeout(SETTLE_MS);
  const megabytes: number[] = [];
  const idlePercent: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const before = cpuMilliseconds(pid);
    await setTimeout(IDLE_MS);
    idlePercent.push((100 * (cpuMilliseconds(pid) - before)) / IDLE_MS);
    megabytes.push(anonymousMegabytes(pid));
  }
  child.stdin.end();
  await ended;
  return { megabytes, idlePercent };
}
