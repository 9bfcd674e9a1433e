import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { simulatedVolume, taker } from "../../test/support/simulated-volume.ts";
import { FamfsError, MIB } from "../base/index.ts";
import { detailOffset } from "../format/index.ts";
import { formatVolume } from "../media/index.ts";
import { dataMemory, logWriter } from "./volume-ports.ts";

const HALF = 2048;

test("zeroing and copying stop before the part that is no longer theirs", async () => {
  await using volume = await simulatedVolume();
  const media = await volume.open();
  const memory = dataMemory(media, media.regionGuard());
  const { window, dataOffset } = media;
  const length = 8 * MIB;
  const bytes = new Uint8Array(length).fill(1);
  const parts = (run: (check: () => void) => undefined | Promise<void>) => async (allowed: number) => {
    window.copyIn(dataOffset, bytes);
    let left = allowed;
    const check = () => {
      if (left-- === 0) throw new FamfsError("OWNER_STALE", "test");
    };
    await assert.rejects(async () => run(check), { code: "OWNER_STALE" });
  };
  // Half of the first page, half of the last one, then whole pages.
  const zero = parts((check) => memory.zero(dataOffset + HALF, 4 * MIB, check));
  for (let allowed = 0; allowed < 3; allowed++) {
    await zero(allowed);
    const ones = window.read(dataOffset, length).reduce((sum, byte) => sum + byte, 0);
    assert.equal(ones, length - allowed * HALF);
  }
  await parts((check) => memory.zero(dataOffset + 1, 5, check))(0);
  assert.equal(window.read(dataOffset + 1, 1)[0], 1);
  await parts((check) => memory.copy(dataOffset, dataOffset + 16 * MIB, length, check))(1);
  assert.equal(window.read(dataOffset + 20 * MIB - 1, 1)[0], 1);
  assert.equal(window.read(dataOffset + 20 * MIB, 1)[0], 0);
});

test("a region that was given to another volume is not current", async () => {
  await using volume = await simulatedVolume();
  const media = await volume.open();
  const memory = dataMemory(media, media.regionGuard());
  assert.equal(memory.isCurrent(), true);
  await volume.device.zero(volume.region.offset, volume.region.length);
  await formatVolume(volume.device, volume.region, {
    uuid: randomUUID(),
    name: "next",
    uid: 0,
    gid: 0,
    mode: 0o755,
    generation: 2,
    createdSeconds: 0,
    logLength: 8 * MIB,
  });
  assert.equal(memory.isCurrent(), false);
});

test("a torn page of another owner slot is reported, and gone when its node takes over again", async () => {
  await using volume = await simulatedVolume();
  const [a, b] = [await volume.open(), await volume.open()];
  const range = { offset: a.dataOffset, length: 2 * MIB };
  {
    await using torn = await a.takeOver(taker(0, 1));
    torn.publishReservations([range]);
    a.window.copyInDurable(detailOffset(0) + 600, Buffer.from("torn"));
    torn.release();
  }
  {
    await using writer = await b.takeOver(taker(1, 2));
    const seen = logWriter(b, writer, 1);
    assert.deepEqual(seen.foreignReservations, []);
    assert.deepEqual(seen.unknownReservations, ["detail page: wrong crc"]);
    writer.release();
  }
  await using again = await a.takeOver(taker(0, 3));
  again.publishReservations([range]);
  await using writer = await b.takeOver(taker(1, 4));
  const seen = logWriter(b, writer, 1);
  assert.deepEqual(seen.foreignReservations, [range]);
  assert.deepEqual(seen.unknownReservations, []);
});
