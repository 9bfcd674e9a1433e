import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, readFileSync } from "node:fs";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { native } from "../../../native/index.ts";
import { FamfsError, fromSystemError, hasCode, type Logger, messageOf } from "../../base/index.ts";
import { bounded } from "../bounded.ts";
import { type AnswerOf, Channel, type Handlers, type RequestOf } from "./channel.ts";
import type { ServerFigures } from "./figures.ts";
import type { LogLine, PluginCalls, ServerCalls, VolumeAttachment } from "./messages.ts";

const MAIN = fileURLToPath(new URL(`./main${extname(import.meta.filename)}`, import.meta.url));

/** Sealing everything on a clean stop; after that the process is killed. */
const STOP_TIMEOUT_MS = 15_000;
const WATCHDOG: Watchdog = { periodMs: 10_000, timeoutMs: 30_000, startMs: 120_000 };
const ANSWER_TIMEOUT_MS = 2_500;
/** How often it is looked whether the process is dead without having ended. */
const DYING_MS = 500;
const RESTART_DELAY_MS = { first: 100, most: 10_000 };

/** A process whose main thread does not answer within `timeoutMs` is taken for hung and replaced. */
export interface Watchdog {
  readonly periodMs: number;
  readonly timeoutMs: number;
  /** Until it answers first. Generous: a node that boots starts everything at once, and giving up starts at zero. */
  readonly startMs: number;
}

export interface SupervisorOptions {
  readonly logger: Logger;
  /** A descriptor that the process keeps open while it lives: the lock of the run directory. */
  readonly lock: number;
  readonly handlers: Omit<Handlers<PluginCalls>, "log">;
  readonly watchdog?: Watchdog | undefined;
  /** The process died with these volumes; what is mounted for them answers ENOTCONN from now on. */
  readonly onLost: (volumeIds: string[], reason: string) => void;
  /** Ends the connection of a volume though its descriptors are open: requests that wait fail. */
  readonly abort: (volumeId: string) => Promise<void>;
}

interface Running {
  readonly child: ChildProcess;
  readonly channel: Channel<ServerCalls, PluginCalls>;
  /** Our end of the socket pair that descriptors travel over. */
  readonly socket: number;
  watchdog?: NodeJS.Timeout;
  dying?: NodeJS.Timeout;
}

/**
 * Keeps one FUSE server process running and asks it things. The /dev/fuse descriptor of every session stays open
 * here too: a connection ends when its last descriptor is closed, so it is this process that decides when.
 */
export class FuseServerSupervisor implements AsyncDisposable {
  readonly #options: SupervisorOptions;
  readonly #logger: Logger;
  readonly #connections = new Map<string, number>();
  #running: Promise<Running> | undefined;
  #lastTag = 0;
  #restartDelayMs = RESTART_DELAY_MS.first;
  #starts = 0;
  #stopping = false;

