import { layoutRanges } from "../layouts.ts";
import type { FileMaps, MapInit, MapLayout } from "../ports.ts";
import type { NodeMemory } from "./node-memory.ts";

interface MapState {
  layout: MapLayout;
  size: number;
  capacity: number;
  filled: number;
  sealed: boolean;
  paused: boolean;
  guard: number;
  lastWriteMs: number;
}

/** File maps over the memory as one node sees it, with what workers do on READ and WRITE. */
export class MemoryMaps implements FileMaps {
  readonly #maps = new Map<number, MapState>();
  readonly #bytes: NodeMemory;
  readonly #now: () => number;
  #next = 1;

  constructor(bytes: NodeMemory, now: () => number) {
    this.#bytes = bytes;
    this.#now = now;
  }

  get count(): number {
    return this.#maps.size;
  }

  create(init: MapInit): number {
    const id = this.#next++;
    const { layout, size, capacity, filled, sealed, guard } = init;
    this.#maps.set(id, { layout, size, capacity, filled, sealed, guard, paused: false, lastWriteMs: 0 });
    return id;
  }

  setLayout(map: number, layout: MapLayout, capacity: number): void {
    Object.assign(this.state(map), { layout, capacity });
  }

  setSize(map: number, size: number): void {
    this.state(map).size = size;
  }

  setFilled(map: number, bytes: number): void {
    this.state(map).filled = bytes;
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

  filled(map: number): number {
    return this.state(map).filled;
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
    return !this.state(map).paused && this.writePrepared(map, offset, data);
  }

  /** As the main thread does after `prepareWrite`, while workers may be paused; false when the map has no room. */
  writePrepared(map: number, offset: number, data: Uint8Array): boolean {
    const state = this.state(map);
    const end = offset + data.byteLength;
    if (end > (state.sealed ? state.size : state.capacity)) return false;
    if (!state.sealed && offset > state.filled) return false;
    let done = 0;
    for (const range of this.#locate(state, offset, end)) {
      this.#bytes.write(range.offset, data.subarray(done, done + range.length));
      done += range.length;
    }
    if (!state.sealed) state.filled = Math.max(state.filled, end);
    state.size = Math.max(state.size, end);
    state.lastWriteMs = this.#now();
    return true;
  }

  read(map: number, offset: number, length: number): Uint8Array {
    const state = this.state(map);
    const end = Math.min(offset + length, state.size);
    if (end <= offset) return new Uint8Array(0);
    return Buffer.concat(this.#locate(state, offset, end).map((range) => this.#bytes.read(range.offset, range.length)));
  }

  state(map: number): MapState {
    const state = this.#maps.get(map);
    if (state === undefined) throw new Error(`map ${map} does not exist`);
    return state;
  }

  #locate({ layout }: MapState, from: number, to: number): { offset: number; length: number }[] {
    const ranges = layoutRanges(layout, from, to);
    const found = ranges.reduce((sum, { length }) => sum + length, 0);
    if (found !== to - from) throw new Error(`bytes ${from + found} to ${to} have no extent`);
    return ranges;
  }
}
