import { ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Window, type WindowOptions } from "../../media/index.ts";
import { SparseBytes } from "./sparse-bytes.ts";

/** A volume's memory as one node sees it. */
export interface NodeMemory {
  read(offset: number, length: number): Uint8Array;
  /** As workers store the data of a WRITE. */
  write(offset: number, data: Uint8Array): void;
  zero(offset: number, length: number): void;
  invalidate(offset: number, length: number): void;
  /** The processors of the node write back what is dirty: at any time, without being asked. */
  evict(): void;
}

/** The memory that the nodes of a `SharedVolume` share. */
export interface SharedMemory {
  /** The bytes of the memory, whatever a node has in its caches. */
  readonly memory: NodeMemory;
  /** As `node` sees it. */
  of(node: string, dataWriters: "one" | "any"): NodeMemory;
}

/** Every store is seen by all at once. */
export function coherentMemory(): SharedMemory {
  const bytes = new SparseBytes();
  return { memory: bytes, of: () => bytes };
}

/**
 * Each node has caches of its own: `caches=` of a simulated device (src/media/device-spec.ts), through the real calls.
 */
export function incoherentMemory(length: number): SharedMemory {
  const folder = mkdtempSync(join(tmpdir(), "famfs-hosts-"));
  const file = openSync(join(folder, "memory"), "w+");
  rmSync(folder, { recursive: true });
  ftruncateSync(file, length);
  const of = (host: string | undefined, through: WindowOptions["through"]) =>
    new WindowMemory(
      Window.map(file, { offset: 0, length }, { writable: true, through, what: `memory of ${host}`, host }),
    );
  return {
    memory: of(undefined, "nothing"),
    of: (node, dataWriters) => of(node, dataWriters === "any" ? "all" : "stores"),
  };
}

/** The bytes as a window shows them. */
export class WindowMemory implements NodeMemory {
  readonly #window: Window;

  constructor(window: Window) {
    this.#window = window;
  }

  read(offset: number, length: number): Uint8Array {
    return this.#window.read(offset, length);
  }

  write(offset: number, data: Uint8Array): void {
    this.#window.copyIn(offset, data);
  }

  zero(offset: number, length: number): void {
    this.#window.zero(offset, length);
  }

  invalidate(offset: number, length: number): void {
    this.#window.invalidate(offset, length);
  }

  evict(): void {
    this.#window.flush(0, this.#window.length);
  }
}
