import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cases } from "../../test/support/cases.ts";
import { directory, simulatedVolume, taker } from "../../test/support/simulated-volume.ts";
import { isFamfsError } from "../base/index.ts";
import {
  CHANGE_RING_OFFSET,
  claimOffset,
  GUARD_OFFSET,
  LOG_OFFSET,
  slotPageOffset,
  VOLUME_RECORD_OFFSET,
} from "../format/index.ts";
import { VolumeMedia } from "./index.ts";

/** Where the structures of a volume are; damage is put near their beginnings. */
const PLACES = [
  0,
  VOLUME_RECORD_OFFSET,
  GUARD_OFFSET,
  claimOffset(0),
  claimOffset(1),
  slotPageOffset(0),
  CHANGE_RING_OFFSET,
  LOG_OFFSET,
  LOG_OFFSET + 48,
  LOG_OFFSET + 48 + 544,
];

const damage = fc.array(
  fc.record({
    place: fc.constantFrom(...PLACES),
    at: fc.nat(600),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 16 }),
  }),
  { minLength: 1, maxLength: 6 },
);

test("whatever the memory holds, a volume opens, replays and is taken over, or says why not", async () => {
  await using volume = await simulatedVolume();
  await using good = await VolumeMedia.open(volume.device, volume.region, { writable: true });
  const writer = await good.takeOver(taker(0, 1));
  writer.append([directory("a"), directory("b"), directory("c")]);
  writer.publishReservations([{ offset: 2 ** 24, length: 2 ** 21 }]);
  writer.recordChanged(0, 1, { seconds: 1, nanoseconds: 1 });
  await writer[Symbol.asyncDispose]();
  const intact = good.window.read(0, LOG_OFFSET + 65536);

  let refused = 0;
  let served = 0;
  await fc.assert(
    fc.asyncProperty(damage, async (damages) => {
      good.window.copyIn(0, intact);
      for (const { place, at, bytes } of damages) good.window.copyIn(place + at, bytes);
      try {
        await using media = await VolumeMedia.open(volume.device, volume.region, { writable: true });
        const { entries } = media.poll();
        assert.ok(entries.length <= media.logSlots);
        assert.ok(entries.every(({ index }, position) => index === position));
        media.changesSince({ next: 0 });
        media.reservationsOfOthers(1);
        media.isCurrent();
        // A log that is bad for good makes a taker wait for a second.
        if (media.position < Number(media.window.load64(LOG_OFFSET + 40))) return;
        await using owner = await media.takeOver(taker(1, media.highestEpoch() + 1));
        const index = owner.append([directory("z")]);
        assert.equal(media.poll().entries.at(-1)?.index, index);
        served++;
      } catch (error) {
        if (!isFamfsError(error) || error.code === "INTERNAL") throw error;
        refused++;
      }
    }),
    cases(400),
  );
  assert.ok(refused > 20 && served > 20, `${refused} refused, ${served} served`);
});
