/** Several controllers that see each other's allocations late, die in the middle and start again. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { ALLOC_UNIT, FamfsError, hasCode, KeyedTryLock, silentLogger } from "../base/index.ts";
import {
  EmbeddedStore,
  type FamfsVolume,
  loggedEvents,
  NO_NODE_OBJECTS,
  NodeLiveness,
  type Store,
  type StoredRecord,
  UNTOUCHED,
} from "../state/index.ts";
import { allocateRegion, finishIntent } from "./allocate.ts";
import type { ControllerContext } from "./context.ts";
import { regionsAreDisjoint, registerNode, temporaryDirectory } from "./testing/fixture.ts";
import { laggingVolumes } from "./testing/lagging-store.ts";
import { VolumeView } from "./volume-view.ts";

const DEVICES = ["device-a", "device-b"];
const UNITS = 7;

type Step =
  | { readonly type: "create"; readonly units: number }
  | { readonly type: "remove"; readonly which: number }
  | { readonly type: "restart" };

interface Plan {
  /** Of each controller, one step after the other. */
  readonly steps: readonly Step[];
  /** How late it sees changes; `undefined`: only when it asks for them. */
  readonly lag: readonly (number | undefined)[];
  /** Requests until each is answered. */
  readonly pauses: readonly number[];
  /** Its nth write is the last one of its life. */
  readonly diesAt: number;
}

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ type: fc.constant("create" as const), units: fc.integer({ min: 1, max: 2 }) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("remove" as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("restart" as const) }) },
);
const plan: fc.Arbitrary<Plan> = fc.record({
  steps: fc.array(step, { minLength: 4, maxLength: 12 }),
  lag: fc.array(fc.option(fc.integer({ min: 0, max: 40 }), { nil: undefined, freq: 6 }), {
    minLength: 1,
    maxLength: 9,
  }),
  pauses: fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 9 }),
  diesAt: fc.integer({ min: 1, max: 60 }),
});

