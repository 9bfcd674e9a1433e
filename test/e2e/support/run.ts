/** Runs a command to its end. */
import { spawn } from "node:child_process";
import { once } from "node:events";

export interface Finished {
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  readonly environment?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** Throws with all it said when it does not end with 0. */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const { input, timeoutMs = 120_000, environment, cwd } = options;
  const [program = "", ...args] = command;
  const child = spawn(program, args, { env: { ...process.env, ...environment }, cwd, timeout: timeoutMs });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.on("error", () => {}); // it ended without reading everything, which its status tells
  child.stdin.end(input);
  const [status, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  if (status === 0) return { stdout, stderr };
  throw new Error(`${command.join(" ")}: ended with ${signal ?? `status ${status}`}\n${stdout}${stderr}`);
}
