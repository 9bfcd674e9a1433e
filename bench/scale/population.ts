/** A cluster's records: nodes that keep their heartbeats, a device that all reach, volumes that fill it. */
import { randomUUID } from "node:crypto";
import { ALLOC_UNIT, silentLogger } from "../../src/base/index.ts";
import { type FamfsVolume, Heartbeat, type NodeRecord, updateRecord } from "../../src/state/index.ts";
import type { KubernetesStore } from "../../src/state/kubernetes/kubernetes-store.ts";
import { ApiServer } from "../../test/e2e/api-server.ts";

const FABRIC = "rack-1";
const REGION_BYTES = 64 * 2 ** 20;
/** Room for what the measured calls add. */
const DEVICE_BYTES = 2 ** 44;
const LEASE_SECONDS = 15;
/** Requests at once while the records are made. */
const PARALLEL = 48;

export class Population implements AsyncDisposable {
  readonly server: ApiServer;
  readonly nodeIds: readonly string[];
  readonly #store: KubernetesStore;
  readonly #resources: AsyncDisposableStack;
  readonly #deviceUuid = randomUUID();
  #volumes = 0;

  private constructor(
    server: ApiServer,
    store: KubernetesStore,
    nodeIds: readonly string[],
    resources: AsyncDisposableStack,
  ) {
    this.server = server;
    this.#store = store;
    this.nodeIds = nodeIds;
    this.#resources = resources;
  }

  static async open({ nodes }: { readonly nodes: number }): Promise<Population> {
    await using opening = new AsyncDisposableStack();
    // etcd's disk is not what is measured.
    process.env["TMPDIR"] = "/dev/shm";
    const server = opening.use(await ApiServer.startWithRecords());
    const store = opening.use(await server.openStore());
    const nodeIds = Array.from({ length: nodes }, (_, index) => `node-${String(index).padStart(4, "0")}`);
    await inParallel(nodeIds, async (nodeId) => {
      opening.use(await Heartbeat.open(store, { node: nodeRecord(nodeId), logger: silentLogger }));
    });
    const population = new Population(server, store, nodeIds, opening.move());
    await population.#makeDevice();
    population.#answerFormats();
    return population;
  }

  get volumes(): number {
    return this.#volumes;
  }

  /** Ready volumes one after the other on the device, as if they had been made by CreateVolume. */
  async growTo(count: number): Promise<void> {
    const indexes = Array.from({ length: count - this.#volumes }, (_, index) => this.#volumes + index);
    await inParallel(indexes, async (index) => {
      const name = `seed-${String(index).padStart(6, "0")}`;
      await this.#store.create("volumes", name, this.#volume(index));
    });
    this.#volumes = count;
    const device = await this.#store.get("devices", this.#deviceUuid);
    if (device === undefined) throw new Error("the device's record is gone");
    await this.#store.replace("devices", { ...device, generation: Math.max(device.generation, count) });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources.disposeAsync();
  }

  async #makeDevice(): Promise<void> {
    await this.#store.create("devices", this.#deviceUuid, {
      uuid: this.#deviceUuid,
      pool: "default",
      fabric: FABRIC,
      sizeBytes: DEVICE_BYTES,
      incarnation: 1,
      coherency: "hardware",
      nodes: Object.fromEntries(this.nodeIds.map((nodeId) => [nodeId, { path: "/dev/dax0.0" }])),
      generation: 0,
      intent: undefined,
      revision: undefined,
      frozen: undefined,
    });
  }

  /** What the nodes' agents do, but for the memory: it is the controller that is measured. */
  #answerFormats(): void {
    const answer = (name: string) =>
      updateRecord(this.#store, "volumes", name, (found) =>
        found.phase === "Formatting" && found.jobNode !== undefined
          ? { ...found, phase: "Ready", jobNode: undefined }
          : undefined,
      ).catch((error: unknown) => process.stderr.write(`format: ${String(error)}\n`));
    this.#resources.use(
      this.#store.informer("volumes").onChange((changes) => {
        for (const change of changes) {
          if (change.type === "put" && change.record.phase === "Formatting") void answer(change.record.name);
        }
      }),
    );
  }

  #volume(index: number): FamfsVolume {
    const nodeId = this.nodeIds[index % this.nodeIds.length] ?? "";
    return {
      csiName: `pvc-${randomUUID()}`,
      claim: { namespace: "default", name: `claim-${index}` },
      uuid: randomUUID(),
      adopted: false,
      pool: "default",
      fabric: FABRIC,
      capacityBytes: REGION_BYTES / 2,
      regions: [{ deviceUuid: this.#deviceUuid, offset: ALLOC_UNIT + index * REGION_BYTES, length: REGION_BYTES }],
      regionGeneration: index + 1,
      parameters: {},
      phase: "Ready",
      jobNode: undefined,
      failure: undefined,
      published: { [nodeId]: { accessMode: "MULTI_NODE_MULTI_WRITER", readonly: false } },
      staged: { [nodeId]: { bootId: bootOf(nodeId) } },
      writer: { nodeId, epoch: 1, since: new Date().toISOString() },
      waiters: [],
      epoch: 1,
      slots: { [nodeId]: 0 },
      slotCount: 128,
      conditions: [],
    };
  }
}

function bootOf(nodeId: string): string {
  return `boot-of-${nodeId}`;
}

function nodeRecord(nodeId: string): Omit<NodeRecord, "renewedAt"> {
  return {
    nodeId,
    fabric: FABRIC,
    bootId: bootOf(nodeId),
    instance: randomUUID(),
    leaseSeconds: LEASE_SECONDS,
    maxVolumes: 256,
  };
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  await Promise.all(
    Array.from({ length: PARALLEL }, async () => {
      for (const item of rest) await work(item);
    }),
  );
}
