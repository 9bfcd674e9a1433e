import { FamfsError, type Logger } from "../../base/index.ts";
import { Informer } from "../informer.ts";
import type { Kind, Records } from "../records.ts";
import type { Listed, Store, StoredRecord, Unreadable } from "../store.ts";
import { KubernetesApi } from "./api.ts";
import { asRecord, parseObject } from "./api-object.ts";
import type { ClusterConnection } from "./connection.ts";
import { changeFinalizers } from "./finalizers.ts";
import { listObjects } from "./list-objects.ts";
import { Reflector } from "./reflector.ts";
import { type Resource, type Resources, readRecord, resources, toRecord } from "./resources.ts";

export interface KubernetesStoreOptions {
  readonly connection: ClusterConnection;
  /** Namespace of the nodes' Leases, which holds nothing else. */
  readonly nodeNamespace: string;
  readonly logger: Logger;
  /** Ends the opening; the store does not depend on it. */
  readonly signal?: AbortSignal | undefined;
}

/** What the API server lets objects be called (RFC 1123 subdomain). */
const OBJECT_NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

type Informers = { [K in Kind]?: Informer<K> };

/**
 * Records as objects of the Kubernetes API: devices and volumes as custom resources, nodes as Leases. A read gives
 * the state at the time of the request (no cache).
 */
export class KubernetesStore implements Store {
  readonly #api: KubernetesApi;
  readonly #resources: Resources;
  readonly #logger: Logger;
  readonly #informers: Informers = {};
  readonly #told = new Set<string>();
  #closed = false;

  private constructor({ connection, nodeNamespace, logger }: KubernetesStoreOptions) {
    this.#api = new KubernetesApi(connection);
    this.#resources = resources(nodeNamespace);
    this.#logger = logger;
  }

  /** Errors: STORE_UNAVAILABLE when the API does not answer or lacks our resources; the signal's reason. */
  static async open(options: KubernetesStoreOptions): Promise<KubernetesStore> {
    const store = new KubernetesStore(options);
    const { signal } = options;
    const ends = signal === undefined ? {} : { signal };
    try {
      await Promise.all(
        Object.values(store.#resources).map(({ path }) =>
          store.#api.request({ method: "GET", path, query: { limit: "1" }, ...ends }),
        ),
      );
    } catch (error) {
      await store[Symbol.asyncDispose]();
      throw error;
    }
    return store;
  }

  async get<K extends Kind>(kind: K, name: string): Promise<StoredRecord<K> | undefined> {
    const resource = this.#resource(kind);
    // Ids come from callers as they are, and "..", say, would be another path.
    if (!OBJECT_NAME.test(name)) return undefined;
    const object = await this.#api.request({ method: "GET", path: objectPath(resource, name) });
    return object === undefined ? undefined : toRecord(resource, object);
  }

  async list<K extends Kind>(kind: K): Promise<StoredRecord<K>[]> {
    return (await this.listAll(kind)).records;
  }

