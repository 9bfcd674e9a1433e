/** Runs one case of the tool matrix in a directory of its own and says what came of it. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  firstMissing,
  type Missing,
  missingAllUsers,
  missingCommand,
  missingPython,
  pythonProgram,
} from "../../support/prerequisites.ts";
import { type ToolCase, WORKS } from "./tool-case.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const TIMEOUT_MS = 60_000;

export interface Place {
  /** Directory under test; each case gets one of its own in it. */
  readonly directory: string;
  /** Where makeInputs put the files to copy from. */
  readonly inputs: string;
  /** For files that are not under test. */
  readonly scratch: string;
  /** An ordinary file system: what famfs refuses works there. */
  readonly elsewhere: boolean;
}

export interface Verdict {
  readonly outcome: string;
  /** What the script printed, for a failure. */
  readonly output: string;
  readonly milliseconds: number;
}

export function directoryName({ name }: ToolCase): string {
  return name.replaceAll(/[^A-Za-z0-9]+/g, "-").replaceAll(/^-|-$/g, "");
}

export function expectedOutcome(one: ToolCase, place: Place): string {
  return place.elsewhere ? (one.elsewhere ?? WORKS) : (one.outcome ?? WORKS);
}

export function missingFor(one: ToolCase): Missing {
  const needs = one.needs.map((need) =>
    need.startsWith("python:") ? missingPython(need.slice("python:".length)) : missingCommand(need),
  );
  return firstMissing(missingPython(""), one.allUsers === true ? missingAllUsers() : false, ...needs);
}

export async function runCase(one: ToolCase, place: Place): Promise<Verdict> {
  const directory = join(place.directory, directoryName(one));
  mkdirSync(directory);
  const scratch = mkdtempSync(join(place.scratch, "case-"));
  const [program, args] =
    one.bash === undefined
      ? [pythonProgram, ["-c", `from famfs_case import *\n${one.python}`]]
      : ["bash", ["-c", `source ${here}prelude.sh\n${one.bash}`]];
  const started = performance.now();
  const { promise, resolve } = Promise.withResolvers<{ status: number | NodeJS.Signals; output: string }>();
  const child = spawn(program, args, {
    cwd: directory,
    // A group of its own, so that nothing of a case outlives it.
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...process.env,
      IN: place.inputs,
      SCRATCH: scratch,
      TMPDIR: scratch,
      PYTHON: pythonProgram,
      PYTHONPATH: here,
      PYTHONDONTWRITEBYTECODE: "1",
      PROGRAMS: join(here, "programs"),
      ELSEWHERE: place.elsewhere ? "1" : "",
    },
  });
  let output = "";
  const collect = (chunk: Buffer) => {
    if (output.length < 20_000) output += chunk.toString();
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  const endGroup = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // nobody is left in it
    }
  };
  const timer = setTimeout(() => {
    output += `\nnot done after ${TIMEOUT_MS / 1000} s`;
    endGroup();
  }, TIMEOUT_MS);
  child.on("error", (error) => resolve({ status: 127, output: `${output}${error.message}` }));
  child.on("exit", (status, signal) => {
    clearTimeout(timer);
    endGroup();
    // The pipes may still hold the last words.
    child.on("close", () => resolve({ status: status ?? signal ?? 1, output }));
  });
  const result = await promise;
  rmSync(scratch, { recursive: true, force: true });
  const reported = /^outcome: (.*)$/m.exec(result.output)?.[1];
  return {
    outcome: result.status === 0 ? (reported ?? WORKS) : `failed (${result.status})`,
    output: result.output,
    milliseconds: performance.now() - started,
  };
}