test("controllers that see each other's allocations late never give one region twice", async () => {
  const plans = fc.array(plan, { minLength: 2, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(plans, plans, fc.boolean(), async (first, second, deviceRecordsAreMadeAnew) => {
      await using directory = await temporaryDirectory();
      await using store = await EmbeddedStore.open({ stateDir: join(directory.path, "state"), pollMs: 5 });
      await registerNode(store, "node-a");
      await makeDevices(store);
      await Promise.all(first.map((each) => live(store, each)));
      if (deviceRecordsAreMadeAnew) await makeDevices(store);
      await Promise.all(second.map((each) => live(store, each)));
    }),
    { numRuns: 15 },
  );
});

test("a controller that knew a device's former record does not take the new one's generations for those", async () => {
  await using directory = await temporaryDirectory();
  await using store = await EmbeddedStore.open({ stateDir: join(directory.path, "state"), pollMs: 5 });
  await registerNode(store, "node-a");
  await makeDevices(store);
  await using resources = new AsyncDisposableStack();
  let blind = false;
  const lag = { turns: () => (blind ? undefined : 0) };
  const behind = resources.use(laggingVolumes(store, lag));
  const informer: Store["informer"] = (kind) =>
    (kind === "volumes" ? behind.informer() : store.informer(kind)) as never;
  const late = await openContext({ ...storeOf(store), informer }, resources);
  // One for each device: two do not fit on one.
  const create = { type: "create", units: UNITS - 3 } as const;
  for (const _device of DEVICES) await take(late, store, create);
  await late.volumes.untilComplete(await store.list("devices"), {
    signal: new AbortController().signal,
    isCurrent: async () => true,
  });
  for (const { name, resourceVersion } of await store.list("volumes")) {
    await store.delete("volumes", name, resourceVersion);
    await late.volumes.untilShown(name, (volume) => volume === undefined);
  }
  blind = true;
  await makeDevices(store);
  const other = await openContext(store, resources);
  for (const _device of DEVICES) await take(other, store, create);
  for (const _device of DEVICES) await take(late, store, { type: "create", units: 1 });
  const volumes = await store.list("volumes");
  assert.equal(volumes.filter(({ regions }) => regions.length > 0).length, 4);
  assertDistinct(volumes);
});

test("while a volume's record cannot be read nothing is given away: it may have any region", async () => {
  await using directory = await temporaryDirectory();
  const stateDir = join(directory.path, "state");
  await using store = await EmbeddedStore.open({ stateDir, pollMs: 5 });
  await registerNode(store, "node-a");
  await makeDevices(store);
  await using resources = new AsyncDisposableStack();
  await take(await openContext(store, resources), store, { type: "create", units: 1 });
  const [first] = await store.list("volumes");
  using database = new DatabaseSync(join(stateDir, "state.sqlite"));
  database.exec("UPDATE records SET version = version + 1000, body = '{}' WHERE kind = 'volumes'");
  await store.informer("volumes").resync();
  const context = await openContext(store, resources);
  await assert.rejects(take(context, store, { type: "create", units: 1 }), /cannot be read, so nobody knows/);
  // Where that much can be read, it stops only its own device.
  const regions = (deviceUuid: string) => JSON.stringify({ regions: [{ deviceUuid, offset: 0, length: 1 }] });
  const write = database.prepare("UPDATE records SET version = version + 1000, body = ? WHERE name = ?");
  write.run(regions("elsewhere"), first?.name ?? "");
  await store.informer("volumes").resync();
  const elsewhere = await openContext(store, resources);
  await take(elsewhere, store, { type: "create", units: 1 });
  write.run(regions(DEVICES[0] ?? ""), first?.name ?? "");
  await store.informer("volumes").resync();
  const here = await openContext(store, resources);
  await assert.rejects(take(here, store, { type: "create", units: 1 }), /kubectl edit famfsvolume/);
});

function storeOf(store: Store): Store {
  return {
    get: (...args) => store.get(...args),
    list: (...args) => store.list(...args),
    listAll: (...args) => store.listAll(...args),
    create: (...args) => store.create(...args),
    replace: (...args) => store.replace(...args),
    delete: (...args) => store.delete(...args),
    informer: (kind) => store.informer(kind),
    async [Symbol.asyncDispose]() {},
  };
}

async function openContext(store: Store, resources: AsyncDisposableStack): Promise<ControllerContext> {
  return {
    store,
    liveness: resources.use(await NodeLiveness.open(store)),
    nodeObjects: NO_NODE_OBJECTS,
    volumes: resources.use(await VolumeView.open(store, { needsTending: () => false, catchUpMs: 3 })),
    locks: new KeyedTryLock(),
    logger: silentLogger,
    events: loggedEvents(silentLogger),
    formatWaitMs: 0,
    silenceMs: 60_000,
  };
}

/** Also after they were lost: nothing is left of their generations then. */
async function makeDevices(store: Store): Promise<void> {
  using liveness = await NodeLiveness.open(store);
  for (const device of await store.list("devices")) {
    await finishIntent({ store, liveness }, device);
    const found = await store.get("devices", device.name);
    if (found !== undefined) await store.delete("devices", found.name, found.resourceVersion);
  }
  for (const uuid of DEVICES) {
    await store.create("devices", uuid, {
      uuid,
      pool: "default",
      fabric: "rack-1",
      sizeBytes: UNITS * ALLOC_UNIT,
      incarnation: 1,
      coherency: "single-host",
      nodes: { "node-a": { path: "/x" } },
      generation: 0,
      intent: undefined,
      revision: undefined,
      frozen: undefined,
    });
  }
}

async function live(shared: Store, { steps, lag, pauses, diesAt }: Plan): Promise<void> {
  let turn = 0;
  let writes = 0;
  const pause = async () => {
    for (let turns = pauses[turn++ % pauses.length] ?? 0; turns > 0; turns--) await nextTurn();
  };
  const write = async <T>(work: () => Promise<T>): Promise<T> => {
    await pause();
    if (++writes === diesAt) throw new FamfsError("STORE_UNAVAILABLE", "the controller was killed");
    const result = await work();
    await pause();
    return result;
  };
  await using behind = laggingVolumes(shared, { turns: () => lag[turn++ % lag.length] });
  const store: Store = {
    get: (...args) => pause().then(() => shared.get(...args)),
    list: (...args) => pause().then(() => shared.list(...args)),
    listAll: (...args) => pause().then(() => shared.listAll(...args)),
    create: (...args) => write(() => shared.create(...args)),
    replace: (...args) => write(() => shared.replace(...args)),
    delete: (...args) => write(() => shared.delete(...args)),
    informer: (kind) => (kind === "volumes" ? behind.informer() : shared.informer(kind)) as never,
    async [Symbol.asyncDispose]() {},
  };
  const remaining = [...steps];
  while (remaining.length > 0) {
    await using life = new AsyncDisposableStack();
    const context = await openContext(store, life);
    try {
      for (let next = remaining.shift(); next !== undefined; next = remaining.shift()) {
        if (next.type === "restart") break;
        await take(context, shared, next);
        assertDistinct(await shared.list("volumes"));
      }
    } catch (error) {
      if (!hasCode(error, "STORE_UNAVAILABLE")) throw error;
    }
  }
}

function assertDistinct(volumes: readonly StoredRecord<"volumes">[]): void {
  assert.ok(regionsAreDisjoint(volumes), "two volumes have one region");
  const given = volumes.flatMap(({ regions, regionGeneration }) =>
    regions.map(({ deviceUuid }) => `${deviceUuid} ${regionGeneration}`),
  );
  assert.equal(new Set(given).size, given.length, "two allocations have one generation");
}

async function take(
  context: ControllerContext,
  shared: Store,
  next: Exclude<Step, { type: "restart" }>,
): Promise<void> {
  if (next.type === "remove") {
    const volumes = await shared.list("volumes");
    const volume = volumes[next.which % Math.max(1, volumes.length)];
    // Also a Pending one, whose intent may be on its way.
    if (volume !== undefined) await shared.delete("volumes", volume.name, volume.resourceVersion).catch(() => {});
    return;
  }
  const name = `pvc-${randomUUID()}`;
  const volume = await context.store.create("volumes", name, pendingVolume(name, next.units * ALLOC_UNIT));
  const wanted = { pool: undefined, fabrics: undefined, regionBytes: volume.capacityBytes };
  try {
    await allocateRegion(context, volume, { ...wanted, signal: new AbortController().signal });
  } catch (error) {
    if (!hasCode(error, "POOL_FULL", "VOLUME_BUSY")) throw error;
    await shared.delete("volumes", name, volume.resourceVersion).catch(() => {});
  }
}

function pendingVolume(csiName: string, capacityBytes: number): FamfsVolume {
  return {
    ...UNTOUCHED,
    csiName,
    uuid: randomUUID(),
    adopted: false,
    pool: "",
    fabric: "",
    capacityBytes,
    regions: [],
    regionGeneration: 0,
    parameters: {},
    phase: "Pending",
  };
}
