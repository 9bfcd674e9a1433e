/**
 * Calls of fuse.c, fuse-worker.c, fuse-idle.c and fuse-events.c: the kernel transport. Connections are named by numbers
 * that are never used twice. Calls that answer requests return an errno (0 = sent) and do not throw: a request that is
 * gone
 * (ENOENT) and a connection that is gone (ENODEV) are daily business.
 */
export interface FuseCalls {
  /** Serves a mounted /dev/fuse descriptor, which is closed by `fuseDisconnect`. Returns the connection. */
  fuseConnect(fd: number): number;
  fuseDisconnect(connection: number): void;
  /** Sends one whole reply or notification, the first `length` bytes of `bytes`. */
  fuseSend(connection: number, bytes: Uint8Array, length: number): number;

  /**
   * Makes this thread a worker. Requests arrive in `buffer`, the connection of the last one in `state[0]`;
   * `segments` (pairs of window offset and length, 2 * 1023 numbers) is read by `fuseReplyRead`. With `bounce`,
   * the kernel never copies from a window itself. Returns the worker.
   */
  fuseWorkerOpen(buffer: Uint8Array, segments: Float64Array, state: Uint32Array, bounce: boolean): number;
  fuseWorkerClose(worker: number): void;
  /** Ends that worker's wait; any thread. */
  fuseWake(worker: number): void;
  /** Length of the next request, 0 after the timeout or a wake. */
  fuseReceive(worker: number, timeoutMs: number): number;
  /**
   * The event loop of this thread waits for requests while it has nothing else to do. `onWork` is called with the
   * length of one in the worker's buffer, or with 0 when `fuseTake` has something. It answers true when it left
   * nothing behind (no promise, no tick), which then need not be run.
   */
  fuseIdleStart(worker: number, onWork: (length: number) => boolean): void;
  fuseIdleStop(): void;
  /** Hands a copy of the request in the buffer to the main thread. */
  fuseForward(worker: number): void;
  fuseReplyError(worker: number, errno: number): number;
  /** Answers the READ in the buffer from the first `count` segments of `window`; on failure, with that errno. */
  fuseReplyRead(worker: number, window: number, count: number): number;
  /**
   * Does the WRITE in the buffer, whose data begins at `start`, into the first `count` segments of `window` as
   * `fuseCopyIn` does, and answers it. After an error it is not answered.
   */
  fuseReplyWrite(worker: number, guard: number, window: number, count: number, start: number): number;
  /**
   * Copies `bytes` from `start` on into `count` segments of `window`, past the caches where that is mapped so, and
   * checks `guard` before and after each 64 KiB. An errno: ESTALE when the guard did not hold and nothing was stored,
   * ECANCELED when it stopped to hold meanwhile.
   */
  fuseCopyIn(
    guard: number,
    window: number,
    segments: Float64Array,
    count: number,
    bytes: Uint8Array,
    start: number,
  ): number;

  /** `onEvents` is called on this thread when `fuseTake` may have something. One listener per process. */
  fuseListen(onEvents: () => void): void;
  fuseUnlisten(): void;
  /** Kind of the next event (FUSE_EVENT), 0 when there is none; `state` = [connection, token, errno, length]. */
  fuseTake(buffer: Uint8Array, state: Uint32Array): number;
  /** Starts the thread that sends the connection's notifications. EAGAIN, ENOMEM. */
  fuseStartNotifier(connection: number): void;
  /**
   * Queues notifications, one behind the other in `bytes`, for that thread. The event `notified` brings back those that
   * the kernel refused, each with its errno as `unique`. ENODEV when the connection is over, ENOMEM.
   */
  fuseNotify(connection: number, token: number, bytes: Uint8Array): void;
  fuseStopNotifier(connection: number): void;
}

export const FUSE_EVENT = { request: 1, ended: 2, notified: 3 } as const;
