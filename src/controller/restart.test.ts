import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { FamfsError } from "../base/index.ts";
import { EmbeddedStore, type Store } from "../state/index.ts";
import {
  answers,
  claim,
  mountCapability,
  regionsAreDisjoint,
  TestAgent,
  TestController,
  temporaryDirectory,
} from "./testing/fixture.ts";

/**
 * A controller's store that dies at its nth write: just before it, or just after it was made durable. From then on
 * nothing works any more, as in a process that was killed.
 */
function dyingStore(store: Store, dieAt: number, moment: "before" | "after"): Store & { died: boolean } {
  let writes = 0;
  const dead = () => new FamfsError("STORE_UNAVAILABLE", "the controller was killed");
  const self = {
    died: false,
    get: (...args: Parameters<Store["get"]>) => alive(() => store.get(...args)),
    list: (...args: Parameters<Store["list"]>) => alive(() => store.list(...args)),
    create: (...args: Parameters<Store["create"]>) => write(() => store.create(...args)),
    replace: (...args: Parameters<Store["replace"]>) => write(() => store.replace(...args)),
    delete: (...args: Parameters<Store["delete"]>) => write(() => store.delete(...args)),
    informer: (...args: Parameters<Store["informer"]>) => store.informer(...args),
    [Symbol.asyncDispose]: async () => {},
  };
  async function alive<T>(work: () => Promise<T>): Promise<T> {
    if (self.died) throw dead();
    return work();
  }
  async function write<T>(work: () => Promise<T>): Promise<T> {
    if (self.died) throw dead();
    if (++writes === dieAt) {
      self.died = true;
      if (moment === "after") await work();
      throw dead();
    }
    return work();
  }
  return self as unknown as Store & { died: boolean };
}

/** One life of a volume: each call is repeated until it succeeds, as a CO does. */
const CALLS = [
  ["CreateVolume", claim("pvc-1")],
  [
    "ControllerPublishVolume",
    { volumeId: "pvc-1", nodeId: "node-a", volumeCapability: mountCapability("SINGLE_NODE_WRITER") },
  ],
  ["ControllerUnpublishVolume", { volumeId: "pvc-1", nodeId: "node-a" }],
  ["DeleteVolume", { volumeId: "pvc-1" }],
] as const;

for (const moment of ["before", "after"] as const) {
  test(`a controller killed just ${moment} any of its writes is followed by one that goes on`, async () => {
    let stepsThatKilled = 0;
    for (let dieAt = 1; ; dieAt++) {
      await using directory = await temporaryDirectory();
      await using store = await EmbeddedStore.open({ stateDir: join(directory.path, "state"), pollMs: 5 });
      await using _agent = await TestAgent.open(store, directory.path, { size: "64Mi" });
      const dying = dyingStore(store, dieAt, moment);
      await using first = await TestController.open(dying, directory.path, { leads: () => false });
      await using second = await TestController.open(store, directory.path);
      // Another volume is made in between, and must not get in the way.
      let client = first.client;
      for (const [method, request] of CALLS) {
        try {
          await client.call("controller", method, request);
        } catch (error) {
          answers("UNAVAILABLE", /was killed/)(error);
          client = second.client;
          if (method === "CreateVolume") await client.call("controller", "CreateVolume", claim("pvc-2"));
          await client.call("controller", method, request);
        }
        const volumes = await store.list("volumes");
        assert.ok(regionsAreDisjoint(volumes));
        const one = volumes.find((volume) => volume.name === "pvc-1");
        if (method === "CreateVolume") assert.equal(one?.phase, "Ready");
        if (method === "ControllerPublishVolume") assert.equal(one?.writer?.nodeId, "node-a");
        if (method === "ControllerUnpublishVolume") assert.deepEqual(one?.published, {});
      }
      while ((await store.get("volumes", "pvc-1")) !== undefined)
        await new Promise((resolve) => setTimeout(resolve, 5));
      assert.deepEqual(
        (await store.list("devices")).map((device) => device.intent),
        [undefined],
      );
      if (!dying.died) break;
      stepsThatKilled++;
    }
    // Pending, intent, regions, intent cleared; published; unpublished; Reclaiming, erase job.
    assert.ok(stepsThatKilled >= 8, `${stepsThatKilled} writes`);
  });
}

for (const again of [[], ["pvc-1"]]) {
  const then = again.length > 0 ? "while the name is used again" : "after the volume was deleted";
  test(`a controller that wakes up in an allocation that others finished brings nothing back, ${then}`, async () => {
    await using directory = await temporaryDirectory();
    await using store = await EmbeddedStore.open({ stateDir: join(directory.path, "state"), pollMs: 5 });
    await using _agent = await TestAgent.open(store, directory.path, { size: "64Mi" });
    // Sleeps right after its intent is durable.
    const asleep = Promise.withResolvers<void>();
    const wake = Promise.withResolvers<void>();
    const sleepy: Store = Object.create(store, {
      get: { value: store.get.bind(store) },
      list: { value: store.list.bind(store) },
      create: { value: store.create.bind(store) },
      delete: { value: store.delete.bind(store) },
      informer: { value: store.informer.bind(store) },
      replace: {
        value: async (...args: Parameters<Store["replace"]>) => {
          const written = await store.replace(...args);
          if (args[0] === "devices") {
            asleep.resolve();
            await wake.promise;
          }
          return written;
        },
      },
    });
    await using slow = await TestController.open(sleepy, directory.path, { leads: () => false });
    await using quick = await TestController.open(store, directory.path, { leads: () => false });
    const late = slow.client.call("controller", "CreateVolume", claim("pvc-1"));
    await asleep.promise;
    await quick.client.call("controller", "CreateVolume", claim("pvc-1"));
    await quick.client.call("controller", "DeleteVolume", { volumeId: "pvc-1" });
    while ((await store.get("volumes", "pvc-1")) !== undefined) await new Promise((resolve) => setTimeout(resolve, 5));
    // The region goes to another volume, and a new one has the old name.
    for (const name of ["pvc-2", ...again]) await quick.client.call("controller", "CreateVolume", claim(name));
    const before = await store.list("volumes");
    wake.resolve();
    if (again.length > 0) await late;
    else await assert.rejects(late, answers("ABORTED", /was deleted/));
    assert.deepEqual(await store.list("volumes"), before);
    assert.ok(regionsAreDisjoint(before));
    assert.equal((await store.list("devices"))[0]?.intent, undefined);
  });
}
