import type { RequestContext } from "../base/index.ts";
import type { FileHandle } from "./file-handles.ts";
import type { Attributes, Entry, KernelCaches, Missing, Opened, Operations } from "./operations.ts";

/** What handlers know of the session they work for. */
export interface ServedConnection {
  readonly operations: Operations;
  readonly caches: KernelCaches;
  /** Largest READ and WRITE. */
  readonly maxWrite: number;
  /** The open file behind the `fh` at `at` of a request body; throws HANDLE_STALE. */
  handleAt(view: DataView, at: number): FileHandle;
  openFile(nodeid: number, opened: Opened): FileHandle;
  closeFile(handle: FileHandle): void;
  /** Closes what `openFile` made of this, if it came to that. */
  forgetOpened(nodeid: number, opened: Opened): void;
  /** For whoever must see set-id bits come and go: all attributes on their way to the kernel. */
  learn(attributes: Attributes): void;
  /** All entries on their way to the kernel: each is a reference to its node that the kernel holds until FORGET. */
  learnEntry(entry: Entry | Missing): void;
  /** Removes set-id bits of a file that has them (set-id.ts). Undefined when it has none. */
  clearSetId(nodeid: number, by: RequestContext): Promise<void> | undefined;
  mustClearSetId(nodeid: number, valid: number): boolean;
  /** File bytes straight from or to the window, for what workers leave to the main thread. */
  read(handle: FileHandle, offset: number, target: Uint8Array): number;
  write(handle: FileHandle, offset: number, data: Uint8Array): void;
  /** For data that is kept until it can be written. OVERLOADED. */
  hold(bytes: number): Disposable;
  /** Work whose outcome nobody waits for: a failure is logged. */
  background(what: string, work: () => void | Promise<void>): void;
}
