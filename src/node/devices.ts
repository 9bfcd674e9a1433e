import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { FamfsError, hasCode, type Logger } from "../base/index.ts";
import { type Device, initDevice, openDevice, showContents } from "../media/index.ts";
import { adoptedVolumeId, type FamfsDevice, type FamfsVolume, type Store, updateRecord } from "../state/index.ts";

export interface DeviceOption {
  /** A path, `file:///…?size=…` or a device UUID. */
  readonly device: string;
  /** Overwrite what is on it, unless that is a label of ours. Only ever by an explicit wish of the administrator. */
  readonly force?: boolean;
  /** What loads see of other nodes' stores. Default: single-host for files, flush for devdax. */
  readonly coherency?: FamfsDevice["coherency"];
}

export interface DevicesOptions {
  readonly store: Store;
  readonly nodeId: string;
  readonly fabric: string;
  /** The pool that blank devices become part of. */
  readonly pool: string;
  readonly logger: Logger;
}

interface Held {
  readonly device: Device;
  readonly lock: AsyncDisposable;
  readonly coherency: FamfsDevice["coherency"];
}

/** Where a device is on this node, and how to use it. */
export interface DevicePlace {
  readonly path: string;
  readonly coherent: boolean;
}

/**
 * The devices this node reaches: opened, locked against the command line, and registered in the store. A blank
 * device becomes a managed one; one that the stock tools formatted becomes an adopted volume.
 */
export class Devices implements AsyncDisposable {
  readonly #options: DevicesOptions;
  readonly #held = new Map<string, Held>();

  private constructor(options: DevicesOptions) {
    this.#options = options;
  }

  /** DEVICE_NOT_BLANK names what a device holds that is neither blank nor ours. */
  static async open(wanted: readonly DeviceOption[], options: DevicesOptions): Promise<Devices> {
    const devices = new Devices(options);
    try {
      for (const option of wanted) await devices.#add(option);
      await devices.#withdrawFromOthers();
    } catch (error) {
      await devices[Symbol.asyncDispose]();
      throw error;
    }
    return devices;
  }

  get(uuid: string): Device | undefined {
    return this.#held.get(uuid)?.device;
  }

