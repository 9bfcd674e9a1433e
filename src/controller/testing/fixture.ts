import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { silentLogger } from "../../base/index.ts";
import { CsiClient, CsiServer, RpcError } from "../../csi/index.ts";
import { type Device, eraseRegion, formatVolume, initDevice, openDevice } from "../../media/index.ts";
import {
  EmbeddedStore,
  type NodeRecord,
  parseVolumeParameters,
  type Store,
  type StoredRecord,
  updateRecord,
} from "../../state/index.ts";
import { Controller, type ControllerOptions } from "../controller.ts";

/** A directory in memory for the state, the sockets and the simulated devices of one test. */
export async function temporaryDirectory(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp("/dev/shm/famfs-controller-");
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/**
 * The part of a node plugin that the controller works with: it registers a simulated device and does the format and
 * erase jobs, for real. `hold` keeps it from doing them.
 */
export class TestAgent implements AsyncDisposable {
  readonly device: Device;
  readonly deviceUuid: string;
  hold = false;
  readonly #store: Store;
  readonly #nodeId: string;
  readonly #following: Disposable;
  #working: Promise<void> = Promise.resolve();

  private constructor(store: Store, nodeId: string, device: Device, deviceUuid: string) {
    this.#store = store;
    this.#nodeId = nodeId;
    this.device = device;
    this.deviceUuid = deviceUuid;
    this.#following = store.informer("volumes").onChange((changes) => {
      for (const change of changes) if (change.type === "put" && !this.hold) this.#enqueue(change.record);
    });
  }

  static async open(
    store: Store,
    directory: string,
    {
      nodeId = "node-a",
      fabric = "rack-1",
      pool = "default",
      size = "1Gi",
    }: { nodeId?: string; fabric?: string; pool?: string; size?: string } = {},
  ): Promise<TestAgent> {
    const path = join(directory, `device-${nodeId}`);
    const device = await openDevice(`file://${path}?size=${size}`, { writable: true });
    const uuid = randomUUID();
    await initDevice(device, { uuid, pool, incarnation: 1, createdSeconds: 0, force: false });
    await registerNode(store, nodeId, { fabric });
    await store.create("devices", uuid, {
      uuid,
      pool,
      fabric,
      sizeBytes: device.sizeBytes,
      incarnation: 1,
      coherency: "single-host",
      nodes: { [nodeId]: { path } },
      generation: 0,
      intent: undefined,
      revision: undefined,
      frozen: undefined,
    });
    return new TestAgent(store, nodeId, device, uuid);
  }

  /** Does what was held back. */
  async resume(): Promise<void> {
    this.hold = false;
    for (const volume of await this.#store.list("volumes")) await this.#do(volume);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#following[Symbol.dispose]();
    await this.#working;
    await this.device[Symbol.asyncDispose]();
  }

  #enqueue(volume: StoredRecord<"volumes">): void {
    this.#working = this.#working.then(() => this.#do(volume));
  }

  async #do(volume: StoredRecord<"volumes">): Promise<void> {
    const [region] = volume.regions;
    if (volume.jobNode !== this.#nodeId || region === undefined) return;
    if (volume.phase === "Formatting") {
      const { uid, gid, mode, logLengthBytes: logLength } = parseVolumeParameters(volume.parameters);
      const { uuid, name, regionGeneration: generation, capacityBytes } = volume;
      const format = { uuid, name, uid, gid, mode, generation, capacityBytes, logLength, createdSeconds: 0 };
      await formatVolume(this.device, region, format);
      await updateRecord(this.#store, "volumes", name, (found) =>
        found.phase === "Formatting" ? { ...found, phase: "Ready", jobNode: undefined } : undefined,
      );
    } else if (volume.phase === "Reclaiming" && Object.keys(volume.staged).length === 0) {
      await eraseRegion(this.device, region, { uuid: volume.uuid, generation: volume.regionGeneration });
      await this.#store.delete("volumes", volume.name, volume.resourceVersion);
    }
  }
}

/** Nobody renews it. */
export async function registerNode(
  store: Store,
  nodeId: string,
  { fabric = "rack-1", maxVolumes = 0, leaseSeconds = 3600 }: Partial<NodeRecord> = {},
): Promise<void> {
  const renewedAt = new Date().toISOString();
  const node = { nodeId, fabric, bootId: `boot of ${nodeId}`, instance: "1", renewedAt, leaseSeconds, maxVolumes };
  await store.create("nodes", nodeId, node);
}

