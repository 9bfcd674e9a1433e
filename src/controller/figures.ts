import { PoolSpace } from "../alloc/index.ts";
import {
  type Informer,
  type Kind,
  NodeLiveness,
  nodeOf,
  problemsOf,
  type Store,
  VOLUME_PHASES,
  type VolumePhase,
} from "../state/index.ts";

export interface PoolFigures {
  readonly pool: string;
  readonly fabric: string;
  /** What can be given to volumes: without the labels of its devices. */
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly largestFreeBytes: number;
  /** Regions of deleted volumes that a node may still write to. */
  readonly quarantinedRegions: number;
  readonly quarantinedBytes: number;
}

/** What the records say at one moment. */
export interface StoreFigures {
  readonly pools: readonly PoolFigures[];
  readonly volumes: Readonly<Record<VolumePhase, number>>;
  /** By volume, the node that reports it and the reason of its condition. */
  readonly abnormal: readonly { readonly volume: string; readonly node: string; readonly reason: string }[];
  /** By device, whether the store was restored from a backup, so that nothing on it is erased or given up. */
  readonly frozen: readonly { readonly device: string; readonly frozen: boolean }[];
  /** Objects that are there and are no records. */
  readonly unreadable: readonly { readonly kind: Kind; readonly name: string }[];
  /** Whether the heartbeat of each node is heard. */
  readonly nodes: readonly { readonly node: string; readonly alive: boolean }[];
}

/**
 * Figures of all records, from the informers: they cost no request to the store.
 */
export class StoreCensus implements Disposable {
  readonly #devices: Informer<"devices">;
  readonly #volumes: Informer<"volumes">;
  readonly #nodes: Informer<"nodes">;
  readonly #liveness: NodeLiveness;
  readonly #following: readonly Disposable[];
  /** Of the state since the last change. */
  #pools: readonly PoolFigures[] | undefined;

  private constructor(store: Store, liveness: NodeLiveness) {
    this.#devices = store.informer("devices");
    this.#volumes = store.informer("volumes");
    this.#nodes = store.informer("nodes");
    this.#liveness = liveness;
    const changed = () => {
      this.#pools = undefined;
    };
    this.#following = [this.#devices.onChange(changed), this.#volumes.onChange(changed)];
  }

  static async open(store: Store): Promise<StoreCensus> {
    return new StoreCensus(store, await NodeLiveness.open(store));
  }

  [Symbol.dispose](): void {
    for (const each of this.#following) each[Symbol.dispose]();
    this.#liveness[Symbol.dispose]();
  }

  figures(): StoreFigures {
    const volumes = Object.fromEntries(VOLUME_PHASES.map((phase) => [phase, 0])) as Record<VolumePhase, number>;
    const abnormal: { volume: string; node: string; reason: string }[] = [];
    for (const volume of this.#volumes.list()) {
      volumes[volume.phase]++;
      for (const problem of problemsOf(volume)) {
        abnormal.push({ volume: volume.name, node: nodeOf(problem), reason: problem.reason });
      }
    }
    this.#pools ??= this.#countPools();
    const nodes = [...this.#nodes.list()].map(({ name: node }) => ({ node, alive: this.#liveness.isAlive(node) }));
    const frozen = [...this.#devices.list()].map(({ name: device, frozen }) => ({
      device,
      frozen: frozen !== undefined,
    }));
    const unreadable = [this.#volumes, this.#devices, this.#nodes].flatMap((informer) =>
      [...informer.unreadable()].map(({ name }) => ({ kind: informer.kind, name })),
    );
    return { pools: this.#pools, volumes, abnormal, frozen, unreadable, nodes };
  }

  /** A device of an adopted volume is in no pool. */
  #countPools(): PoolFigures[] {
    const volumes = [...this.#volumes.list()];
    const devices = [...this.#devices.list()].filter(({ pool }) => pool !== "");
    const key = ({ pool, fabric }: { pool: string; fabric: string }) => JSON.stringify([pool, fabric]);
    // An intent's regions are in its volume, too, once it is half finished.
    const used = new Map(
      [...volumes, ...devices.map(({ intent }) => ({ regions: intent?.regions ?? [] }))]
        .flatMap(({ regions }) => regions)
        .map((region) => [`${region.deviceUuid} ${region.offset}`, region]),
    );
    const pools = Map.groupBy(devices, key);
    const quarantined = Map.groupBy(
      volumes.filter(({ phase, staged }) => phase === "Reclaiming" && Object.keys(staged).length > 0),
      key,
    );
    return [...pools.values()].flatMap((members) => {
      const [first] = members;
      if (first === undefined) return [];
      const { pool, fabric } = first;
      const { totalBytes, freeBytes, largestFreeBytes } = PoolSpace.of(members, used.values());
      const regions = (quarantined.get(key(first)) ?? []).flatMap((volume) => volume.regions);
      const quarantinedBytes = regions.reduce((sum, { length }) => sum + length, 0);
      const quarantinedRegions = regions.length;
      return [{ pool, fabric, totalBytes, freeBytes, largestFreeBytes, quarantinedRegions, quarantinedBytes }];
    });
  }
}
