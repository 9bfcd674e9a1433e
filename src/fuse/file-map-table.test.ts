import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { BlockArena } from "./block-arena.ts";
import { FileHandles } from "./file-handles.ts";
import type { FileLayout, FileMapInit } from "./file-map.ts";
import { SharedFileMaps } from "./file-map-table.ts";
import { ACTIVITY, SharedMemory } from "./shared-memory.ts";

function setUp() {
  const memory = SharedMemory.allocate(2);
  return { memory, maps: new SharedFileMaps(memory) };
}

const init = (layout: FileLayout, size: number): FileMapInit => ({
  window: 1,
  guard: 0,
  layout,
  size,
  capacity: size,
  filled: size,
  sealed: false,
});
const simple = (...lengths: number[]): FileLayout => {
  let offset = 0;
  return {
    type: "simple",
    extents: lengths.map((length) => {
      const extent = { offset, length };
      offset += length + 1; // never adjacent, so that pieces cannot be confused
      return extent;
    }),
  };
};

/** Byte by byte, as the format describes it. */
function expectedAt(layout: FileLayout, position: number): number | undefined {
  if (layout.type === "simple") {
    let left = position;
    for (const { offset, length } of layout.extents) {
      if (left < length) return offset + left;
      left -= length;
    }
    return undefined;
  }
  const chunk = Math.floor(position / layout.chunkSize);
  const strip = layout.strips[chunk % layout.strips.length];
  const within = Math.floor(chunk / layout.strips.length) * layout.chunkSize + (position % layout.chunkSize);
  return strip === undefined || within >= strip.length ? undefined : strip.offset + within;
}

const layouts: fc.Arbitrary<FileLayout> = fc.oneof(
  fc.array(fc.integer({ min: 1, max: 5000 }), { maxLength: 6 }).map((lengths) => simple(...lengths)),
  fc
    .record({ strips: fc.integer({ min: 1, max: 4 }), chunks: fc.integer({ min: 1, max: 3 }) })
    .map(({ strips, chunks }) => ({
      type: "interleaved" as const,
      chunkSize: 4096,
      strips: Array.from({ length: strips }, (_, index) => ({ offset: index * 1e6, length: chunks * 4096 })),
    })),
);

test("located pieces are the bytes the layout means, or nothing at all", () => {
  const { memory, maps } = setUp();
  const segments = new Float64Array(64);
  fc.assert(
    fc.property(layouts, fc.nat(60_000), fc.nat(60_000), (layout, offset, length) => {
      const map = maps.create(init(layout, 0));
      const count = memory.locate(maps.indexOf(map), offset, length, segments);
      const positions: number[] = [];
      for (let index = 0; index < count; index++) {
        const from = segments[2 * index] ?? 0;
        for (let byte = 0; byte < (segments[2 * index + 1] ?? 0); byte++) positions.push(from + byte);
      }
      maps.destroy(map);
      if (count < 0) {
        assert.ok(length > 0 && expectedAt(layout, offset + length - 1) === undefined);
        return;
      }
      assert.equal(positions.length, length);
      for (const probe of [0, 1, length >> 1, length - 1]) {
        if (probe >= 0 && probe < length) assert.equal(positions[probe], expectedAt(layout, offset + probe));
      }
    }),
    { numRuns: 300 },
  );
});

test("a layout with more pieces than a reply can carry is refused, not cut", () => {
  const { memory, maps } = setUp();
  const map = maps.create(init(simple(...new Array<number>(50).fill(10)), 500));
  assert.equal(memory.locate(maps.indexOf(map), 0, 500, new Float64Array(20)), -1);
});

test("sizes beyond 4 GiB survive, and extending never shrinks", () => {
  const { memory, maps } = setUp();
  const map = maps.create(init(simple(10), 2 ** 33 + 5));
  const index = maps.indexOf(map);
  assert.equal(maps.size(map), 2 ** 33 + 5);
  memory.extend(index, 7);
  assert.equal(maps.size(map), 2 ** 33 + 5);
  memory.extend(index, 2 ** 40 + 1);
  assert.equal(maps.size(map), 2 ** 40 + 1);
});

