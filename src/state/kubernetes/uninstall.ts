import type { FamfsVolume } from "../records.ts";
import type { StoredRecord, Unreadable } from "../store.ts";
import { isUnknownResource, KubernetesApi } from "./api.ts";
import { type ApiObject, asRecord, parseObject } from "./api-object.ts";
import { type ConnectOptions, connect } from "./connection.ts";
import { changeFinalizers } from "./finalizers.ts";
import { listObjects } from "./list-objects.ts";
import { API_GROUP, MEMORY_FINALIZER, readRecord, recordResources } from "./resources.ts";

export interface Remains {
  readonly volumes: readonly StoredRecord<"volumes">[];
  /** Names of FamfsVolumes that cannot be read: each may be one that holds data. */
  readonly unreadable: readonly string[];
  /** PersistentVolumes of the driver, and the volume that each names. */
  readonly persistentVolumes: readonly { readonly name: string; readonly volumeId: string }[];
}

const PERSISTENT_VOLUMES = { path: "/api/v1/persistentvolumes", apiKind: "PersistentVolume" } as const;

/** What the sidecars put on PersistentVolumes, and nobody takes off once they are gone. */
const SIDECAR_FINALIZERS: readonly string[] = [
  "external-provisioner.volume.kubernetes.io/finalizer",
  `external-attacher/${API_GROUP.replaceAll(".", "-")}`,
];

/**
 * Before the driver goes: what would be left without one. After it went: nothing waits for it for ever. Works without
 * the Leases of nodes, whose namespace goes with the driver.
 */
export class Uninstall implements Disposable {
  readonly #api: KubernetesApi;

  private constructor(api: KubernetesApi) {
    this.#api = api;
  }

  static async open(options: ConnectOptions): Promise<Uninstall> {
    return new Uninstall(new KubernetesApi(await connect(options)));
  }

  [Symbol.dispose](): void {
    this.#api[Symbol.dispose]();
  }

  async remains(): Promise<Remains> {
    const { volumes } = recordResources();
    const served = await this.#isServed(volumes.path);
    const parse = (item: unknown) => readRecord(volumes, item);
    const items = served ? (await listObjects(this.#api, { path: volumes.path, parse })).items : [];
    const { path, apiKind } = PERSISTENT_VOLUMES;
    const objects = await listObjects(this.#api, { path, parse: (item) => parseObject(apiKind, item) });
    const persistentVolumes = objects.items
      .filter(isOurs)
      .map(({ metadata, spec }) => ({ name: metadata.name, volumeId: String(csiOf(spec)["volumeHandle"]) }));
    const isRecord = (item: StoredRecord<"volumes"> | Unreadable): item is StoredRecord<"volumes"> =>
      "resourceVersion" in item;
    const unreadable = items.filter((item) => !isRecord(item)).map(({ name }) => name);
    return { volumes: items.filter(isRecord), unreadable, persistentVolumes };
  }

  /**
   * Takes off the finalizers that only the driver and its sidecars take off, and removes the records of devices and
   * adopted volumes, which nodes make again from what the memory says. While there are volumes of ours all records
   * stay: they say where the data is. Safe to repeat.
   */
  async letGo(): Promise<void> {
    const { volumes, unreadable } = await this.remains();
    const resources = recordResources();
    const without = (gone: readonly string[]) => (has: readonly string[]) => has.filter((each) => !gone.includes(each));
    for (const { path, apiKind } of Object.values(resources)) {
      if (!(await this.#isServed(path))) continue;
      await changeFinalizers(this.#api, { path, apiKind, change: without([MEMORY_FINALIZER]) });
      if (volumes.some(isManaged) || unreadable.length > 0) continue;
      await this.#api.request({ method: "DELETE", path });
    }
    await changeFinalizers(this.#api, { ...PERSISTENT_VOLUMES, matches: isOurs, change: without(SIDECAR_FINALIZERS) });
  }

  /** Not when somebody has deleted the custom resource definition already, and the records with it. */
  async #isServed(path: string): Promise<boolean> {
    try {
      await this.#api.request({ method: "GET", path, query: { limit: "1" } });
      return true;
    } catch (error) {
      if (isUnknownResource(error)) return false;
      throw error;
    }
  }
}

/** Its memory is ours to give and to erase. */
export function isManaged({ adopted }: FamfsVolume): boolean {
  return !adopted;
}

function isOurs({ spec }: ApiObject): boolean {
  return csiOf(spec)["driver"] === API_GROUP;
}

function csiOf(spec: unknown): Record<string, unknown> {
  return asRecord(asRecord(spec)["csi"]);
}
