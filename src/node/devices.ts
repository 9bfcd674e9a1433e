import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { FamfsError, hasCode, type Logger, messageOf } from "../base/index.ts";
import {
  type Device,
  devdaxPaths,
  initDevice,
  openDevice,
  parseDeviceSpec,
  rememberedRevision,
  scanDevices,
  scanVolumes,
  showContents,
} from "../media/index.ts";
import {
  adoptedVolumeId,
  type FamfsDevice,
  type FamfsVolume,
  type Store,
  UNTOUCHED,
  updateRecord,
} from "../state/index.ts";
import { defaultCoherency } from "./rebuild.ts";

export interface DeviceOption {
  /** A path, `file:///…?size=…`, a device UUID, or `auto`: each devdax device that carries a label of the pool. */
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
  /** The pool that blank devices become part of, and whose devices `auto` takes. */
  readonly pool: string;
  readonly logger: Logger;
  /**
   * Fail at the start when a device cannot be had. Otherwise it is a problem of that device: the others are served, and
   * it is tried again.
   */
  readonly strict?: boolean;
  /** Told once of each. */
  readonly onProblem?: (message: string) => void;
  readonly rescanMs?: number;
  /** Where `auto` looks; only tests give another place. */
  readonly candidates?: () => Promise<string[]>;
}

interface Held {
  readonly device: Device;
  readonly lock: AsyncDisposable;
  readonly found: Identified;
  readonly option: DeviceOption;
  readonly coherency: FamfsDevice["coherency"];
}

/** Where a device is on this node, and how to use it. */
export interface DevicePlace {
  readonly path: string;
  readonly coherent: boolean;
  /** See `PathSpec`; tests. */
  readonly cachesOf?: string;
}

const AUTO = "auto";
const RESCAN_MS = 10_000;

/**
 * The devices this node reaches: opened, locked against the command line, and registered in the store. A blank
 * device becomes a managed one; one that the stock tools formatted becomes an adopted volume. What appears later is
 * found by looking again, and what changes below us is noticed (docs/decisions/0012).
 */
export class Devices implements AsyncDisposable {
  readonly #options: DevicesOptions;
  readonly #wanted: readonly DeviceOption[];
  readonly #held = new Map<string, Held>();
  /** Problems, by the name or path of a device. */
  readonly #problems = new Map<string, string>();
  /** Paths of devices that `auto` wants and cannot have. */
  #refused: ReadonlySet<string> = new Set();
  #starting = true;
  readonly #stop = new AbortController();
  #rescans: Promise<void> = Promise.resolve();

  private constructor(wanted: readonly DeviceOption[], options: DevicesOptions) {
    this.#wanted = wanted;
    this.#options = options;
  }

  /**
   * INVALID_ARGUMENT, FABRIC_CONFLICT (also when not strict: nothing here would be right), and with `strict` why a
   * device cannot be had: DEVICE_NOT_FOUND, DEVICE_NOT_BLANK (naming what it holds), RECORDS_LOST and others.
   */
  static async open(wanted: readonly DeviceOption[], options: DevicesOptions): Promise<Devices> {
    for (const { device } of wanted) if (device !== AUTO) parseDeviceSpec(device);
    const devices = new Devices(wanted, options);
    try {
      await devices.#look();
      await devices.#withdrawFromOthers();
    } catch (error) {
      await devices[Symbol.asyncDispose]();
      throw error;
    }
    devices.#starting = false;
    devices.#rescans = devices.#rescan(options.rescanMs ?? RESCAN_MS);
    return devices;
  }

  /** The device, if it still is the one that was registered. DEVICE_NOT_FOUND, LABEL_CHANGED. */
  async require(uuid: string): Promise<Device> {
    const held = this.#held.get(uuid);
    if (held === undefined) {
      throw new FamfsError("DEVICE_NOT_FOUND", `this node does not reach device ${uuid}`);
    }
    await assertSame(held);
    return held.device;
  }

