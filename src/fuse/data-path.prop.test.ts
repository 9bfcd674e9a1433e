import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { native } from "../../native/index.ts";
import { cases } from "../../test/support/cases.ts";
import { DataPath } from "./data-path.ts";
import { ERRNO } from "./errno.ts";
import { FileHandles } from "./file-handles.ts";
import { SharedFileMaps } from "./file-map-table.ts";
import { OPCODES } from "./opcode.ts";
import { SharedMemory } from "./shared-memory.ts";
import { request } from "./testing/fake-kernel.ts";
import { ReadIn, WriteIn } from "./wire.ts";

const CONNECTION = 4097;
const EXTENT = { offset: 1000, length: 5000 };
const SIZE = 3000;

/** A worker whose kernel and memory are ours: it gets bytes, and we see what it does with them. */
function setUp(connection = CONNECTION) {
  const memory = SharedMemory.allocate(1);
  const maps = new SharedFileMaps(memory);
  const handles = new FileHandles(memory, maps);
  const layout = { type: "simple" as const, extents: [EXTENT] };
  const map = maps.create({ window: 9, guard: 0, layout, size: SIZE, capacity: 5000, filled: SIZE, sealed: false });
  const opened = { handle: 1, map, directIo: false, keepCache: false, writable: true, reportsAtClose: true };
  const handle = handles.open(CONNECTION, 5, opened, false);
  const answers: string[] = [];
  let buffer = new Uint8Array();
  let segments = new Float64Array();
  const inside = (count: number) => {
    for (let index = 0; index < count; index++) {
      const [offset = Number.NaN, length = Number.NaN] = segments.subarray(2 * index, 2 * index + 2);
      assert.ok(offset >= EXTENT.offset && offset + length <= EXTENT.offset + EXTENT.length);
    }
  };
  const path = new DataPath({
    memory,
    index: 0,
    maxWrite: 8192,
    bounce: false,
    passOn: () => answers.push("passed on"),
    native: {
      ...native,
      fuseWorkerOpen(bytes, pieces, state) {
        buffer = bytes as Uint8Array<ArrayBuffer>;
        segments = pieces as Float64Array<ArrayBuffer>;
        state[0] = connection;
        return 0;
      },
      fuseReplyError: (_worker, errno) => answers.push(`errno ${errno}`),
      fuseReplyRead(_worker, _window, count) {
        inside(count);
        const bytes = count === 0 ? 0 : (segments[1] ?? 0);
        answers.push(`read ${bytes}`);
        return 0;
      },
      fuseReplyWrite(_worker, _guard, _window, count) {
        inside(count);
        answers.push("written");
        return 0;
      },
      fuseCopyIn(_guard, _window, _segments, count, bytes, start) {
        inside(count);
        assert.ok(start + (segments[1] ?? 0) <= bytes.byteLength);
        return 0;
      },
      fuseSend: () => answers.push("written"),
    },
  });
  const fh = (BigInt(handle.generation) << 32n) | BigInt(handle.slot);
  const feed = (bytes: Uint8Array): string | undefined => {
    answers.length = 0;
    buffer.set(bytes);
    path.serve(bytes.byteLength);
    assert.ok(answers.length <= 1, `answered ${answers.length} times`);
    return answers[0];
  };
  return { feed, fh, maps, map, memory };
}

function read(fh: bigint, offset: bigint, size: number): Uint8Array {
  const body = ReadIn.encode({ fh, offset, size, read_flags: 0, lock_owner: 0n, flags: 0 });
  return request(OPCODES.READ.opcode, 2n, 5, [body]);
}

function write(fh: bigint, offset: bigint, size: number, data: number): Uint8Array {
  const body = WriteIn.encode({ fh, offset, size, write_flags: 0, lock_owner: 0n, flags: 0 });
  return request(OPCODES.WRITE.opcode, 2n, 5, [body, new Uint8Array(data)]);
}

test("reads stop at the end of the file, writes within the capacity land, others are passed on", () => {
  const { feed, fh, maps, map } = setUp();
  assert.equal(feed(read(fh, 0n, 100)), "read 100");
  assert.equal(feed(read(fh, 2990n, 100)), "read 10");
  assert.equal(feed(read(fh, 3000n, 100)), "read 0");
  assert.equal(feed(write(fh, 3001n, 10, 10)), "passed on"); // what was at byte 3000 before would be seen
  assert.equal(feed(write(fh, 3000n, 2000, 2000)), "written");
  assert.equal(maps.size(map), 5000);
  assert.equal(feed(write(fh, 4001n, 1000, 1000)), "passed on");
  maps.setPaused(map, true);
  assert.equal(feed(write(fh, 0n, 1, 1)), "passed on");
});

test("a read during which the file is emptied is no error: who changes size and layout answers it", () => {
  const { feed, fh, maps, map, memory } = setUp();
  const size = memory.size.bind(memory);
  memory.size = (index) => {
    const before = size(index);
    maps.setSize(map, 0);
    maps.setLayout(map, { type: "simple", extents: [] }, 0);
    return before;
  };
  assert.equal(feed(read(fh, 0n, 100)), "passed on");
  assert.equal(feed(read(fh, 0n, 100)), "read 0");
});

test("a handle of another connection, and one whose map is gone, is EBADF", () => {
  const stranger = setUp(CONNECTION + 1);
  assert.equal(stranger.feed(read(stranger.fh, 0n, 1)), `errno ${ERRNO.EBADF}`);
  const { feed, fh, maps, map } = setUp();
  maps.destroy(map);
  assert.equal(feed(read(fh, 0n, 1)), `errno ${ERRNO.EBADF}`);
  assert.equal(feed(write(fh, 0n, 1, 1)), `errno ${ERRNO.EBADF}`);
});

test("whatever the request says, it is answered once and stays inside the file's memory", () => {
  const { feed, fh, memory } = setUp();
  const u64 = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 6000n }));
  const handle = fc.oneof(fc.constant(fh), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
  const size = fc.oneof(fc.integer({ min: 0, max: 9000 }), fc.integer({ min: 0, max: 0xffff_ffff }));
  fc.assert(
    fc.property(
      handle,
      u64,
      size,
      fc.integer({ min: 0, max: 4000 }),
      fc.boolean(),
      (which, offset, length, data, isRead) => {
        const bytes = isRead ? read(which, offset, length) : write(which, offset, length, data);
        assert.notEqual(feed(bytes), undefined);
        assert.equal(memory.activity[0], 0, "the map is left");
      },
    ),
    cases(1000),
  );
});

test("a READ or WRITE that is cut short is EINVAL", () => {
  const { feed, fh } = setUp();
  assert.equal(feed(read(fh, 0n, 1).subarray(0, 60)), `errno ${ERRNO.EINVAL}`);
  assert.equal(feed(write(fh, 0n, 1, 1).subarray(0, 60)), `errno ${ERRNO.EINVAL}`);
});

test("a WRITE that says more bytes than it brings is EINVAL: what a former request left is not written", () => {
  const { feed, fh } = setUp();
  assert.equal(feed(write(fh, 0n, 100, 50)), `errno ${ERRNO.EINVAL}`);
});
