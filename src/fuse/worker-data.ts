export interface SharedBuffers {
  readonly handles: SharedArrayBuffer;
  readonly maps: SharedArrayBuffer;
  readonly layouts: SharedArrayBuffer;
  readonly activity: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
}

/** What a worker thread is started with. */
export interface WorkerData {
  readonly index: number;
  readonly buffers: SharedBuffers;
  /** Largest request body the kernel may send; the receive buffer is a little larger. */
  readonly maxWrite: number;
  /** Replies are copied out of windows by us, never by the kernel (design 9). */
  readonly bounce: boolean;
}

/** What a worker tells the main thread: the addon's number of it, once it receives. */
export interface WorkerReady {
  readonly worker: number;
}
