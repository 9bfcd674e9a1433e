/** A worker thread: answers READ and WRITE of all connections, passes everything else on to the main thread. */
import { parentPort, workerData } from "node:worker_threads";
import { native } from "../../native/index.ts";
import { DataPath } from "./data-path.ts";
import { SharedMemory } from "./shared-memory.ts";
import type { WorkerData, WorkerReady } from "./worker-data.ts";

/**
 * A wait is ended by `fuseWake`; that it also ends by itself is for a main thread that dies without saying so, because
 * a thread can be terminated only between two calls of the addon.
 */
const WAIT_MS = 1000;

const { index, buffers, maxWrite, bounce } = workerData as WorkerData;
const memory = new SharedMemory(buffers);
const passOn = (from: DataPath) => native.fuseForward(from.worker);
const path = new DataPath({ native, memory, index, maxWrite, bounce, passOn });
parentPort?.postMessage({ worker: path.worker } satisfies WorkerReady);
while (Atomics.load(memory.control, 0) === 0) path.serveOne(WAIT_MS);
path.close();
