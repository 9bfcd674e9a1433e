import { randomUUID } from "node:crypto";
import { FamfsError, type Logger } from "../base/index.ts";
import { type Device, type DeviceContents, initDevice, openDevice, showContents } from "../media/index.ts";
import { adoptedVolumeId, type FamfsDevice, type FamfsVolume, type Store, updateRecord } from "../state/index.ts";

export interface DeviceOption {
  /** A path, `file:///…?size=…` or a device UUID. */
  readonly device: string;
  /** Overwrite whatever is on it. Only ever by an explicit wish of the administrator. */
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
    } catch (error) {
      await devices[Symbol.asyncDispose]();
      throw error;
    }
    return devices;
  }

  get(uuid: string): Device | undefined {
    return this.#held.get(uuid)?.device;
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
      lock = await device.lock({ shared: true });
      const found = await this.#identify(device, option);
      if (this.#held.has(found.uuid)) {
        throw new FamfsError("INVALID_ARGUMENT", `${device.path} is device ${found.uuid}, which was named before`);
      }
      await this.#register(device, found, option);
      this.#held.set(found.uuid, { device, lock });
    } catch (error) {
      await lock?.[Symbol.asyncDispose]();
      await device[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #identify(device: Device, option: DeviceOption): Promise<Identified> {
    const contents = await device.inspect();
    if (option.force !== true) {
      if (contents.type === "label") return { ...contents.label, adopted: false };
      if (contents.type === "famfs" && contents.uuid !== undefined && !contents.extended) {
        return { uuid: contents.uuid, pool: "", incarnation: 0, adopted: true };
      }
      if (contents.type !== "blank") throw notBlank(device, contents);
    }
    const label = await initDevice(device, {
      uuid: randomUUID(),
      pool: this.#options.pool,
      incarnation: 1,
      createdSeconds: Math.floor(Date.now() / 1000),
      force: option.force === true,
    });
    this.#options.logger.info({ path: device.path, uuid: label.uuid, pool: label.pool }, "device initialised");
    return { ...label, adopted: false };
  }

  async #register(device: Device, found: Identified, option: DeviceOption): Promise<void> {
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
    if (present === undefined) {
      await store.create("devices", found.uuid, {
        uuid: found.uuid,
        pool: found.pool,
        fabric,
        sizeBytes: device.sizeBytes,
        incarnation: found.incarnation,
        coherency: option.coherency ?? (device.kind === "file" ? "single-host" : "flush"),
        nodes: here,
        generation: 0,
        intent: undefined,
      });
    }
    if (found.adopted) await this.#registerAdopted(device, found.uuid);
  }

  async #registerAdopted(device: Device, uuid: string): Promise<void> {
    const { store, fabric, logger } = this.#options;
    const name = adoptedVolumeId(uuid);
    if ((await store.get("volumes", name)) !== undefined) return;
    const volume: FamfsVolume = {
      csiName: name,
      uuid,
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

interface Identified {
  readonly uuid: string;
  readonly pool: string;
  readonly incarnation: number;
  readonly adopted: boolean;
}

function notBlank(device: Device, contents: DeviceContents): FamfsError {
  return new FamfsError(
    "DEVICE_NOT_BLANK",
    `${device.path} ${showContents(contents)}; name another device, or use --force to overwrite it`,
  );
}