/** A controller behind a real socket, and a client of it. */
export class TestController implements AsyncDisposable {
  readonly client: CsiClient;
  readonly #resources: AsyncDisposableStack;

  private constructor(client: CsiClient, resources: AsyncDisposableStack) {
    this.client = client;
    this.#resources = resources;
  }

  static async open(
    store: Store,
    directory: string,
    options: Partial<ControllerOptions> = {},
  ): Promise<TestController> {
    await using opening = new AsyncDisposableStack();
    const controller = opening.use(
      await Controller.open({ store, logger: silentLogger, maintenancePeriodMs: 20, ...options }),
    );
    const endpoint = `unix://${join(directory, `${randomUUID()}.sock`)}`;
    const services = { controller: controller.service };
    opening.use(await CsiServer.open({ endpoint, services, logger: silentLogger, graceMs: 100 }));
    const client = opening.use(CsiClient.open(endpoint));
    return new TestController(client, opening.move());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources.disposeAsync();
  }
}

/**
 * The same store with a random delay before each call, so that calls of several controllers really mix: the embedded
 * store answers at once, and one request would be done before the next begins.
 */
export function unevenStore(store: Store): Store {
  const pause = async () => {
    for (let turns = Math.floor(Math.random() * 4); turns > 0; turns--) await nextTurn();
  };
  return {
    get: (...args) => pause().then(() => store.get(...args)),
    list: (...args) => pause().then(() => store.list(...args)),
    listAll: (...args) => pause().then(() => store.listAll(...args)),
    create: (...args) => pause().then(() => store.create(...args)),
    replace: (...args) => pause().then(() => store.replace(...args)),
    delete: (...args) => pause().then(() => store.delete(...args)),
    informer: (...args) => store.informer(...args),
    async [Symbol.asyncDispose]() {},
  };
}

/** Everything one test needs: state, one node with a device, a controller. */
export async function testCluster({
  size,
  ...options
}: Partial<ControllerOptions> & { size?: string } = {}): Promise<
  { directory: string; store: EmbeddedStore; agent: TestAgent; client: CsiClient } & AsyncDisposable
> {
  await using opening = new AsyncDisposableStack();
  const { path: directory } = opening.use(await temporaryDirectory());
  const store = opening.use(await EmbeddedStore.open({ stateDir: join(directory, "state"), pollMs: 5 }));
  const agent = opening.use(await TestAgent.open(store, directory, size === undefined ? {} : { size }));
  const { client } = opening.use(await TestController.open(store, directory, options));
  const resources = opening.move();
  return { directory, store, agent, client, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

export const mountCapability = (
  mode:
    | "SINGLE_NODE_WRITER"
    | "SINGLE_NODE_SINGLE_WRITER"
    | "SINGLE_NODE_MULTI_WRITER"
    | "MULTI_NODE_READER_ONLY"
    | "MULTI_NODE_SINGLE_WRITER"
    | "MULTI_NODE_MULTI_WRITER" = "MULTI_NODE_MULTI_WRITER",
) => ({ mount: {}, accessType: "mount" as const, accessMode: { mode } });

/** A CreateVolume request; `more` adds to it. */
export const claim = (name: string, more: object = {}) => ({
  name,
  volumeCapabilities: [mountCapability()],
  capacityRange: { requiredBytes: 4n << 20n },
  ...more,
});

/** For assert.rejects: the status, and what its message says. */
export const answers = (code: string, message?: RegExp) => (error: unknown) => {
  if (!(error instanceof RpcError) || error.code !== code || message?.test(error.message) === false) throw error;
  return true;
};

/** True when no two volumes have a byte in common, and none has a byte of a label. */
export function regionsAreDisjoint(volumes: readonly StoredRecord<"volumes">[]): boolean {
  const regions = volumes
    .flatMap((volume) => volume.regions)
    .toSorted((a, b) => a.deviceUuid.localeCompare(b.deviceUuid) || a.offset - b.offset);
  return regions.every((region, index) => {
    const before = regions[index - 1];
    const end = before?.deviceUuid === region.deviceUuid ? before.offset + before.length : 2 << 20;
    return region.offset >= end;
  });
}