test("a sealed map may be written up to its size, another one up to its capacity without a gap", () => {
  const { memory, maps } = setUp();
  const map = maps.create({ ...init(simple(100), 10), capacity: 100 });
  const index = maps.indexOf(map);
  const allowed = (offset: number, end: number) => memory.mayWrite(index, offset, end);
  assert.deepEqual([allowed(10, 100), allowed(10, 101), allowed(11, 20)], [true, false, false]);
  memory.extend(index, 40);
  assert.deepEqual([maps.size(map), maps.filled(map)], [40, 40]);
  assert.deepEqual([allowed(40, 50), allowed(41, 50)], [true, false]);
  maps.setFilled(map, 60);
  assert.deepEqual([maps.size(map), allowed(60, 70), allowed(61, 70)], [40, true, false]);
  maps.setSealed(map, true);
  assert.deepEqual([allowed(0, 40), allowed(0, 41)], [true, false]);
  maps.setLayout(map, simple(100, 100), 200);
  maps.setSealed(map, false);
  assert.deepEqual([allowed(60, 200), allowed(60, 201)], [true, false]);
});

test("a destroyed map's number is never valid again, and neither are handles that named it", async () => {
  const { memory, maps } = setUp();
  const handles = new FileHandles(memory, maps);
  const map = maps.create(init(simple(10), 10));
  const opened = { handle: 1, map, directIo: false, keepCache: false, writable: true, reportsAtClose: true };
  const handle = handles.open(1, 5, opened, false);
  maps.destroy(map);
  assert.throws(() => maps.size(map), { code: "HANDLE_STALE" });
  await new Promise((resolve) => setImmediate(resolve));
  const next = maps.create(init(simple(10), 10));
  assert.notEqual(next, map);
  assert.equal(maps.indexOf(next), handle.map, "its slot is used again");
  assert.equal(handles.isMapLive(handle), false);
});

test("idle waits for the worker that is inside the map, and for no other", async () => {
  const { memory, maps } = setUp();
  const map = maps.create(init(simple(10), 10));
  const other = maps.create(init(simple(10), 10));
  Atomics.store(memory.activity, ACTIVITY.map, maps.indexOf(map) + 1);
  await maps.idle(other);
  let idle = false;
  const waiting = maps.idle(map).then(() => {
    idle = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(idle, false);
  Atomics.add(memory.activity, ACTIVITY.ended, 1); // the next request of that worker may use the map again
  await waiting;
});

test("handles of another connection and of an earlier open are stale", () => {
  const { memory, maps } = setUp();
  const handles = new FileHandles(memory, maps);
  const opened = {
    handle: 1,
    map: maps.create(init(simple(10), 10)),
    directIo: false,
    keepCache: false,
    writable: true,
    reportsAtClose: true,
  };
  const handle = handles.open(1, 5, opened, false);
  assert.equal(handles.resolve(1, handle.slot, handle.generation), handle);
  assert.throws(() => handles.resolve(2, handle.slot, handle.generation), { code: "HANDLE_STALE" });
  handles.close(handle);
  assert.throws(() => handles.resolve(1, handle.slot, handle.generation), { code: "HANDLE_STALE" });
  assert.notEqual(handles.open(1, 5, opened, false).generation, handle.generation);
});

test("blocks never overlap while they are in use", () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constant("free" as const)), { maxLength: 60 }),
      (steps) => {
        const arena = new BlockArena(10_000);
        const live: { at: number; length: number }[] = [];
        for (const step of steps) {
          if (step === "free") {
            const block = live.shift();
            if (block !== undefined) arena.free(block.at);
            continue;
          }
          const at = arena.allocate(step);
          for (const block of live) assert.ok(at >= block.at + block.length || at + step <= block.at);
          live.push({ at, length: step });
        }
      },
    ),
  );
  const arena = new BlockArena(16);
  arena.allocate(16);
  assert.throws(() => arena.allocate(1), { code: "SYSTEM" });
  assert.throws(() => arena.free(3), { code: "INTERNAL" });
});