  private constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#logger = options.logger;
  }

  /** NODE_UNAVAILABLE when the process does not start. */
  static async open(options: SupervisorOptions): Promise<FuseServerSupervisor> {
    const supervisor = new FuseServerSupervisor(options);
    try {
      await supervisor.#process();
      return supervisor;
    } catch (error) {
      await supervisor[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** For tests and the log. */
  async pid(): Promise<number | undefined> {
    return (await this.#process()).child.pid;
  }

  /** Throws when its main thread does not answer. */
  async answers(): Promise<void> {
    await (await this.#process()).channel.call("ready", undefined, { timeoutMs: ANSWER_TIMEOUT_MS });
  }

  /** Processes started so far: one more than were lost. */
  get starts(): number {
    return this.#starts;
  }

  /** Undefined when there is no process, or its main thread does not answer in time. Starts none. */
  async figures(): Promise<ServerFigures | undefined> {
    try {
      const asked = this.#running?.then(({ channel }) =>
        channel.call("figures", undefined, { timeoutMs: ANSWER_TIMEOUT_MS }),
      );
      // The process may be starting, which may take longer.
      return await (asked && bounded(asked, { what: "FUSE server: figures", timeoutMs: ANSWER_TIMEOUT_MS }));
    } catch (error) {
      this.#logger.debug({ reason: messageOf(error) }, "no figures of the FUSE server");
      return undefined;
    }
  }

  serves(volumeId: string): boolean {
    return this.#connections.has(volumeId);
  }

  /** Serves a volume on the connection of `fd`, which belongs to the supervisor from now on, also on failure. */
  async attach(fd: number, attachment: Omit<VolumeAttachment, "tag">, timeoutMs: number): Promise<void> {
    const { volumeId } = attachment;
    this.#connections.set(volumeId, fd);
    try {
      const { channel, socket } = await this.#process();
      const tag = ++this.#lastTag;
      native.sendDescriptor(socket, fd, tag);
      await channel.call("attach", { ...attachment, tag }, { timeoutMs });
    } catch (error) {
      this.#closeConnection(volumeId, fd);
      await this.#forget(volumeId);
      throw fromSystemError(error, "attach", volumeId);
    }
  }

  async ask<Name extends "seal" | "health" | "handOver" | "setExclusive" | "lease">(
    name: Name,
    request: RequestOf<ServerCalls, Name>,
    options: { timeoutMs: number; signal?: AbortSignal },
  ): Promise<AnswerOf<ServerCalls, Name>> {
    if (!this.serves(request.volumeId)) {
      throw new FamfsError("VOLUME_NOT_STAGED", `volume ${request.volumeId} is not served on this node`);
    }
    return await (await this.#process()).channel.call(name, request, options);
  }

  /** Ends the session and its connection: afterwards nothing can read or write the volume through it. */
  async detach(volumeId: string, options: { seal: boolean; timeoutMs: number }): Promise<void> {
    const fd = this.#connections.get(volumeId);
    if (fd === undefined) return;
    try {
      const { channel } = await this.#process();
      await channel.call("detach", { volumeId, seal: options.seal }, { timeoutMs: options.timeoutMs });
    } catch (error) {
      if (options.seal) throw error;
      this.#logger.warn({ volumeId, err: error }, "the FUSE server did not detach a volume; it is restarted");
      await this.#kill();
    }
    this.#closeConnection(volumeId, fd);
  }

  /** Seals and detaches everything, as far as that goes in bounded time. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    const running = await this.#running?.catch(() => undefined);
    if (running !== undefined) {
      const { child, channel } = running;
      const exited = exitOf(child);
      try {
        await channel.call("stop", undefined, { timeoutMs: STOP_TIMEOUT_MS });
      } catch (error) {
        this.#logger.error({ reason: messageOf(error) }, "the FUSE server did not stop in good order");
        child.kill("SIGKILL");
      }
      if (child.connected) child.disconnect();
      await exited;
    }
    for (const [volumeId, fd] of this.#connections) this.#closeConnection(volumeId, fd);
  }

  // A detach whose answer does not matter: an attach failed half way.
  async #forget(volumeId: string): Promise<void> {
    try {
      const { channel } = await this.#process();
      await channel.call("detach", { volumeId, seal: false }, { timeoutMs: 5_000 });
    } catch (error) {
      this.#logger.debug({ volumeId, reason: messageOf(error) }, "detach after a failed attach");
    }
  }

  #closeConnection(volumeId: string, fd: number): void {
    if (this.#connections.get(volumeId) !== fd) return;
    this.#connections.delete(volumeId);
    closeSync(fd);
  }

  async #kill(): Promise<void> {
    const running = await this.#running?.catch(() => undefined);
    running?.child.kill("SIGKILL");
  }

  async #process(): Promise<Running> {
    if (this.#stopping) throw new FamfsError("NODE_UNAVAILABLE", "the node plugin is stopping");
    // What cannot even be spawned leaves nothing that would end and be started again: the next call tries.
    this.#running ??= this.#start(this.#spawn());
    return await this.#running;
  }

  /** Throws when this host has no room for it: descriptors, processes. */
  #spawn(): Running {
    const [socket, theirs] = socketPair();
    let child: ChildProcess;
    try {
      // Its output goes to our stderr: stdout may be a program's JSON.
      child = spawn(process.execPath, [MAIN], {
        stdio: ["ignore", 2, 2, "ipc", theirs, this.#options.lock],
        serialization: "advanced",
      });
    } catch (error) {
      closeSync(socket);
      throw fromSystemError(error, "spawn", process.execPath);
    } finally {
      closeSync(theirs);
    }
    const log = (line: LogLine) => this.#logger[line.level](line.fields, line.message);
    const channel = new Channel<ServerCalls, PluginCalls>(child, { ...this.#options.handlers, log });
    return { child, channel, socket };
  }

  async #start(running: Running): Promise<Running> {
    const { child, channel } = running;
    const exited = exitOf(child).then((reason) => this.#exited(running, reason));
    running.dying = setInterval(() => this.#endIfDying(running), DYING_MS);
    running.dying.unref();
    const { startMs } = this.#options.watchdog ?? WATCHDOG;
    try {
      await channel.call("ready", undefined, { timeoutMs: startMs });
    } catch (error) {
      child.kill("SIGKILL");
      await exited;
      const why = hasCode(error, "DEADLINE_EXCEEDED")
        ? `did not start within ${startMs / 1000} s: see whether the node is overloaded`
        : `did not start: ${messageOf(error)}`;
      throw new FamfsError("NODE_UNAVAILABLE", `the FUSE server process ${why}`, { cause: error });
    }
    this.#restartDelayMs = RESTART_DELAY_MS.first;
    this.#starts++;
    this.#watch(running);
    this.#logger.info({ pid: child.pid }, "FUSE server started");
    return running;
  }

  #watch(running: Running): void {
    const { periodMs, timeoutMs } = this.#options.watchdog ?? WATCHDOG;
    running.watchdog = setTimeout(() => {
      running.channel.call("ready", undefined, { timeoutMs }).then(
        () => this.#watch(running),
        (error: unknown) => {
          if (this.#stopping || running.child.exitCode !== null) return;
          this.#logger.error({ pid: running.child.pid, reason: messageOf(error) }, "the FUSE server hangs: killed");
          running.child.kill("SIGKILL");
        },
      );
    }, periodMs);
    running.watchdog.unref();
  }

  /**
   * A thread that tells the kernel of a name sleeps, whatever kills it, while a request holds that directory, and the
   * request waits for this process: it would never end, and nobody would be told. Ending the connections wakes both.
   */
  #endIfDying({ child: { pid } }: Running): void {
    if (pid === undefined || !isDying(pid)) return;
    const volumes = [...this.#connections.keys()];
    this.#logger.warn({ pid, volumes }, "the FUSE server is dead and does not end: its connections are ended");
    for (const volumeId of volumes) {
      this.#options.abort(volumeId).catch((error: unknown) => {
        this.#logger.error({ volumeId, err: error }, "a connection of a dead FUSE server could not be ended");
      });
    }
  }

  #exited(running: Running, reason: string): void {
    clearTimeout(running.watchdog);
    clearInterval(running.dying);
    running.channel.close();
    closeSync(running.socket);
    this.#running = undefined;
    if (this.#stopping) return;
    const lost = [...this.#connections.keys()];
    this.#logger.error({ pid: running.child.pid, reason, volumes: lost }, "the FUSE server died");
    // Nobody can continue these sessions yet: closing the last descriptors makes their requests fail, not hang.
    for (const [volumeId, fd] of this.#connections) this.#closeConnection(volumeId, fd);
    if (lost.length > 0) this.#options.onLost(lost, reason);
    const timer = setTimeout(() => this.#restart(), this.#restartDelayMs);
    timer.unref();
    this.#restartDelayMs = Math.min(this.#restartDelayMs * 2, RESTART_DELAY_MS.most);
  }

  #restart(): void {
    if (this.#stopping) return;
    this.#process().catch((error: unknown) => this.#logger.error({ err: error }, "FUSE server restart failed"));
  }
}

function socketPair(): [number, number] {
  try {
    return native.socketPair();
  } catch (error) {
    throw fromSystemError(error, "socketpair", "for the FUSE server");
  }
}

/** Its main thread has ended, and another one has not. A child that has ended as a whole is collected at once. */
export function isDying(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch {
    return false; // gone
  }
}

/** Resolves with why when the process is gone, or could not be started. */
function exitOf(child: ChildProcess): Promise<string> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve("exited");
  const { promise, resolve } = Promise.withResolvers<string>();
  child.once("exit", (code, signal) => resolve(signal === null ? `exit code ${code}` : `killed by ${signal}`));
  child.once("error", (error) => resolve(messageOf(error)));
  return promise;
}