  async listAll<K extends Kind>(kind: K): Promise<Listed<K>> {
    const resource = this.#resource(kind);
    const { items } = await listObjects(this.#api, {
      path: resource.path,
      parse: (item) => readRecord(resource, item),
    });
    const unreadable = items.filter((item): item is Unreadable => !("resourceVersion" in item));
    for (const { name, reason } of unreadable) this.#tell(kind, name, reason);
    const records = items.filter((item): item is StoredRecord<K> => "resourceVersion" in item);
    // The server's order is that of the keys in etcd, which differs where a name continues another.
    return { records: records.sort((a, b) => (a.name < b.name ? -1 : 1)), unreadable };
  }

  /** Once of each: lists come again and again. */
  #tell(kind: Kind, name: string, reason: string): void {
    if (this.#told.has(`${kind} ${name} ${reason}`)) return;
    this.#told.add(`${kind} ${name} ${reason}`);
    this.#logger.error({ kind, name, reason }, "an object that is no record is passed over");
  }

  async create<K extends Kind>(kind: K, name: string, record: Records[K]): Promise<StoredRecord<K>> {
    const resource = this.#resource(kind);
    const { annotations, ...body } = resource.toBody(record);
    const { apiVersion, apiKind, finalizer } = resource;
    const metadata = { name, annotations, finalizers: finalizer === undefined ? [] : [finalizer] };
    const object = await this.#api.request({
      method: "POST",
      path: resource.path,
      body: { apiVersion, kind: apiKind, metadata, ...body },
    });
    return toRecord(resource, object);
  }

  async replace<K extends Kind>(kind: K, record: StoredRecord<K>): Promise<StoredRecord<K>> {
    const resource = this.#resource(kind);
    const { annotations = {}, spec, status = {} } = resource.toBody(record);
    // Field by field: those that a newer version added stay as they are.
    const object = await this.#patch(resource, record, [
      ...setAll("/metadata/annotations", annotations),
      ...setAll("/spec", spec),
      ...setAll("/status", status),
    ]);
    if (object === undefined) throw new FamfsError("CONFLICT", `${kind} record ${record.name} is gone`);
    return toRecord(resource, object);
  }

  async delete(kind: Kind, name: string, resourceVersion: string): Promise<void> {
    const resource: Resource<Kind> = this.#resource(kind);
    const path = objectPath(resource, name);
    const answer = await this.#api.request({
      method: "DELETE",
      path,
      body: { apiVersion: "v1", kind: "DeleteOptions", preconditions: { resourceVersion } },
    });
    // With our finalizer on it the object is only marked, and answered; otherwise the answer is a Status.
    if (resource.finalizer === undefined || !isObject(answer)) return;
    const { metadata } = parseObject(resource.apiKind, answer);
    // A process that dies here leaves a record that is still there, so its deletion is asked for again.
    const rest = metadata.finalizers.filter((each) => each !== resource.finalizer);
    await this.#patch(resource, metadata, [set("/metadata/finalizers", rest)]);
  }

  informer<K extends Kind>(kind: K): Informer<K> {
    const resource = this.#resource(kind);
    const informers: { [Key in K]?: Informer<K> } = this.#informers as { [Key in K]?: Informer<K> };
    const options = { api: this.#api, resource, logger: this.#logger };
    const informer = informers[kind] ?? new Informer<K>(kind, (sink) => new Reflector<K>({ ...options, sink }));
    informers[kind] = informer;
    return informer;
  }

  /**
   * An uninstallation that left volumes took the finalizers off their records: puts them back. Answers how many it
   * changed.
   */
  async protectRecords(): Promise<number> {
    let changed = 0;
    for (const { path, apiKind, finalizer } of Object.values(this.#resources)) {
      if (finalizer === undefined) continue;
      changed += await changeFinalizers(this.#api, {
        path,
        apiKind,
        // The API server takes no new finalizer on an object that is being deleted.
        matches: ({ metadata }) => metadata.deletionTimestamp === undefined,
        change: (has) => (has.includes(finalizer) ? has : [...has, finalizer]),
      });
    }
    return changed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const informer of Object.values(this.#informers)) await informer[Symbol.asyncDispose]();
    this.#api[Symbol.dispose]();
  }

  /**
   * A patch of only what is ours leaves alone what others put into metadata. Naming the resourceVersion in it makes it
   * a compare-and-swap: the server answers 409 when it differs. Undefined when there is no such object.
   */
  async #patch(
    resource: Resource<Kind>,
    { name, resourceVersion }: { readonly name: string; readonly resourceVersion: string },
    operations: readonly object[],
  ): Promise<unknown> {
    return await this.#api.request({
      method: "PATCH",
      path: objectPath(resource, name),
      contentType: "application/json-patch+json",
      body: [set("/metadata/resourceVersion", resourceVersion), ...operations],
    });
  }

  #resource<K extends Kind>(kind: K): Resource<K> {
    if (this.#closed) throw new FamfsError("STORE_UNAVAILABLE", "the store is closed");
    return this.#resources[kind];
  }
}

function objectPath({ path }: Resource<Kind>, name: string): string {
  return `${path}/${encodeURIComponent(name)}`;
}

function isObject(answer: unknown): boolean {
  return typeof asRecord(asRecord(answer)["metadata"])["name"] === "string";
}

/** JSON Patch "add" also replaces (RFC 6902, 4.1). */
function set(path: string, value: unknown): object {
  return { op: "add", path, value };
}

function setAll(parent: string, fields: Readonly<Record<string, unknown>>): object[] {
  return Object.entries(fields).flatMap(([name, value]) => {
    const path = `${parent}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;
    // "remove" fails where there is nothing.
    return value === undefined ? [set(path, null), { op: "remove", path }] : [set(path, value)];
  });
}
