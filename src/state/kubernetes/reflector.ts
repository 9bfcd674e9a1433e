import { setTimeout as sleep } from "node:timers/promises";
import { FamfsError, type Logger, messageOf } from "../../base/index.ts";
import type { InformerSink, InformerSource } from "../informer.ts";
import type { Kind } from "../records.ts";
import type { Shown } from "../store.ts";
import { isGone, isSilent, type KubernetesApi } from "./api.ts";
import { asRecord, parseObject } from "./api-object.ts";
import { jitteredDelayMs } from "./back-off.ts";
import { listObjects } from "./list-objects.ts";
import { type Resource, readRecord } from "./resources.ts";

export interface ReflectorOptions<K extends Kind> {
  readonly api: Pick<KubernetesApi, "request" | "watch">;
  readonly resource: Resource<K>;
  readonly sink: InformerSink<K>;
  readonly logger: Logger;
}

/** The server ends a watch after about this long, and we begin the next where it ended. */
const WATCH_SECONDS = 300;

/**
 * List-and-watch of a kind of object, for its informer. Survives disconnects, a server that restarts, and versions that
 * the server has forgotten (410: lists anew) or does not have yet (a restored etcd: silence, and lists anew).
 *
 * The server sends the changes of one kind in the order in which they were made, and a list is the state of one moment.
 * So what is shown are steps from moment to moment.
 */
export class Reflector<K extends Kind> implements InformerSource {
  readonly #options: ReflectorOptions<K>;
  readonly #abort = new AbortController();
  /** Lists that were asked for, counted: all; those asked for before a list last began; those answered. */
  #asked = 1;
  #begun = 0;
  #answered = 0;
  #listed = Promise.withResolvers<void>();
  #stopWatch = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: ReflectorOptions<K>) {
    this.#options = options;
    // Not in this call: the sink belongs to an informer that is still being made.
    this.#running = Promise.resolve().then(() => this.#run());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    this.#listed.resolve();
    await this.#running;
  }

  /** The watch goes on from the list. */
  async resync(): Promise<void> {
    // Also before the first list has begun: that may be answered from a cache.
    if (this.#begun === this.#asked || this.#asked === 1) {
      this.#asked++;
      this.#stopWatch.abort();
    }
    const wanted = this.#asked;
    while (this.#answered < wanted) {
      await this.#listed.promise;
      if (this.#abort.signal.aborted) throw new FamfsError("STORE_UNAVAILABLE", "the store is closed");
    }
  }

  async #run(): Promise<void> {
    const { resource, logger } = this.#options;
    const { signal } = this.#abort;
    let version: string | undefined;
    for (let failures = 0; !signal.aborted; ) {
      this.#stopWatch = new AbortController();
      try {
        while (version === undefined || this.#answered < this.#asked) version = await this.#list();
        for await (const next of this.#follow(version, AbortSignal.any([signal, this.#stopWatch.signal]))) {
          version = next;
          failures = 0;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (isGone(error) || isSilent(error)) version = undefined;
        if (!isGone(error) && !this.#stopWatch.signal.aborted) {
          logger.warn({ kind: resource.kind, reason: messageOf(error) }, "watch interrupted");
        }
        failures++;
      }
      if (this.#stopWatch.signal.aborted && this.#answered < this.#asked) continue;
      // Also after an orderly end: a server that ends each watch at once must not be flooded.
      await sleep(jitteredDelayMs(failures), undefined, { signal }).catch(() => {});
    }
  }

  async #list(): Promise<string> {
    const { api, resource, sink } = this.#options;
    const asked = this.#asked;
    this.#begun = asked;
    const { items, resourceVersion } = await listObjects(api, {
      path: resource.path,
      parse: (object) => this.#read(object),
      // Nothing is known yet that could be newer, and nobody asked for more than a beginning.
      fromCache: this.#answered === 0 && asked === 1,
      signal: this.#abort.signal,
    });
    sink.replace(items);
    this.#answered = asked;
    this.#listed.resolve();
    this.#listed = Promise.withResolvers();
    return resourceVersion;
  }

  /** Each version reached. */
  async *#follow(resourceVersion: string, signal: AbortSignal): AsyncGenerator<string> {
    const { api, resource, sink } = this.#options;
    const query = { resourceVersion, allowWatchBookmarks: "true", timeoutSeconds: String(WATCH_SECONDS) };
    for await (const { type, object } of api.watch(resource.path, query, signal)) {
      // What a stopped watch still had is in the list that follows.
      if (signal.aborted) return;
      if (type === "ADDED" || type === "MODIFIED") sink.show([this.#read(object)]);
      else if (type === "DELETED") {
        sink.show([{ type: "deleted", name: parseObject(resource.apiKind, object).metadata.name }]);
      } else if (type !== "BOOKMARK") throw new FamfsError("STORE_UNAVAILABLE", `watch: unknown event ${type}`);
      yield String(asRecord(asRecord(object)["metadata"])["resourceVersion"]);
    }
  }

  /** An object that is no record must not blind us for all the others. */
  #read(object: unknown): Shown<K> {
    const { resource, logger } = this.#options;
    const record = readRecord(resource, object);
    if ("resourceVersion" in record) return { type: "put", record };
    logger.error({ kind: resource.kind, reason: record.reason }, "an object that is no record is passed over");
    return { type: "unreadable", ...record };
  }
}
