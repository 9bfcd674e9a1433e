import { type FreeSpace, PoolSpace } from "../alloc/index.ts";
import { FamfsError, SortedList, unlessAborted } from "../base/index.ts";
import type { Informer, Shown, Store, StoredRecord } from "../state/index.ts";
import { DeviceUse } from "./device-use.ts";

type Volume = StoredRecord<"volumes">;
type Device = StoredRecord<"devices">;

export interface VolumeViewOptions {
  /** Volumes that the background loops have to look at. */
  readonly needsTending: (volume: Volume) => boolean;
  /** A change made by another controller is here within milliseconds; who waits for longer reads everything. */
  readonly catchUpMs?: number;
}

const CATCH_UP_MS = 250;
const SHOWN_MS = 1_000;

/**
 * All volumes as the store showed them last, with what is asked of them made ready as they change: what is in use on
 * each device, their order, which of them need tending. So no call has to read them all. It may be behind: each use
 * says why that does no harm (docs/decisions/0011).
 */
export class VolumeView implements Disposable {
  readonly #needsTending: (volume: Volume) => boolean;
  readonly #catchUpMs: number;
  readonly #volumes: Informer<"volumes">;
  /** As each was when its regions were counted. */
  readonly #counted = new Map<string, Volume>();
  readonly #names = new SortedList<string>((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  readonly #tended = new Set<string>();
  readonly #devices = new Map<string, DeviceUse>();
  readonly #caughtUp = new AbortController();
  readonly #following: Disposable;

  private constructor(volumes: Informer<"volumes">, { needsTending, catchUpMs = CATCH_UP_MS }: VolumeViewOptions) {
    this.#volumes = volumes;
    this.#needsTending = needsTending;
    this.#catchUpMs = catchUpMs;
    this.#following = volumes.onChange((changes) => this.#show(changes));
  }

  static async open(store: Store, options: VolumeViewOptions): Promise<VolumeView> {
    const devices = await store.list("devices");
    const volumes = store.informer("volumes");
    await volumes.synced();
    const view = new VolumeView(volumes, options);
    // Calls that allocate wait for it, all others are served at once.
    void view.#catchUp(devices);
    return view;
  }

  /** The volumes read after the devices. What a device was giving away meanwhile may be missing. */
  async #catchUp(devices: readonly Device[]): Promise<void> {
    try {
      await this.#volumes.resync();
      for (const device of devices) if (device.intent === undefined) this.#use(device.uuid).setComplete(device);
    } catch {
      // Then the first allocation finds what is missing.
    }
    this.#caughtUp.abort();
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]();
  }

  get size(): number {
    return this.#volumes.size;
  }

  values(): IterableIterator<Volume> {
    return this.#volumes.list();
  }

  /** In order of name, from the first one after `name`. */
  *after(name: string): Generator<Volume> {
    for (const each of this.#names.from(name)) {
      const volume = this.#volumes.get(each);
      if (each !== name && volume !== undefined) yield volume;
    }
  }

  /** Those that the background loops have to look at. */
  tended(): Volume[] {
    return [...this.#tended].flatMap((name) => this.#volumes.get(name) ?? []);
  }

  /**
   * Returns when every region that was given on the devices before their records were as they are now is in the view.
   * False when one of these records has changed meanwhile: who allocates by it loses, and reading all volumes for that
   * is in vain. INTERNAL when there is a volume on one of them, or nobody knows where, that cannot be read.
   */
  async untilComplete(
    devices: readonly Device[],
    { signal, isCurrent }: { readonly signal: AbortSignal; readonly isCurrent: (device: Device) => Promise<boolean> },
  ): Promise<boolean> {
    const { signal: caughtUp } = this.#caughtUp;
    const behind = () => devices.filter((device) => !this.#use(device.uuid).isComplete(device));
    const settled = () => behind().every((device) => this.#use(device.uuid).isPast(device));
    await this.#until(() => behind().length === 0, AbortSignal.any([signal, caughtUp]));
    signal.throwIfAborted();
    await this.#until(settled, AbortSignal.any([signal, AbortSignal.timeout(this.#catchUpMs)]));
    signal.throwIfAborted();
    const missing = behind();
    if (missing.length > 0) {
      for (const device of missing) if (!(await isCurrent(device))) return false;
      await unlessAborted(this.#volumes.resync(), signal);
      for (const device of devices) this.#use(device.uuid).setComplete(device);
    }
    for (const { name, reason, devices: on } of this.#volumes.unreadable()) {
      if (on !== undefined && !devices.some(({ uuid }) => on.includes(uuid))) continue;
      throw new FamfsError(
        "INTERNAL",
        `volume ${name} cannot be read, so nobody knows which memory it has: ${reason}. Mend its record (kubectl edit famfsvolume ${name}), or update the driver if a newer one wrote it`,
      );
    }
    return true;
  }

  /** The generation for the next allocation on the device. */
  nextGeneration({ uuid, generation }: Device): number {
    return Math.max(generation, this.#use(uuid).highestGeneration) + 1;
  }

  /** The free ranges of the devices. With `intents`, regions that are being given away are not. */
  spaceOn(devices: readonly Device[], { intents }: { readonly intents: boolean }): PoolSpace {
    const spaces = new Map<string, FreeSpace>();
    for (const device of devices) {
      const use = this.#use(device.uuid);
      const given = intents ? (device.intent?.regions ?? []) : [];
      spaces.set(device.uuid, given.length > 0 ? use.copyOfFreeSpace(device, given) : use.freeSpace(device));
    }
    return new PoolSpace(spaces);
  }

  /** Waits, not for long, until the view has what the caller just wrote: so that it reads its own writes. */
  async untilShown(name: string, shows: (volume: Volume | undefined) => boolean): Promise<void> {
    await this.#until(() => shows(this.#volumes.get(name)), AbortSignal.timeout(SHOWN_MS));
  }

  async #until(reached: () => boolean, signal: AbortSignal): Promise<void> {
    await this.#volumes.until(() => reached() || undefined, { signal });
  }

  #show(changes: readonly Shown<"volumes">[]): void {
    for (const change of changes) {
      if (change.type === "put") this.#put(change.record);
      else if (change.type === "deleted") this.#remove(change.name);
    }
  }

  #put(volume: Volume): void {
    const { name } = volume;
    const before = this.#counted.get(name);
    this.#counted.set(name, volume);
    if (before === undefined) this.#names.add(name);
    if (this.#needsTending(volume)) this.#tended.add(name);
    else this.#tended.delete(name);
    if (before !== undefined && ownerOf(before) === ownerOf(volume)) return;
    // Another life of the name may have been seen last.
    if (before !== undefined) this.#giveBack(before);
    const owner = ownerOf(volume);
    for (const region of volume.regions) this.#use(region.deviceUuid).add(owner, region, volume.regionGeneration);
  }

  #remove(name: string): void {
    this.#tended.delete(name);
    const before = this.#counted.get(name);
    if (before === undefined) return;
    this.#counted.delete(name);
    this.#names.delete(name);
    this.#giveBack(before);
  }

  #giveBack(volume: Volume): void {
    for (const region of volume.regions) this.#use(region.deviceUuid).remove(ownerOf(volume), region);
  }

  #use(deviceUuid: string): DeviceUse {
    const use = this.#devices.get(deviceUuid) ?? new DeviceUse();
    this.#devices.set(deviceUuid, use);
    return use;
  }
}

/** Differs where the regions do: a record is given its regions once. */
function ownerOf({ uuid, regions, regionGeneration }: Volume): string {
  return `${uuid} ${regions.length} ${regionGeneration}`;
}
