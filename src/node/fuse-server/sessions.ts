import { closeSync } from "node:fs";
import { FamfsError, type Logger } from "../../base/index.ts";
import type { Channel, Handlers } from "./channel.ts";
import { processFigures, type ServerFigures, type VolumeFigures } from "./figures.ts";
import type { PluginCalls, ServerCalls, VolumeAttachment, VolumeHealth } from "./messages.ts";

/** One volume that is being served. Disposing it ends its threads' use of the descriptor and closes it. */
export interface VolumeServer extends AsyncDisposable {
  seal(): Promise<void>;
  /** Nothing is logged or written any more, not even when it is disposed. */
  abandon(): void;
  /** False when `signal` came first. */
  handOver(options: { readonly forced: boolean; readonly signal: AbortSignal }): Promise<boolean>;
  setExclusive(exclusive: boolean): void;
  setStalled(stalled: boolean): void;
  health(): Promise<VolumeHealth>;
  figures(): VolumeFigures;
}

/** Serves a volume on `fd`, which it owns from the start of the call. */
export type Serve = (attachment: VolumeAttachment, fd: number) => Promise<VolumeServer>;

export interface SessionsOptions {
  readonly serve: Serve;
  /** The next descriptor that was sent; throws when there is none. */
  readonly receive: () => { descriptor: number; tag: number };
  /** Fails when volumes cannot be served. */
  readonly ready: () => Promise<void>;
  readonly logger: Logger;
}

interface Session {
  readonly server: Promise<VolumeServer>;
  /** Once it serves. */
  serving?: VolumeServer;
  /** Stalls it when the lease is about to run out. */
  stall?: NodeJS.Timeout;
}

/** Milliseconds of a clock that all processes of this host share. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

/** The volumes of this process, by id. */
export class Sessions implements AsyncDisposable {
  readonly #sessions = new Map<string, Session>();
  /** Descriptors that came before the message that names them. */
  readonly #descriptors = new Map<number, number>();
  readonly #serve: Serve;
  readonly #receive: () => { descriptor: number; tag: number };
  readonly #ready: () => Promise<void>;
  readonly #logger: Logger;

  constructor(options: SessionsOptions) {
    this.#ready = options.ready;
    this.#serve = options.serve;
    this.#receive = options.receive;
    this.#logger = options.logger;
  }

  readonly handlers: Handlers<ServerCalls> = {
    ready: () => this.#ready(),
    stop: () => this[Symbol.asyncDispose](),
    attach: (attachment) => this.#attach(attachment),
    detach: ({ volumeId, seal }) => this.#detach(volumeId, seal),
    seal: async ({ volumeId }) => (await this.#server(volumeId)).seal(),
    health: async ({ volumeId }) => (await this.#server(volumeId)).health(),
    figures: () => this.#figures(),
    handOver: async ({ volumeId, forced, timeoutMs }) =>
      (await this.#server(volumeId)).handOver({ forced, signal: AbortSignal.timeout(timeoutMs) }),
    setExclusive: async ({ volumeId, exclusive }) => (await this.#server(volumeId)).setExclusive(exclusive),
    lease: ({ volumeId, goodUntilMs }) => this.#lease(volumeId, goodUntilMs),
  };

  /** Seals and ends everything; a volume that fails does not keep the others. */
  async [Symbol.asyncDispose](): Promise<void> {
    const ids = [...this.#sessions.keys()];
    const results = await Promise.allSettled(ids.map((volumeId) => this.#detach(volumeId, true)));
    for (const [index, result] of results.entries()) {
      if (result.status === "rejected") {
        this.#logger.error({ volumeId: ids[index], err: result.reason }, "could not seal a volume on the way out");
      }
    }
    for (const fd of this.#descriptors.values()) closeSync(fd);
    this.#descriptors.clear();
  }

  async #attach(attachment: VolumeAttachment): Promise<void> {
    const { volumeId, tag } = attachment;
    const fd = this.#take(tag);
    if (this.#sessions.has(volumeId)) {
      closeSync(fd);
      throw new FamfsError("INTERNAL", `volume ${volumeId} is attached already`);
    }
    const session: Session = { server: this.#serve(attachment, fd) };
    this.#sessions.set(volumeId, session);
    try {
      session.serving = await session.server;
    } catch (error) {
      if (this.#sessions.get(volumeId) === session) this.#sessions.delete(volumeId);
      throw error;
    }
  }

  async #lease(volumeId: string, goodUntilMs: number | undefined): Promise<void> {
    const server = await this.#server(volumeId);
    const session = this.#sessions.get(volumeId);
    if (session === undefined) return;
    clearTimeout(session.stall);
    const leftMs = goodUntilMs === undefined ? 0 : goodUntilMs - monotonicMs();
    server.setStalled(leftMs <= 0);
    if (leftMs > 0) session.stall = setTimeout(() => server.setStalled(true), leftMs).unref();
  }

  async #detach(volumeId: string, seal: boolean): Promise<void> {
    const session = this.#sessions.get(volumeId);
    if (session === undefined) return;
    clearTimeout(session.stall);
    const server = await session.server;
    if (seal) await server.seal();
    else server.abandon();
    await server[Symbol.asyncDispose]();
    if (this.#sessions.get(volumeId) === session) this.#sessions.delete(volumeId);
  }

  #figures(): ServerFigures {
    const volumes: Record<string, VolumeFigures> = {};
    for (const [volumeId, { serving }] of this.#sessions) {
      if (serving !== undefined) volumes[volumeId] = serving.figures();
    }
    return { process: processFigures(), volumes };
  }

  async #server(volumeId: string): Promise<VolumeServer> {
    const session = this.#sessions.get(volumeId);
    if (session === undefined) throw new FamfsError("VOLUME_NOT_STAGED", `volume ${volumeId} is not attached`);
    return await session.server;
  }

  /** The descriptor with `tag`: it was sent before the message, so it is there. */
  #take(tag: number): number {
    for (;;) {
      const fd = this.#descriptors.get(tag);
      if (fd !== undefined) {
        this.#descriptors.delete(tag);
        return fd;
      }
      const { descriptor, tag: found } = this.#receive();
      this.#descriptors.set(found, descriptor);
    }
  }
}

/** Log lines go to the node plugin, the only one that writes logs. */
export function channelLogger(channel: () => Channel<PluginCalls, ServerCalls>, base: object = {}): Logger {
  const log = (level: "debug" | "info" | "warn" | "error") => (fields: object, message: string) => {
    channel()
      .call("log", { level, fields: cloneable({ ...base, ...fields }), message }, { timeoutMs: 10_000 })
      .catch(() => undefined); // the plugin is gone: so is the log
  };
  return {
    debug: log("debug"),
    info: log("info"),
    warn: log("warn"),
    error: log("error"),
    child: (fields) => channelLogger(channel, { ...base, ...fields }),
  };
}

/** Fields as values that structured clone takes: what it does not is logged as text. */
function cloneable(fields: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      if (value instanceof Error) return [name, value.stack ?? value.message];
      return [name, typeof value === "function" || typeof value === "symbol" ? String(value) : value];
    }),
  );
}
