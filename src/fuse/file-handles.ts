import { FamfsError } from "../base/index.ts";
import type { SharedFileMaps } from "./file-map-table.ts";
import type { Opened } from "./operations.ts";
import { HANDLE, HANDLE_FLAG, MAP, MAX_HANDLES, type SharedMemory } from "./shared-memory.ts";

/** An open file. The kernel knows it as `fh` = generation << 32 | slot. */
export interface FileHandle {
  readonly slot: number;
  readonly generation: number;
  readonly connection: number;
  readonly nodeid: number;
  readonly opened: Opened;
  /** Index of the file map in shared memory. */
  readonly map: number;
}

/** The main thread's side of the open files of all connections. */
export class FileHandles {
  readonly #memory: SharedMemory;
  readonly #maps: SharedFileMaps;
  readonly #handles: (FileHandle | undefined)[] = [];
  /** By connection and nodeid: a request looks at the handles of its own file only. */
  readonly #byNode = new Map<number, Map<number, Set<FileHandle>>>();
  readonly #free: number[] = [];

  constructor(memory: SharedMemory, maps: SharedFileMaps) {
    this.#memory = memory;
    this.#maps = maps;
  }

  open(connection: number, nodeid: number, opened: Opened, setId: boolean): FileHandle {
    const map = this.#maps.indexOf(opened.map);
    const slot = this.#free.pop() ?? this.#handles.length;
    if (slot >= MAX_HANDLES) {
      throw new FamfsError("SYSTEM", `${MAX_HANDLES} files are open already`, {
        details: { errno: "ENFILE", syscall: "open" },
      });
    }
    const { handles } = this.#memory;
    const base = slot * HANDLE.words;
    const flags = (opened.writable ? HANDLE_FLAG.writable : 0) | (setId ? HANDLE_FLAG.setId : 0);
    handles[base + HANDLE.connection] = connection;
    handles[base + HANDLE.map] = map;
    handles[base + HANDLE.mapGeneration] = this.#maps.generationOf(opened.map);
    handles[base + HANDLE.flags] = flags;
    const generation = nextGeneration(Atomics.load(handles, base + HANDLE.generation));
    Atomics.store(handles, base + HANDLE.generation, generation);
    const handle = { slot, generation, connection, nodeid, opened, map };
    this.#handles[slot] = handle;
    this.#ofNode(connection, nodeid).add(handle);
    return handle;
  }

  /** The open file behind an `fh` of `connection`; throws HANDLE_STALE for anything else. */
  resolve(connection: number, low: number, high: number): FileHandle {
    const handle = this.#handles[low];
    if (handle === undefined || handle.generation !== high || handle.connection !== connection) {
      throw new FamfsError("HANDLE_STALE", `file handle ${low}.${high} is not open on connection ${connection}`);
    }
    return handle;
  }

  close(handle: FileHandle): void {
    const cell = handle.slot * HANDLE.words + HANDLE.generation;
    Atomics.store(this.#memory.handles, cell, nextGeneration(handle.generation));
    this.#handles[handle.slot] = undefined;
    this.#free.push(handle.slot);
    const nodes = this.#byNode.get(handle.connection);
    const handles = nodes?.get(handle.nodeid);
    handles?.delete(handle);
    if (handles?.size === 0) nodes?.delete(handle.nodeid);
    if (nodes?.size === 0) this.#byNode.delete(handle.connection);
  }

  /** Open files of one connection, or those of one node of it; a copy, so they may be closed meanwhile. */
  of(connection: number, nodeid?: number): FileHandle[] {
    const nodes = this.#byNode.get(connection);
    if (nodes === undefined) return [];
    if (nodeid !== undefined) return [...(nodes.get(nodeid) ?? [])];
    return [...nodes.values()].flatMap((handles) => [...handles]);
  }

  #ofNode(connection: number, nodeid: number): Set<FileHandle> {
    const nodes = this.#byNode.get(connection) ?? new Map<number, Set<FileHandle>>();
    this.#byNode.set(connection, nodes);
    const handles = nodes.get(nodeid) ?? new Set<FileHandle>();
    nodes.set(nodeid, handles);
    return handles;
  }

  /** Whether writes through this handle must clear set-id bits first. */
  setSetId(handle: FileHandle, on: boolean): void {
    const cell = handle.slot * HANDLE.words + HANDLE.flags;
    if (on) Atomics.or(this.#memory.handles, cell, HANDLE_FLAG.setId);
    else Atomics.and(this.#memory.handles, cell, ~HANDLE_FLAG.setId);
  }

  isMapLive(handle: FileHandle): boolean {
    const { handles, maps } = this.#memory;
    return (
      Atomics.load(maps, handle.map * MAP.words + MAP.generation) ===
      handles[handle.slot * HANDLE.words + HANDLE.mapGeneration]
    );
  }
}

/** 1 to 2^31 - 1: never 0, which an unused record has. */
function nextGeneration(generation: number): number {
  return generation >= 0x7fff_ffff ? 1 : generation + 1;
}
