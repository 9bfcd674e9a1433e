import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { ALLOC_UNIT } from "../base/index.ts";
import { EmbeddedStore, Informer, type Store, type StoredRecord, UNTOUCHED } from "../state/index.ts";
import { temporaryDirectory } from "./testing/fixture.ts";
import { VolumeView } from "./volume-view.ts";

const isCurrent = async () => true;

test("who waits for the view leaves nothing behind on the signal of its call", async () => {
  await using at = await open();
  const { signal } = new AbortController();
  const device = await at.makeDevice(7);
  const held = at.holdRefreshes();
  using view = await at.view();
  const waiting = view.untilComplete([device], { signal, isCurrent });
  await held.begun;
  held.release();
  assert.equal(await waiting, true);
  assert.deepEqual(getEventListeners(signal, "abort"), []);
});

test("waiting for the view ends when the call does", async () => {
  await using at = await open();
  const abort = new AbortController();
  const device = await at.makeDevice(7);
  const held = at.holdRefreshes();
  using view = await at.view();
  const waiting = view.untilComplete([device], { signal: abort.signal, isCurrent });
  await held.begun;
  const reason = new Error("the call is over");
  abort.abort(reason);
  await assert.rejects(waiting, reason);
  held.release();
});

test("a device that was read before the last allocation on it is not worth reading all volumes", async () => {
  await using at = await open();
  const { signal } = new AbortController();
  using view = await at.view();
  const device = await at.makeDevice(0);
  assert.equal(await view.untilComplete([device], { signal, isCurrent }), true, "a new device");
  const before = at.refreshes;
  await at.store.create("volumes", "v", {
    ...UNTOUCHED,
    ...{ csiName: "v", uuid: "v", adopted: false, pool: "default", fabric: "rack-1", parameters: {}, phase: "Ready" },
    ...{ capacityBytes: ALLOC_UNIT, regionGeneration: 1 },
    regions: [{ deviceUuid: device.uuid, offset: ALLOC_UNIT, length: ALLOC_UNIT }],
  });
  await view.untilShown("v", (shown) => shown !== undefined);
  assert.equal(await view.untilComplete([device], { signal, isCurrent: async () => false }), false);
  assert.equal(at.refreshes, before);
  // A record that was lost and made anew within the second in which times are counted begins at 0, too.
  assert.equal(await view.untilComplete([device], { signal, isCurrent }), true);
  assert.equal(at.refreshes, before + 1);
});

async function open() {
  await using opening = new AsyncDisposableStack();
  const directory = opening.use(await temporaryDirectory());
  const store = opening.use(await EmbeddedStore.open({ stateDir: join(directory.path, "state"), pollMs: 5 }));
  const resources = opening.move();
  let refreshes = 0;
  let gate: Promise<void> = Promise.resolve();
  let begin = () => {};
  const inner = store.informer("volumes");
  const counted = resources.use(
    new Informer<"volumes">("volumes", (sink) => {
      const following = inner.onChange((step) => sink.show(step));
      void inner.synced().then(() => sink.show([]));
      return {
        resync: async () => {
          refreshes++;
          begin();
          await gate;
          await inner.resync();
        },
        [Symbol.asyncDispose]: async () => following[Symbol.dispose](),
      };
    }),
  );
  const counting: Store = Object.assign(Object.create(store) as Store, {
    informer: () => counted,
    list: (...args: Parameters<Store["list"]>) => store.list(...args),
  });
  return {
    store,
    get refreshes() {
      return refreshes;
    },
    view: () => VolumeView.open(counting, { needsTending: () => false, catchUpMs: 5 }),
    /** Until released the next ones do not answer; `begun`: the first has been asked for. */
    holdRefreshes() {
      const held = Promise.withResolvers<void>();
      const begun = Promise.withResolvers<void>();
      gate = held.promise;
      begin = begun.resolve;
      return { begun: begun.promise, release: held.resolve };
    },
    makeDevice: (generation: number): Promise<StoredRecord<"devices">> =>
      store.create("devices", "d", {
        ...{ uuid: "d", pool: "default", fabric: "rack-1", sizeBytes: 8 * ALLOC_UNIT, incarnation: 1, generation },
        ...{ coherency: "single-host", nodes: {}, intent: undefined, revision: undefined, frozen: undefined },
      }),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
