import { setImmediate as yieldToEvents } from "node:timers/promises";
import { FamfsError } from "../base/index.ts";
import { BlockArena } from "./block-arena.ts";
import type { FileLayout, FileMapId, FileMapInit, FileMapTable } from "./file-map.ts";
import { ACTIVITY, LAYOUT, MAP, MAP_STATE, MAX_MAPS, type SharedMemory } from "./shared-memory.ts";

/** The smallest interleave chunk: a 1 MiB request then has at most 257 pieces, which one reply can carry. */
const MIN_CHUNK = 4096;

/** The main thread's side of the file maps. */
export class SharedFileMaps implements FileMapTable {
  readonly #memory: SharedMemory;
  readonly #layouts: BlockArena;
  readonly #free: number[] = [];
  #used = 0;

  constructor(memory: SharedMemory) {
    this.#memory = memory;
    this.#layouts = new BlockArena(memory.layouts.length);
  }

  create(init: FileMapInit): FileMapId {
    const block = this.#writeLayout(init.layout, init.capacity);
    const index = this.#free.pop() ?? this.#used++;
    if (index >= MAX_MAPS) {
      this.#used--;
      this.#layouts.free(block);
      throw new FamfsError("SYSTEM", `${MAX_MAPS} files are open already`, {
        details: { errno: "ENFILE", syscall: "open" },
      });
    }
    const { maps, mapDoubles } = this.#memory;
    const base = index * MAP.words;
    const generation = Atomics.load(maps, base + MAP.generation);
    Atomics.store(maps, base + MAP.state, init.sealed ? MAP_STATE.sealed : 0);
    Atomics.store(maps, base + MAP.window, init.window);
    Atomics.store(maps, base + MAP.guard, init.guard);
    Atomics.store(maps, base + MAP.layout, block);
    this.#memory.setFilled(index, init.filled);
    this.#memory.setSize(index, init.size);
    mapDoubles[(base + MAP.lastWriteMs) / 2] = 0;
    return (generation * MAX_MAPS + index) as FileMapId;
  }

  setLayout(map: FileMapId, layout: FileLayout, capacity: number): void {
    const index = this.indexOf(map);
    const block = this.#writeLayout(layout, capacity);
    const old = Atomics.exchange(this.#memory.maps, index * MAP.words + MAP.layout, block);
    void this.#whenUnused(index).then(() => this.#layouts.free(old));
  }

  setSize(map: FileMapId, size: number): void {
    this.#memory.setSize(this.indexOf(map), size);
  }

  setFilled(map: FileMapId, bytes: number): void {
    this.#memory.setFilled(this.indexOf(map), bytes);
  }

  setGuard(map: FileMapId, guard: number): void {
    Atomics.store(this.#memory.maps, this.indexOf(map) * MAP.words + MAP.guard, guard);
  }

  setSealed(map: FileMapId, sealed: boolean): void {
    this.#setState(map, MAP_STATE.sealed, sealed);
  }

  setPaused(map: FileMapId, paused: boolean): void {
    this.#setState(map, MAP_STATE.paused, paused);
  }

  size(map: FileMapId): number {
    return this.#memory.size(this.indexOf(map));
  }

  filled(map: FileMapId): number {
    return this.#memory.filled(this.indexOf(map));
  }

  lastWriteMs(map: FileMapId): number {
    return this.#memory.mapDoubles[(this.indexOf(map) * MAP.words + MAP.lastWriteMs) / 2] as number;
  }

  idle(map: FileMapId): Promise<void> {
    return this.#whenUnused(this.indexOf(map));
  }

  destroy(map: FileMapId): void {
    const index = this.indexOf(map);
    const { maps } = this.#memory;
    const base = index * MAP.words;
    // Handles that still name the old generation are stale from here on. 31 bits, because map ids are safe integers.
    Atomics.store(maps, base + MAP.generation, (Atomics.load(maps, base + MAP.generation) + 1) & 0x7fff_ffff);
    const block = Atomics.load(maps, base + MAP.layout);
    void this.#whenUnused(index).then(() => {
      this.#layouts.free(block);
      this.#free.push(index);
    });
  }

  /** Index of a live map; throws HANDLE_STALE for any other number. */
  indexOf(map: FileMapId): number {
    const index = map % MAX_MAPS;
    const generation = Math.floor(map / MAX_MAPS);
    if (!(index < this.#used) || Atomics.load(this.#memory.maps, index * MAP.words + MAP.generation) !== generation) {
      throw new FamfsError("HANDLE_STALE", `file map ${map} does not exist (any more)`);
    }
    return index;
  }

  generationOf(map: FileMapId): number {
    return Math.floor(map / MAX_MAPS);
  }

  #setState(map: FileMapId, flag: number, on: boolean): void {
    const cell = this.indexOf(map) * MAP.words + MAP.state;
    if (on) Atomics.or(this.#memory.maps, cell, flag);
    else Atomics.and(this.#memory.maps, cell, ~flag);
  }

  /**
   * Resolves when each worker that is inside the map now has ended that request: a worker announces a map before it
   * looks at it, and a request takes well under a millisecond. The main thread's own use never spans an await.
   */
  async #whenUnused(index: number): Promise<void> {
    const { activity, workers } = this.#memory;
    for (let worker = 0; worker < workers; worker++) {
      const cell = worker * ACTIVITY.words;
      const ended = Atomics.load(activity, cell + ACTIVITY.ended);
      while (
        Atomics.load(activity, cell + ACTIVITY.map) === index + 1 &&
        Atomics.load(activity, cell + ACTIVITY.ended) === ended
      ) {
        await yieldToEvents();
      }
    }
  }

  #writeLayout(layout: FileLayout, capacity: number): number {
    const extents = layout.type === "simple" ? layout.extents : layout.strips;
    if (layout.type === "interleaved" && (layout.chunkSize < MIN_CHUNK || extents.length === 0)) {
      throw new FamfsError(
        "INVALID_ARGUMENT",
        `interleaved layout with ${extents.length} strips of ${layout.chunkSize}-byte chunks`,
      );
    }
    const block = this.#layouts.allocate(LAYOUT.extents + 2 * extents.length);
    const { layouts } = this.#memory;
    layouts[block + LAYOUT.capacity] = capacity;
    layouts[block + LAYOUT.chunkSize] = layout.type === "simple" ? 0 : layout.chunkSize;
    layouts[block + LAYOUT.count] = extents.length;
    extents.forEach((extent, index) => {
      layouts[block + LAYOUT.extents + 2 * index] = extent.offset;
      layouts[block + LAYOUT.extents + 2 * index + 1] = extent.length;
    });
    return block;
  }
}