  all(): [string, Device][] {
    return [...this.#held].map(([uuid, { device }]) => [uuid, device]);
  }

  place(uuid: string): DevicePlace | undefined {
    const held = this.#held.get(uuid);
    if (held === undefined) return undefined;
    const { path, cachesOf } = held.device;
    return { path, coherent: held.coherency !== "flush", ...(cachesOf === undefined ? {} : { cachesOf }) };
  }

  /** What keeps devices that this node should have from use; for people. */
  get problems(): readonly string[] {
    return [...this.#problems.values()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#rescans;
    const held = [...this.#held.values()];
    this.#held.clear();
    for (const { device, lock } of held) {
      await lock[Symbol.asyncDispose]();
      await device[Symbol.asyncDispose]();
    }
  }

  async #rescan(periodMs: number): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await delay(periodMs, undefined, { signal, ref: false }).catch(() => undefined);
      if (signal.aborted) return;
      await this.#look().catch((error: unknown) => {
        this.#options.logger.warn({ reason: messageOf(error) }, "looking for devices failed; it is tried again");
      });
    }
  }

  /** Checks what is held, and tries to get what is missing. */
  async #look(): Promise<void> {
    for (const [uuid, held] of this.#held) {
      await this.#noting(held.device.path, async () => {
        await assertSame(held);
        // The record may have been lost meanwhile.
        await this.#register(held.device, held.found, held.option);
      });
      // Nothing new may be scheduled here for it. DeviceWatch tells of staged volumes.
      if (this.#problems.has(held.device.path)) await this.#withdraw(uuid);
    }
    for (const option of this.#wanted) {
      if (option.device === AUTO) await this.#discover(option);
      else if (![...this.#held.values()].some((held) => held.option === option)) {
        // An administrator's force is meant for what is there when he gives it.
        const once = this.#starting ? option : { ...option, force: false };
        await this.#noting(option.device, () => this.#add(once, option));
      }
    }
  }

  async #discover(option: DeviceOption): Promise<void> {
    const { pool, candidates = devdaxPaths } = this.#options;
    const held = new Set([...this.#held.values()].map(({ device }) => device.path));
    const { devices } = await scanDevices((await candidates()).filter((path) => !held.has(path)));
    const refused = new Set<string>();
    for (const { path, label } of devices) {
      if (label.pool !== pool || this.#held.has(label.uuid)) continue;
      await this.#noting(path, () => this.#add({ ...option, device: path, force: false }, option));
      if (!this.#held.has(label.uuid)) refused.add(path);
    }
    // Nobody asked for those by name: gone, or given to others, they are no problem any more.
    for (const path of this.#refused) if (!refused.has(path)) this.#problems.delete(path);
    this.#refused = refused;
  }

  /**
   * Runs `work`; what goes wrong is that device's problem, said once. Not a store that does not answer, and at the
   * start not what keeps the plugin from starting.
   */
  async #noting(name: string, work: () => Promise<void>): Promise<void> {
    const { strict = false, onProblem, logger } = this.#options;
    try {
      await work();
      if (this.#problems.delete(name)) logger.info({ device: name }, "the device is in order again");
    } catch (error) {
      if (hasCode(error, "STORE_UNAVAILABLE")) throw error;
      if (this.#starting && (strict || hasCode(error, "FABRIC_CONFLICT"))) throw error;
      const message = messageOf(error);
      if (this.#problems.get(name) !== message) {
        logger.error({ device: name, reason: message }, "a device is not usable");
        onProblem?.(message);
      }
      this.#problems.set(name, message);
    }
  }

  async #add(option: DeviceOption, wanted: DeviceOption): Promise<void> {
    const device = await openDevice(option.device, { writable: true });
    let lock: AsyncDisposable | undefined;
    try {
      await this.#initialise(device, option);
      lock = await lockShared(device);
      const found = await identify(device);
      if (this.#held.has(found.uuid)) {
        throw new FamfsError("INVALID_ARGUMENT", `${device.path} is device ${found.uuid}, which was named before`);
      }
      const coherency = await this.#register(device, found, option).catch((error: unknown) => {
        // Another node was faster to create the record: now it is there.
        if (hasCode(error, "CONFLICT")) return this.#register(device, found, option);
        throw error;
      });
      this.#held.set(found.uuid, { device, lock, found, option: wanted, coherency });
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
          "FABRIC_CONFLICT",
          `${device.path} is device ${found.uuid} of fabric "${record.fabric}", this node is in "${fabric}"; its volumes keep that fabric, so give the node --fabric=${record.fabric} or take the device away from it`,
        );
      }
      if (record.nodes[nodeId]?.path === device.path && record.incarnation === found.incarnation) return undefined;
      return { ...record, incarnation: found.incarnation, nodes: { ...record.nodes, ...here } };
    });
    if (present === undefined && !found.adopted) await this.#assertNoneLost(device);
    const record =
      present ??
      (await store.create("devices", found.uuid, {
        uuid: found.uuid,
        pool: found.pool,
        fabric,
        sizeBytes: device.sizeBytes,
        incarnation: found.incarnation,
        coherency: option.coherency ?? defaultCoherency(device),
        nodes: here,
        generation: 0,
        intent: undefined,
        // Above what another store of this device ever had, an earlier installation's say.
        revision: found.adopted ? undefined : (await rememberedRevision(device)) + 1,
        frozen: undefined,
      }));
    if (found.adopted) await this.#registerAdopted(device, found.uuid);
    return record.coherency;
  }

  /** Without its record nobody knows what is in use: registered as it is, its volumes would be allocated over. */
  async #assertNoneLost(device: Device): Promise<void> {
    const { store, fabric } = this.#options;
    const names: string[] = [];
    for (const { record } of await scanVolumes(device)) {
      if (record === undefined) continue;
      if ((await store.get("volumes", record.name))?.uuid !== record.volumeUuid) names.push(record.name);
    }
    if (names.length === 0) return;
    throw new FamfsError(
      "RECORDS_LOST",
      `${device.path} holds ${names.length} volumes without records (${names.slice(0, 3).join(", ")}${names.length > 3 ? ", …" : ""}): make them again with "device rebuild --fabric=${fabric}", or give them up with "device init --force"`,
    );
  }

  /** Devices that this node reached in an earlier life: nothing may be scheduled here for them. */
  async #withdrawFromOthers(): Promise<void> {
    const { store, nodeId } = this.#options;
    for (const { uuid, nodes } of await store.list("devices")) {
      if (nodes[nodeId] !== undefined && !this.#held.has(uuid)) await this.#withdraw(uuid);
    }
  }

  async #withdraw(uuid: string): Promise<void> {
    const { store, nodeId } = this.#options;
    await updateRecord(store, "devices", uuid, (record) => {
      const { [nodeId]: here, ...others } = record.nodes;
      return here === undefined ? undefined : { ...record, nodes: others };
    });
  }

  async #registerAdopted(device: Device, uuid: string): Promise<void> {
    const { store, fabric, logger } = this.#options;
    const name = adoptedVolumeId(uuid);
    if ((await store.get("volumes", name)) !== undefined) return;
    const volume: FamfsVolume = {
      ...UNTOUCHED,
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
    };
    await store.create("volumes", name, volume);
    logger.info({ path: device.path, volumeId: name }, "a file system of the stock tools became a read-only volume");
  }
}

