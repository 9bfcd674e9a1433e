import { chmod, lstat, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { fromSystemError, type Logger, MIB } from "../base/index.ts";
import { clearEndpoint, parseEndpoint } from "./endpoint.ts";
import { loadServices, type ServiceName } from "./proto.ts";
import { type RpcOptions, type Service, toImplementation } from "./rpc.ts";

export interface CsiServerOptions {
  /** `unix:///path`; see parseEndpoint. */
  readonly endpoint: string;
  readonly services: { readonly [Name in ServiceName]?: Service<Name> };
  readonly logger: Logger;
  /** Named in the log lines of calls that name no node themselves. */
  readonly node?: string | undefined;
  /** Called once for each call when it has ended. */
  readonly onEnd?: RpcOptions["onEnd"] | undefined;
  /** The longest a call may take (default 2 minutes, what sidecars wait at most by their own defaults). */
  readonly maxCallMs?: number;
  /** How long `close` lets calls in progress finish (default 5 s). */
  readonly graceMs?: number;
}

/** No CSI request comes near this: the largest fields are a few maps of 4 KiB. Secrets are bounded by Kubernetes. */
const MAX_REQUEST_BYTES = 2 * MIB;

/** A gRPC server on a Unix socket. Closing it ends calls, nothing else: mounts and volumes stay as they are. */
export class CsiServer implements AsyncDisposable {
  readonly path: string;
  readonly #server: Server;
  readonly #stop: AbortController;
  readonly #graceMs: number;
  readonly #inode: number;
  #closed: Promise<void> | undefined;

  private constructor(path: string, server: Server, stop: AbortController, graceMs: number, inode: number) {
    this.path = path;
    this.#server = server;
    this.#stop = stop;
    this.#graceMs = graceMs;
    this.#inode = inode;
  }

  /**
   * The socket appears under its name only when it listens and has mode 0600. INVALID_ARGUMENT when the endpoint is
   * malformed or taken.
   */
  static async open(options: CsiServerOptions): Promise<CsiServer> {
    const path = parseEndpoint(options.endpoint);
    await clearEndpoint(path);
    const stop = new AbortController();
    const server = new Server({ "grpc.max_receive_message_length": MAX_REQUEST_BYTES });
    const definitions = loadServices();
    const { logger, node, onEnd, maxCallMs = 120_000 } = options;
    const rpc: RpcOptions = { logger, node, onEnd, maxCallMs, stopping: stop.signal };
    for (const name of Object.keys(definitions) as ServiceName[]) {
      const service = options.services[name];
      if (service !== undefined) server.addService(definitions[name], toImplementation(service, rpc));
    }
    // A leading dot, because the kubelet takes every other socket in its registry for a plugin.
    const hidden = join(dirname(path), `.${basename(path)}.${process.pid}`);
    try {
      await rm(hidden, { force: true });
      await bind(server, hidden);
      await chmod(hidden, 0o600);
      await rename(hidden, path);
      const { ino } = await lstat(path);
      return new CsiServer(path, server, stop, options.graceMs ?? 5_000, ino);
    } catch (error) {
      server.forceShutdown();
      await rm(hidden, { force: true });
      throw fromSystemError(error, "bind", path);
    }
  }

  /** Takes no new calls, lets those in progress end for the grace time, then cuts them. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    // A successor may have taken the name already; its socket stays.
    const found = await lstat(this.path).catch(() => undefined);
    if (found?.ino === this.#inode) await rm(this.path, { force: true });
    const { promise, resolve } = Promise.withResolvers<void>();
    const timers = [
      setTimeout(() => this.#stop.abort(), this.#graceMs),
      // Time for the answers of the calls that were just cut.
      setTimeout(() => this.#server.forceShutdown(), this.#graceMs + 500),
      setTimeout(resolve, this.#graceMs + 1_000),
    ];
    this.#server.tryShutdown(() => resolve());
    await promise;
    for (const timer of timers) clearTimeout(timer);
  }
}

function bind(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
    error === null ? resolve() : reject(error),
  );
  return promise;
}
