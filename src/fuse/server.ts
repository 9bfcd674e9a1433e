import { closeSync, writeSync } from "node:fs";
import { availableParallelism } from "node:os";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { FUSE_EVENT, native } from "../../native/index.ts";
import { FamfsError, fromSystemError, type Logger, silentLogger } from "../base/index.ts";
import { DataPath } from "./data-path.ts";
import { ERRNO } from "./errno.ts";
import { FileHandles } from "./file-handles.ts";
import { SharedFileMaps } from "./file-map-table.ts";
import { HeldBytes } from "./held-bytes.ts";
import { resendNotification } from "./kernel-caches.ts";
import { MapMemory } from "./map-memory.ts";
import { MAX_WRITE } from "./negotiate.ts";
import type { Operations } from "./operations.ts";
import { ReplyWriter } from "./reply.ts";
import { Session, type SessionOptions } from "./session.ts";
import { ACTIVITY, SharedMemory } from "./shared-memory.ts";
import { WorkerCounters } from "./stats.ts";
import type { Transport } from "./transport.ts";
import type { WorkerData, WorkerReady } from "./worker-data.ts";

/** How long the kernel may take to send INIT after the mount; it does so at once. */
const INIT_TIMEOUT_MS = 10_000;
/** Events served before other work of the main thread gets its turn. */
const BATCH = 256;
const NO_BYTES = new Uint8Array(0);

export interface FuseServerOptions {
  /** Default: `workersFor` the machine. */
  readonly workers?: number;
  /** Replies are copied out of windows by us, never by the kernel: for memory whose poison could take a host down. */
  readonly bounce?: boolean;
  readonly logger?: Logger;
}

export interface AttachOptions {
  /** A mounted /dev/fuse descriptor. The server takes it over and closes it, also when `attach` fails. */
  readonly fd: number;
  readonly operations: Operations;
  readonly options?: SessionOptions;
}

/**
 * One worker per processor, at least two, so that a READ that waits for memory does not hold up all others. At most
 * four: each costs some 12 MB (measured), and what they do is copying, for which four saturate the link to a pool.
 */
export function workersFor(processors: number): number {
  return Math.max(2, Math.min(4, processors));
}

/** Serves FUSE connections: one per process. The thread that opens it owns the trees and answers metadata. */
export class FuseServer implements AsyncDisposable {
  readonly #memory: SharedMemory;
  readonly #logger: Logger;
  readonly #fileMaps: SharedFileMaps;
  readonly #handles: FileHandles;
  readonly #mapMemory: MapMemory;
  readonly #held = new HeldBytes();
  /** This thread's own: opened before the workers', so that the kernel asks it first while it is idle. */
  readonly #path: DataPath;
  readonly #reply = new ReplyWriter(MAX_WRITE + 4096);
  readonly #buffer = new Uint8Array(MAX_WRITE + 4096);
  readonly #state = new Uint32Array(4);
  readonly #sessions = new Map<number, Session>();
  readonly #notifications = new Map<number, (refused: Uint8Array) => void>();
  readonly #workers: { thread: Worker; exited: Promise<void>; id: number }[] = [];
  #nextToken = 0;
  #closed: Promise<void> | undefined;