const INIT_TIMEOUT_MS = 10_000;
const LET_GO_MS = 1_000;

/** Another plugin of this host may just be letting go of the device that it has initialised. */
async function lockShared(device: Device): Promise<AsyncDisposable> {
  for (const until = performance.now() + LET_GO_MS; ; await delay(20)) {
    try {
      return await device.lock({ shared: true });
    } catch (error) {
      if (!hasCode(error, "DEVICE_IN_USE") || performance.now() > until) throw error;
    }
  }
}

/** Whether what we hold is still what is there: the same device at its path, with the label that was registered. */
async function assertSame({ device, found }: Held): Promise<void> {
  const was = `device ${found.uuid}, incarnation ${found.incarnation}`;
  const now = await lookAgain(device);
  if (now === `device ${found.uuid}, incarnation ${found.incarnation}`) return;
  throw new FamfsError(
    "LABEL_CHANGED",
    `${device.path} was ${was} when this node plugin took it, and is now ${now}: drain the node and restart its plugin`,
  );
}

async function lookAgain({ path, identity }: Device): Promise<string> {
  await using device = await openDevice({ type: "path", path, sizeBytes: undefined }, { writable: false });
  if (device.identity !== identity) return `another device (${device.identity}, it was ${identity})`;
  const { uuid, incarnation } = await identify(device);
  return `device ${uuid}, incarnation ${incarnation}`;
}

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