  all(): [string, Device][] {
    return [...this.#held].map(([uuid, { device }]) => [uuid, device]);
  }

  place(uuid: string): DevicePlace | undefined {
    const held = this.#held.get(uuid);
    return held === undefined ? undefined : { path: held.device.path, coherent: held.coherency !== "flush" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const held = [...this.#held.values()];
    this.#held.clear();
    for (const { device, lock } of held) {
      await lock[Symbol.asyncDispose]();
      await device[Symbol.asyncDispose]();
    }
  }

  async #add(option: DeviceOption): Promise<void> {
    const device = await openDevice(option.device, { writable: true });
    let lock: AsyncDisposable | undefined;
    try {
      await this.#initialise(device, option);
      lock = await device.lock({ shared: true });
      const found = await identify(device);
      if (this.#held.has(found.uuid)) {
        throw new FamfsError("INVALID_ARGUMENT", `${device.path} is device ${found.uuid}, which was named before`);
      }
      const coherency = await this.#register(device, found, option).catch((error: unknown) => {
        // Another node was faster to create the record: now it is there.
        if (hasCode(error, "CONFLICT")) return this.#register(device, found, option);
        throw error;
      });
      this.#held.set(found.uuid, { device, lock, coherency });
    } catch (error) {
      await lock?.[Symbol.asyncDispose]();
      await device[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Makes a blank device (with `force` any) a managed one. Plugins of one host take turns. */
  async #initialise(device: Device, { force = false }: DeviceOption): Promise<void> {
    // A device that is managed already keeps its volumes at every start, also with force.
    const isWanted = async () => {
      const { type } = await device.inspect();
      return type === "blank" || (force && type !== "label");
    };
    for (const until = performance.now() + INIT_TIMEOUT_MS; ; await delay(20)) {
      if (!(await isWanted())) return;
      try {
        await using _lock = await device.lock({ shared: false });
        if (!(await isWanted())) return;
        const { uuid, pool } = await initDevice(device, {
          uuid: randomUUID(),
          pool: this.#options.pool,
          incarnation: 1,
          createdSeconds: Math.floor(Date.now() / 1000),
          force,
        });
        this.#options.logger.info({ path: device.path, uuid, pool }, "device initialised");
        return;
      } catch (error) {
        // Another plugin of this host may be doing it; it has the device for good only when it is not blank any more.
        if (!hasCode(error, "DEVICE_IN_USE") || performance.now() > until) throw error;
      }
    }
  }

  /** Puts it into the store, which decides about its coherency once it is there. */
  async #register(device: Device, found: Identified, option: DeviceOption): Promise<FamfsDevice["coherency"]> {
    const { store, nodeId, fabric } = this.#options;
    const here = { [nodeId]: { path: device.path } };
    const present = await updateRecord(store, "devices", found.uuid, (record) => {
      if (record.fabric !== fabric) {
        throw new FamfsError(
          "INVALID_ARGUMENT",
          `${device.path} is device ${found.uuid} of fabric "${record.fabric}", this node is in "${fabric}"`,
        );
      }
      if (record.nodes[nodeId]?.path === device.path && record.incarnation === found.incarnation) return undefined;
      return { ...record, incarnation: found.incarnation, nodes: { ...record.nodes, ...here } };
    });
    const record =
      present ??
      (await store.create("devices", found.uuid, {
        uuid: found.uuid,
        pool: found.pool,
        fabric,
        sizeBytes: device.sizeBytes,
        incarnation: found.incarnation,
        coherency: option.coherency ?? (device.kind === "file" ? "single-host" : "flush"),
        nodes: here,
        generation: 0,
        intent: undefined,
      }));
    if (found.adopted) await this.#registerAdopted(device, found.uuid);
    return record.coherency;
  }

  /** Devices that this node reached in an earlier life: nothing may be scheduled here for them. */
  async #withdrawFromOthers(): Promise<void> {
    const { store, nodeId } = this.#options;
    for (const { uuid, nodes } of await store.list("devices")) {
      if (nodes[nodeId] === undefined || this.#held.has(uuid)) continue;
      await updateRecord(store, "devices", uuid, (record) => {
        const { [nodeId]: _, ...others } = record.nodes;
        return { ...record, nodes: others };
      });
    }
  }

  async #registerAdopted(device: Device, uuid: string): Promise<void> {
    const { store, fabric, logger } = this.#options;
    const name = adoptedVolumeId(uuid);
    if ((await store.get("volumes", name)) !== undefined) return;
    const volume: FamfsVolume = {
      csiName: name,
      uuid,
      claim: undefined,
      adopted: true,
      pool: "",
      fabric,
      capacityBytes: device.sizeBytes,
      // All of it, so nothing else is ever placed there.
      regions: [{ deviceUuid: uuid, offset: 0, length: device.sizeBytes }],
      regionGeneration: 0,
      parameters: {},
      phase: "Ready",
      jobNode: undefined,
      failure: undefined,
      published: {},
      staged: {},
      writer: undefined,
      waiters: [],
      epoch: 0,
      slots: {},
      conditions: [],
    };
    await store.create("volumes", name, volume);
    logger.info({ path: device.path, volumeId: name }, "a file system of the stock tools became a read-only volume");
  }
}

const INIT_TIMEOUT_MS = 10_000;

/** What a device is by what is on it; its label is read again after it was written. */
async function identify(device: Device): Promise<Identified> {
  const contents = await device.inspect();
  if (contents.type === "label") return { ...contents.label, adopted: false };
  if (contents.type === "famfs" && contents.uuid !== undefined && !contents.extended) {
    return { uuid: contents.uuid, pool: "", incarnation: 0, adopted: true };
  }
  throw new FamfsError(
    "DEVICE_NOT_BLANK",
    `${device.path} ${showContents(contents)}; name another device, or use --force to overwrite it`,
  );
}

interface Identified {
  readonly uuid: string;
  readonly pool: string;
  readonly incarnation: number;
  readonly adopted: boolean;
}
