import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { MIB } from "../base/index.ts";
import { GUARD_OFFSET, LOG_OFFSET, SUPERBLOCK_COPY_OFFSET, VOLUME_RECORD_OFFSET } from "../format/index.ts";
import { type Device, eraseRegion, formatVolume, initDevice, lookAtRegion, openDevice, scanVolumes } from "./index.ts";

const UNIT = 2 * MIB;
const A = { uuid: "aaaaaaaa-0000-4000-8000-000000000001", generation: 1 };
const B = { uuid: "bbbbbbbb-0000-4000-8000-000000000001", generation: 2 };
const regionAt = (unit: number, units = 16) => ({ offset: unit * UNIT, length: units * UNIT });

async function setUp(t: TestContext): Promise<Device> {
  const folder = mkdtempSync(join(tmpdir(), "famfs-region-"));
  const device = await openDevice(`file://${join(folder, "pool")}?size=256Mi`, { writable: true });
  t.after(async () => {
    await device[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });
  const label = { uuid: "dddddddd-0000-4000-8000-000000000001", pool: "p", incarnation: 1, createdSeconds: 0 };
  await initDevice(device, { ...label, force: false });
  return device;
}

async function format(device: Device, unit: number, volume: typeof A, units = 16): Promise<void> {
  const facts = { name: `v-${volume.uuid[0]}`, uid: 0, gid: 0, mode: 0o755, createdSeconds: 10 };
  await formatVolume(device, regionAt(unit, units), { ...volume, ...facts });
}

/** Puts `bytes` at an offset of the device. */
async function write(device: Device, offset: number, bytes: Uint8Array): Promise<void> {
  const start = Math.floor(offset / UNIT) * UNIT;
  await using window = device.mapRegion({ offset: start, length: UNIT }, { writable: true });
  window.copyInDurable(offset - start, bytes);
}

test("a region is its volume's, another's that has some of it, or nobody's", async (t) => {
  const device = await setUp(t);
  const nobody = { own: undefined, other: undefined, leftovers: [] };
  assert.deepEqual(await lookAtRegion(device, regionAt(4), A), nobody);
  await format(device, 4, B);
  const b = { name: "v-b", ...B, offset: 4 * UNIT };
  assert.deepEqual(await lookAtRegion(device, regionAt(4), B), { ...nobody, own: "volume" });
  assert.deepEqual(await lookAtRegion(device, regionAt(4), A), { ...nobody, other: b });
  assert.deepEqual((await lookAtRegion(device, regionAt(4), { ...B, generation: 3 })).other, b, "another life of it");
  assert.deepEqual((await lookAtRegion(device, regionAt(4, 8), B)).other, b, "not the region that it has");
  assert.deepEqual((await lookAtRegion(device, regionAt(10), A)).other, b, "it begins before");
  assert.deepEqual((await lookAtRegion(device, regionAt(1, 8), A)).other, b, "it begins inside");
  assert.deepEqual(await lookAtRegion(device, regionAt(20), A), nobody);
});

test("what records say of other volumes only counts where the memory agrees", async (t) => {
  const device = await setUp(t);
  await format(device, 4, B);
  // As a restored backup might have it: a volume that ends in the middle of what is there now.
  const { other } = await lookAtRegion(device, regionAt(12), A, { known: [regionAt(1, 10)] });
  assert.equal(other?.uuid, B.uuid);
  assert.equal((await lookAtRegion(device, regionAt(20), A, { known: [regionAt(4)] })).other, undefined);
});

test("a damaged superblock or record does not make a volume nobody's", async (t) => {
  for (const damaged of [0, VOLUME_RECORD_OFFSET]) {
    const device = await setUp(t);
    await format(device, 4, B);
    await write(device, 4 * UNIT + damaged, new Uint8Array(16));
    assert.equal((await lookAtRegion(device, regionAt(4), A)).other?.uuid, B.uuid);
    assert.equal((await lookAtRegion(device, regionAt(4), B)).other, undefined);
  }
});

test("an erasing that is stopped anywhere leaves what its volume recognises and others skip", async (t) => {
  const device = await setUp(t);
  await format(device, 4, A);
  // One of its files is the image of a volume, at the start of a unit.
  await format(device, 40, B);
  const nested = 4 * UNIT + LOG_OFFSET + 5 * UNIT;
  await write(device, nested, await device.read(40 * UNIT, UNIT));
  await device.zero(40 * UNIT, UNIT);

  let allowed = 0;
  const stopping = () => {
    if (allowed-- === 0) throw new Error("killed");
  };
  for (const checks of [1, 2]) {
    allowed = checks;
    await assert.rejects(eraseRegion(device, regionAt(4), A, { check: stopping }), /killed/);
    assert.deepEqual(await scanVolumes(device), [], "neither itself nor what is in it");
    assert.deepEqual(await lookAtRegion(device, regionAt(4), A), { own: "erasing", other: undefined, leftovers: [] });
    const { other, leftovers } = await lookAtRegion(device, regionAt(8), B);
    assert.deepEqual([other, leftovers], [undefined, [regionAt(4)]]);
    for (const gone of [GUARD_OFFSET, SUPERBLOCK_COPY_OFFSET]) {
      assert.deepEqual(await device.read(4 * UNIT + gone, 64), new Uint8Array(64));
    }
    // As it was at the first stop, so that the image is there at the second look, too.
    if (checks === 1) assert.notDeepEqual(await device.read(nested, 8), new Uint8Array(8));
  }
  await eraseRegion(device, regionAt(4), A);
  assert.deepEqual(await lookAtRegion(device, regionAt(4), A), { own: undefined, other: undefined, leftovers: [] });
  assert.deepEqual(await device.read(4 * UNIT, 16 * UNIT), new Uint8Array(16 * UNIT));
});
