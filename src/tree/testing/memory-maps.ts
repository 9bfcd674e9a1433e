import type { FileMaps, MapInit, MapLayout } from "../ports.ts";
import type { SparseBytes } from "./sparse-bytes.ts";

interface MapState {
  layout: MapLayout;
  size: number;
  capacity: number;
  sealed: boolean;
  paused: boolean;
  guard: number;
  lastWriteMs: number;
}

/** File maps over one buffer, with what workers do on READ and WRITE. */
export class MemoryMaps implements FileMaps {
  readonly #maps = new Map<number, MapState>();
  readonly #bytes: SparseBytes;
  readonly #now: () => number;
  #next = 1;

  constructor(bytes: SparseBytes, now: () => number) {
    this.#bytes = bytes;
    this.#now = now;
  }

  get count(): number {
    return this.#maps.size;
  }

  create(init: MapInit): number {
    const id = this.#next++;
    const { layout, size, capacity, sealed, guard } = init;
    this.#maps.set(id, { layout, size, capacity, sealed, guard, paused: false, lastWriteMs: 0 });
    return id;
  }

  setLayout(map: number, layout: MapLayout, capacity: number): void {
    Object.assign(this.state(map), { layout, capacity });
  }

  setSize(map: number, size: number): void {
    this.state(map).size = size;
  }

  setGuard(map: number, guard: number): void {
    this.state(map).guard = guard;
  }

  setSealed(map: number, sealed: boolean): void {
    this.state(map).sealed = sealed;
  }

  setPaused(map: number, paused: boolean): void {
    this.state(map).paused = paused;
  }

  size(map: number): number {
    return this.state(map).size;
  }

  lastWriteMs(map: number): number {
    return this.state(map).lastWriteMs;
  }

  async idle(map: number): Promise<void> {
    this.state(map);
  }

  destroy(map: number): void {
    if (!this.#maps.delete(map)) throw new Error(`map ${map} is gone already`);
  }

  /** As a worker does; false when the request has to go to `prepareWrite` first. */
  write(map: number, offset: number, data: Uint8Array): boolean {
    const state = this.state(map);
    const end = offset + data.byteLength;
    if (state.paused || end > (state.sealed ? state.size : state.capacity)) return false;
    for (let at = 0; at < data.byteLength; at++) this.#bytes.set(this.#locate(state, offset + at), data[at] ?? 0);
    state.size = Math.max(state.size, end);
    state.lastWriteMs = this.#now();
    return true;
  }

  read(map: number, offset: number, length: number): Uint8Array {
    const state = this.state(map);
    const end = Math.min(offset + length, state.size);
    const result = new Uint8Array(Math.max(0, end - offset));
    for (let at = 0; at < result.length; at++) result[at] = this.#bytes.get(this.#locate(state, offset + at));
    return result;
  }

  state(map: number): MapState {
    const state = this.#maps.get(map);
    if (state === undefined) throw new Error(`map ${map} does not exist`);
    return state;
  }

  #locate({ layout }: MapState, offset: number): number {
    if (layout.type === "interleaved") {
      const { chunkSize, strips } = layout;
      const chunk = Math.floor(offset / chunkSize);
      const strip = strips[chunk % strips.length];
      const within = Math.floor(chunk / strips.length) * chunkSize + (offset % chunkSize);
      if (strip === undefined || within >= strip.length) throw new Error(`byte ${offset} has no strip`);
      return strip.offset + within;
    }
    let start = 0;
    for (const extent of layout.extents) {
      if (offset < start + extent.length) return extent.offset + offset - start;
      start += extent.length;
    }
    throw new Error(`byte ${offset} has no extent`);
  }
}