  private constructor(workers: number, bounce: boolean, logger: Logger) {
    this.#memory = SharedMemory.allocate(workers + 1); // this thread is one more

    this.#logger = logger;
    this.#fileMaps = new SharedFileMaps(this.#memory);
    this.#handles = new FileHandles(this.#memory, this.#fileMaps);
    this.#mapMemory = new MapMemory(native, this.#memory, this.#handles);
    this.#path = new DataPath({
      native,
      memory: this.#memory,
      index: workers,
      maxWrite: MAX_WRITE,
      bounce,
      passOn: (_path, connection, bytes, length) => this.#sessions.get(connection)?.receive(bytes.subarray(0, length)),
    });
  }

  static async open(options: FuseServerOptions = {}): Promise<FuseServer> {
    const { workers = workersFor(availableParallelism()) } = options;
    const bounce = options.bounce === true;
    const server = new FuseServer(workers, bounce, options.logger ?? silentLogger);
    try {
      native.fuseListen(server.#serveEvents);
    } catch (error) {
      server.#path.close();
      throw error; // EBUSY: there is a server in this process already
    }
    native.fuseIdleStart(server.#path.worker, (length) => {
      if (length > 0) return server.#path.serve(length);
      server.#serveEvents();
      return false;
    });
    process.on("exit", server.#stopWorkers);
    try {
      await Promise.all(Array.from({ length: workers }, (_, index) => server.#startWorker(index, bounce)));
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  get fileMaps(): SharedFileMaps {
    return this.#fileMaps;
  }

  /**
   * Serves a connection; resolves when INIT is answered. Mount first: a descriptor that is not mounted yet cannot be
   * waited for. Nothing may touch the mount synchronously from this thread, which has to answer.
   */
  async attach({ fd, operations, options = {} }: AttachOptions): Promise<Session> {
    let connection: number;
    try {
      // Before any worker reads, or the kernel would queue again what they hold (design 8).
      if (options.resume?.granted.includes("HAS_RESEND")) writeSync(fd, resendNotification());
      connection = native.fuseConnect(fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    try {
      native.fuseStartNotifier(connection);
    } catch (error) {
      native.fuseDisconnect(connection);
      throw fromSystemError(error, "start of a thread for notifications");
    }
    const counters = new WorkerCounters(this.#memory, connection);
    const session = new Session({
      connection,
      transport: this.#transport(connection),
      operations,
      options,
      fileMaps: this.#fileMaps,
      handles: this.#handles,
      memory: this.#mapMemory,
      held: this.#held,
      reply: this.#reply,
      logger: this.#logger.child({ connection }),
      workerCounts: () => counters.read(),
    });
    this.#sessions.set(connection, session);
    const timer = setTimeout(() => session.detach(), INIT_TIMEOUT_MS);
    try {
      await session.ready;
    } catch (error) {
      session.detach();
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return session;
  }

  /** Detaches all sessions and stops the workers. Mounts stay as they are. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    for (const session of [...this.#sessions.values()]) session.detach();
    this.#stopWorkers();
    await Promise.all(this.#workers.map(({ exited }) => exited));
    process.off("exit", this.#stopWorkers);
    native.fuseIdleStop();
    this.#path.close();
    native.fuseUnlisten();
    for (const settle of this.#notifications.values()) settle(NO_BYTES);
    this.#notifications.clear();
  }

  /** Also at process exit: a worker in a call of the addon does not see the end of the process. */
  readonly #stopWorkers = (): void => {
    Atomics.store(this.#memory.control, 0, 1);
    for (const { id } of this.#workers) native.fuseWake(id);
  };

  async #startWorker(index: number, bounce: boolean): Promise<void> {
    // The same file name beside this one, as source or compiled.
    const thread = new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url), {
      name: `fuse-worker-${index}`,
      execArgv: [], // the parent's may not suit a worker (--input-type)
      workerData: { index, buffers: this.#memory.buffers, maxWrite: MAX_WRITE, bounce } satisfies WorkerData,
    });
    const ready = Promise.withResolvers<WorkerReady>();
    const exit = Promise.withResolvers<void>();
    thread.once("message", ready.resolve);
    thread.on("error", (error) => {
      this.#logger.error({ worker: index, stack: error.stack }, "a FUSE worker died");
      ready.reject(error);
    });
    thread.once("exit", () => {
      ready.reject(new FamfsError("INTERNAL", `FUSE worker ${index} ended before it was ready`));
      Atomics.store(this.#memory.activity, index * ACTIVITY.words + ACTIVITY.map, 0); // nobody need wait for it
      exit.resolve();
    });
    const { worker } = await ready.promise;
    this.#workers.push({ thread, exited: exit.promise, id: worker });
  }

  #transport(connection: number): Transport {
    return {
      send: (bytes, length) => {
        const errno = native.fuseSend(connection, bytes, length);
        if (errno === 0) return true;
        if (errno !== ERRNO.ENOENT && errno !== ERRNO.ENODEV) {
          this.#logger.error({ connection, errno }, "the kernel refused a reply");
        }
        return false;
      },
      notify: (bytes) => {
        const token = this.#nextToken;
        this.#nextToken = (token + 1) % 2 ** 32;
        return new Promise((resolve, reject) => {
          try {
            native.fuseNotify(connection, token, bytes);
            this.#notifications.set(token, resolve);
          } catch (error) {
            if ((error as { code?: unknown }).code === "ENODEV") resolve(NO_BYTES);
            else reject(fromSystemError(error, "fuseNotify"));
          }
        });
      },
      close: () => {
        this.#sessions.delete(connection);
        native.fuseStopNotifier(connection);
        native.fuseDisconnect(connection);
      },
    };
  }

  readonly #serveEvents = (): void => {
    for (let served = 0; served < BATCH; served++) {
      const kind = native.fuseTake(this.#buffer, this.#state);
      const [connection = 0, token = 0, errno = 0, length = 0] = this.#state;
      switch (kind) {
        case FUSE_EVENT.request:
          this.#sessions.get(connection)?.receive(this.#buffer.subarray(0, length));
          break;
        case FUSE_EVENT.ended:
          this.#sessions.get(connection)?.end(errno);
          break;
        case FUSE_EVENT.notified:
          this.#notifications.get(token)?.(this.#buffer.slice(0, length));
          this.#notifications.delete(token);
          break;
        default:
          return; // nothing left: the next event wakes us
      }
    }
    setImmediate(this.#serveEvents);
  };
}
