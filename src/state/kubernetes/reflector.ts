import { setTimeout as sleep } from "node:timers/promises";
import { FamfsError, type Logger, messageOf } from "../../base/index.ts";
import type { Kind } from "../records.ts";
import type { Change, StoredRecord } from "../store.ts";
import { isGone, type KubernetesApi } from "./api.ts";
import { asRecord, parseObject } from "./api-object.ts";
import { jitteredDelayMs } from "./back-off.ts";
import { listObjects } from "./list-objects.ts";
import { type Resource, toRecord } from "./resources.ts";

export interface ReflectorOptions<K extends Kind> {
  readonly api: KubernetesApi;
  readonly resource: Resource<K>;
  readonly logger: Logger;
}

/** The server ends a watch after about this long, and we begin the next where it ended. */
const WATCH_SECONDS = 300;

/**
 * One list-and-watch of a kind of object for all who watch it in this process. Keeps the last known state, so a new
 * watcher sees everything at once; survives disconnects, a server that restarts, and versions that the server has
 * forgotten (410: lists anew, and tells what differs).
 */
export class Reflector<K extends Kind> implements AsyncDisposable {
  readonly #options: ReflectorOptions<K>;
  readonly #abort = new AbortController();
  readonly #records = new Map<string, StoredRecord<K>>();
  readonly #watchers = new Set<Watcher<K>>();
  #listed = false;
  readonly #running: Promise<void>;

  constructor(options: ReflectorOptions<K>) {
    this.#options = options;
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  /** First every record there is, then each change, until `signal` aborts or the reflector is disposed. */
  async *watch(signal: AbortSignal): AsyncGenerator<Change<K>> {
    const watcher = new Watcher<K>(AbortSignal.any([signal, this.#abort.signal]));
    if (this.#listed) for (const record of this.#records.values()) watcher.add({ type: "put", record });
    this.#watchers.add(watcher);
    try {
      yield* watcher.changes();
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  async #run(): Promise<void> {
    const { resource, logger } = this.#options;
    const { signal } = this.#abort;
    let version: string | undefined;
    for (let failures = 0; !signal.aborted; ) {
      try {
        version ??= await this.#list();
        for await (const next of this.#follow(version)) {
          version = next;
          failures = 0;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (isGone(error)) version = undefined;
        else logger.warn({ kind: resource.kind, reason: messageOf(error) }, "watch interrupted");
        failures++;
      }
      // Also after an orderly end: a server that ends each watch at once must not be flooded.
      await sleep(jitteredDelayMs(failures), undefined, { signal }).catch(() => {});
    }
  }

  async #list(): Promise<string> {
    const { api, resource } = this.#options;
    const { items, resourceVersion } = await listObjects(api, resource.path, this.#abort.signal);
    const present = new Set<string>();
    for (const item of items) {
      const name = this.#put(item);
      if (name !== undefined) present.add(name);
    }
    for (const name of this.#records.keys()) if (!present.has(name)) this.#remove(name);
    this.#listed = true;
    return resourceVersion;
  }

  /** Each version reached. */
  async *#follow(resourceVersion: string): AsyncGenerator<string> {
    const { api, resource } = this.#options;
    const query = { resourceVersion, allowWatchBookmarks: "true", timeoutSeconds: String(WATCH_SECONDS) };
    for await (const { type, object } of api.watch(resource.path, query, this.#abort.signal)) {
      if (type === "ADDED" || type === "MODIFIED") this.#put(object);
      else if (type === "DELETED") this.#remove(parseObject(resource.apiKind, object).metadata.name);
      else if (type !== "BOOKMARK") throw new FamfsError("STORE_UNAVAILABLE", `watch: unknown event ${type}`);
      yield String(asRecord(asRecord(object)["metadata"])["resourceVersion"]);
    }
  }

  /** Its name; undefined when it is not a record, which must not blind us for all the others. */
  #put(object: unknown): string | undefined {
    const { resource, logger } = this.#options;
    let record: StoredRecord<K>;
    try {
      record = toRecord(resource, object);
    } catch (error) {
      logger.error({ kind: resource.kind, reason: messageOf(error) }, "an object that is no record is passed over");
      return undefined;
    }
    if (this.#records.get(record.name)?.resourceVersion !== record.resourceVersion) {
      this.#records.set(record.name, record);
      for (const watcher of this.#watchers) watcher.add({ type: "put", record });
    }
    return record.name;
  }

  #remove(name: string): void {
    if (!this.#records.delete(name)) return;
    for (const watcher of this.#watchers) watcher.add({ type: "deleted", name });
  }
}

/** What one watcher has not seen yet: of several changes to one record the last. */
class Watcher<K extends Kind> {
  readonly #signal: AbortSignal;
  readonly #pending = new Map<string, Change<K>>();
  #more = Promise.withResolvers<void>();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  add(change: Change<K>): void {
    const name = change.type === "put" ? change.record.name : change.name;
    this.#pending.delete(name); // so that it comes in order of its last change
    this.#pending.set(name, change);
    this.#more.resolve();
  }

  async *changes(): AsyncGenerator<Change<K>> {
    const stop = () => this.#more.resolve();
    this.#signal.addEventListener("abort", stop);
    try {
      while (!this.#signal.aborted) {
        const [next] = this.#pending;
        if (next !== undefined) {
          this.#pending.delete(next[0]);
          yield next[1];
          continue;
        }
        this.#more = Promise.withResolvers();
        await this.#more.promise;
      }
    } finally {
      this.#signal.removeEventListener("abort", stop);
    }
  }
}
