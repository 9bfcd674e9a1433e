/** A program that runs until it is told to stop, with its output in a file. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export interface DaemonOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly logFile: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** How often it is started again when it ends by itself, as a machine's service manager does (default 0). */
  readonly restarts?: number;
}

/** How long a daemon may take to end after SIGTERM. */
const STOP_MS = 10_000;

export class Daemon implements AsyncDisposable {
  readonly #options: DaemonOptions;
  #child: ChildProcess;
  #restarts: number;
  #stopping = false;
  #failure: string | undefined;

  constructor(options: DaemonOptions) {
    this.#options = options;
    this.#restarts = options.restarts ?? 0;
    this.#child = this.#start();
  }

  #start(): ChildProcess {
    const { name, command, logFile, environment } = this.#options;
    const log = openSync(logFile, "a");
    const [program = "", ...args] = command;
    // In a session of its own, so that Ctrl-C reaches only the test, which then ends everything in order.
    const child = spawn(program, args, {
      stdio: ["ignore", log, log],
      detached: true,
      env: { ...process.env, ...environment },
    });
    closeSync(log);
    child.on("error", (error) => {
      this.#failure = `${name}: ${error.message}`;
    });
    child.on("exit", (code, signal) => {
      if (!this.#stopping && this.#restarts-- > 0) this.#child = this.#start();
      else this.#failure ??= `${name} ended with ${signal ?? `status ${code}`}`;
    });
    return child;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return this.#failure === undefined;
  }

  /** Asks `ready` until it answers true. Throws with the end of the log when the daemon dies or time runs out. */
  async untilReady(ready: () => Promise<boolean>, timeoutMs = 60_000): Promise<void> {
    for (const deadline = performance.now() + timeoutMs; ; ) {
      if (this.#failure !== undefined) throw new Error(`${this.#failure}\n${this.logTail()}`);
      if (await ready().catch(() => false)) return;
      if (performance.now() > deadline) {
        throw new Error(`${this.#options.name} is not ready after ${timeoutMs / 1000} s\n${this.logTail()}`);
      }
      await sleep(100);
    }
  }

  logTail(lines = 30): string {
    return readFileSync(this.#options.logFile, "utf8").split("\n").slice(-lines).join("\n");
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    this.#stopping = true;
    if (this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill(signal);
    const late = setTimeout(() => this.#child.kill("SIGKILL"), STOP_MS);
    await ended;
    clearTimeout(late);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
