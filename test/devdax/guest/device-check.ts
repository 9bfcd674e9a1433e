/**
 * Run inside a guest on a blank devdax device: where the device layer meets a real one. Prints what it measured as
 * JSON; an assertion that fails ends it with a status.
 *
 *   device-check DEVICE
 */
import assert from "node:assert/strict";
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { native } from "../../../native/index.ts";
import { isFamfsError, MIB } from "../../../src/base/index.ts";
import { Device } from "../../../src/media/index.ts";

const path = process.argv[2] ?? "";
const spec = { type: "path", path, sizeBytes: undefined } as const;

const isCode = (code: string) => (error: unknown) => isFamfsError(error) && error.code === code;
const timed = async (work: () => void | Promise<void>): Promise<number> => {
  const started = performance.now();
  await work();
  return Math.round(performance.now() - started);
};

await using device = await Device.open(spec, { writable: true });
assert.equal(device.kind, "devdax");
assert.deepEqual(await device.inspect(), { type: "blank" });
await assert.rejects(
  Device.open({ ...spec, sizeBytes: device.sizeBytes }, { writable: true }),
  isCode("INVALID_ARGUMENT"),
);

// The kernel takes mappings of whole alignment units only, so ours must be refused before it is asked.
const align = device.alignBytes;
{
  const handle = await open(path, constants.O_RDWR);
  assert.throws(() => native.windowMap(handle.fd, 0, 4096, true), { code: "EINVAL" });
  assert.throws(() => native.windowMap(handle.fd, 4096, align, true), { code: "EINVAL" });
  await assert.rejects(native.punchHole(handle.fd, 0, align));
  await handle.close();
}
assert.throws(() => device.mapRegion({ offset: align / 2, length: align }, { writable: true }), isCode("OUT_OF_RANGE"));
assert.throws(() => device.mapRegion({ offset: 0, length: 4096 }, { writable: true }), isCode("OUT_OF_RANGE"));
const beyond = { offset: device.sizeBytes, length: align };
assert.throws(() => device.mapRegion(beyond, { writable: true }), isCode("OUT_OF_RANGE"));

// Regions anywhere, the last unit included, populated before and after they are written.
const length = 4 * align;
const bytes = new Uint8Array(3 * MIB + 100).map((_, index) => (index * 31) & 0xff);
for (const offset of [0, 3 * align, device.sizeBytes - length]) {
  await using window = device.mapRegion({ offset, length }, { writable: true });
  window.populate(0, length);
  assert.ok(window.read(0, length).every((byte) => byte === 0));
  window.copyIn(7, bytes);
  window.flush(7, bytes.length);
  assert.deepEqual(window.read(7, bytes.length), bytes);
  window.copyInDurable(65, bytes); // over a page that was populated for reading
  window.invalidate(65, bytes.length);
  assert.deepEqual(window.read(65, bytes.length), bytes);
  window.store64(length - 8, 0x0123456789abcdefn);
  window.flush(length - 8, 8);

  // Another mapping and a reader without write permission see the same memory, at any offset.
  await using reader = await Device.open(spec, { writable: false });
  assert.deepEqual(await reader.read(offset + 65, bytes.length), bytes);
  assert.throws(() => reader.mapRegion({ offset, length }, { writable: true }), isCode("READ_ONLY"));
  await using other = reader.mapRegion({ offset, length }, { writable: false });
  assert.equal(other.load64(length - 8), 0x0123456789abcdefn);
  assert.throws(() => other.store64(0, 1n), isCode("READ_ONLY"));

  await device.zero(offset, length, { window: { window, offset: 0 } });
  assert.ok(window.read(0, length).every((byte) => byte === 0));
}
assert.deepEqual(await device.inspect(), { type: "blank" });

// One allocation unit, where the alignment is larger than that.
await device.zero(2 * MIB, 2 * MIB);

// Excluded by device number, whatever the path.
{
  await using _lock = await device.lock();
  await using again = await Device.open(spec, { writable: false });
  await assert.rejects(again.lock(), isCode("DEVICE_IN_USE"));
}
await using _lock = await device.lock();

const measured = 64 * MIB;
await using window = device.mapRegion({ offset: 0, length: measured }, { writable: true });
console.log(
  JSON.stringify({
    sizeBytes: device.sizeBytes,
    alignBytes: align,
    populate64MiBMs: await timed(() => window.populate(0, measured)),
    zero64MiBMs: await timed(() => device.zero(0, measured)),
  }),
);
