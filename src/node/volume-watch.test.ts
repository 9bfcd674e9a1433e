import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { silentLogger } from "../base/index.ts";
import { Informer } from "../state/index.ts";
import { newVolume, openStore, scratchDirectory } from "./testing/fixtures.ts";
import { VolumeWatch } from "./volume-watch.ts";

const HALF_MINUTE = 30_000;

test("what is known is shown again each half minute without a list; everything is read in ten minutes or so", async (t) => {
  const store = await openStore(t, await scratchDirectory(t));
  const made = await store.create("volumes", "v1", newVolume("d"));
  let lists = 0;
  const informer = new Informer<"volumes">("volumes", (sink) => {
    queueMicrotask(() => sink.show([{ type: "put", record: made }]));
    return {
      resync: async () => void lists++,
      [Symbol.asyncDispose]: async () => {},
    };
  });
  await informer.synced();
  const informed = Object.assign(Object.create(store) as typeof store, { informer: () => informer });
  const seen: string[] = [];
  mock.timers.enable({ apis: ["setInterval"] });
  t.after(() => mock.timers.reset());
  {
    using _watch = VolumeWatch.start(informed, silentLogger, [{ consider: ({ name }) => seen.push(name) }]);
    assert.deepEqual(seen, ["v1"]);
    mock.timers.tick(HALF_MINUTE);
    assert.deepEqual(seen, ["v1", "v1"]);
    for (let elapsed = 1; elapsed < 15; elapsed++) mock.timers.tick(HALF_MINUTE);
    assert.equal(lists, 0, "not in seven minutes and a half");
    for (let elapsed = 15; elapsed < 24; elapsed++) mock.timers.tick(HALF_MINUTE);
    assert.equal(lists, 1, "but in twelve");
  }
  mock.timers.tick(HALF_MINUTE);
  assert.equal(seen.length, 25, "nothing comes after the end");
});
