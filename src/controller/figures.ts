import { PoolSpace } from "../alloc/index.ts";
import type { Logger } from "../base/index.ts";
import {
  type Kind,
  NodeLiveness,
  nodeOf,
  problemsOf,
  type Store,
  type StoredRecord,
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
  /** Whether the heartbeat of each node is heard. */
  readonly nodes: readonly { readonly node: string; readonly alive: boolean }[];
}

/**
 * Follows all records, so that figures of them cost no request to the store. The records are those that the watch
 * keeps anyway.
 */
export class StoreCensus implements AsyncDisposable {
  readonly #abort = new AbortController();
  readonly #devices = new Map<string, StoredRecord<"devices">>();
  readonly #volumes = new Map<string, StoredRecord<"volumes">>();
  readonly #nodes = new Set<string>();
  readonly #liveness: NodeLiveness;
  #followed: Promise<unknown> = Promise.resolve();
  /** Of the state since the last change. */
  #pools: readonly PoolFigures[] | undefined;

  private constructor(liveness: NodeLiveness) {
    this.#liveness = liveness;
  }

  static async open(store: Store, { logger }: { readonly logger: Logger }): Promise<StoreCensus> {
    const census = new StoreCensus(await NodeLiveness.open(store, { logger }));
    const follow = <K extends Kind>(kind: K, seen: (name: string, record: StoredRecord<K> | undefined) => void) =>
      census.#follow(store, kind, seen).catch((error: unknown) => {
        logger.error({ err: error, kind }, "records are no longer followed: metrics of them are out of date");
      });
    census.#followed = Promise.all([
      follow("devices", (name, record) => put(census.#devices, name, record)),
      follow("volumes", (name, record) => put(census.#volumes, name, record)),
      follow("nodes", (name, record) => (record === undefined ? census.#nodes.delete(name) : census.#nodes.add(name))),
    ]);
    return census;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#followed;
    await this.#liveness[Symbol.asyncDispose]();
  }

  figures(): StoreFigures {
    const volumes = Object.fromEntries(VOLUME_PHASES.map((phase) => [phase, 0])) as Record<VolumePhase, number>;
    const abnormal: { volume: string; node: string; reason: string }[] = [];
    for (const volume of this.#volumes.values()) {
      volumes[volume.phase]++;
      for (const problem of problemsOf(volume)) {
        abnormal.push({ volume: volume.name, node: nodeOf(problem), reason: problem.reason });
      }
    }
    this.#pools ??= this.#countPools();
    const nodes = [...this.#nodes].map((node) => ({ node, alive: this.#liveness.isAlive(node) }));
    const frozen = [...this.#devices].map(([device, record]) => ({ device, frozen: record.frozen !== undefined }));
    return { pools: this.#pools, volumes, abnormal, frozen, nodes };
  }

  /** A device of an adopted volume is in no pool. */
  #countPools(): PoolFigures[] {
    const volumes = [...this.#volumes.values()];
    const devices = [...this.#devices.values()].filter(({ pool }) => pool !== "");
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

  async #follow<K extends Kind>(
    store: Store,
    kind: K,
    seen: (name: string, record: StoredRecord<K> | undefined) => void,
  ): Promise<void> {
    for await (const change of store.watch(kind, this.#abort.signal)) {
      if (change.type === "put") seen(change.record.name, change.record);
      else seen(change.name, undefined);
      if (kind !== "nodes") this.#pools = undefined;
    }
  }
}

function put<T>(records: Map<string, T>, name: string, record: T | undefined): void {
  if (record === undefined) records.delete(name);
  else records.set(name, record);
}
