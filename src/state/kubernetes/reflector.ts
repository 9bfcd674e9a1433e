import { setTimeout as sleep } from "node:timers/promises";
import { FamfsError, type Logger, messageOf } from "../../base/index.ts";
import type { Kind } from "../records.ts";
import type { Change, Following, Shown, StoredRecord, Unreadable } from "../store.ts";
import { isGone, isSilent, type KubernetesApi } from "./api.ts";
import { asRecord, parseObject } from "./api-object.ts";
import { jitteredDelayMs } from "./back-off.ts";
import { listObjects } from "./list-objects.ts";
import { type Resource, readRecord } from "./resources.ts";

export interface ReflectorOptions<K extends Kind> {
  readonly api: Pick<KubernetesApi, "request" | "watch">;
  readonly resource: Resource<K>;
  readonly logger: Logger;
}

/** The server ends a watch after about this long, and we begin the next where it ended. */
const WATCH_SECONDS = 300;

/**
 * One list-and-watch of a kind of object for all who watch it in this process. Keeps the last known state, so a new
 * watcher sees everything at once; survives disconnects, a server that restarts, and versions that the server has
 * forgotten (410: lists anew, and tells what differs) or does not have yet (a restored etcd: silence, and lists anew).
 *
 * The server sends the changes of one kind in the order in which they were made, and a list is the state of one moment.
 * So what is kept is always the state of some moment, and it only moves forward, unless the server itself went back.
 */
export class Reflector<K extends Kind> implements AsyncDisposable {
  readonly #options: ReflectorOptions<K>;
  readonly #abort = new AbortController();
  readonly #records = new Map<string, StoredRecord<K>>();
  readonly #unreadable = new Map<string, Unreadable>();
  readonly #watchers = new Set<Watcher<K>>();
  readonly #followers = new Set<(changes: readonly Shown<K>[]) => void>();
  /** Lists that were asked for, counted: all; those asked for before a list last began; those answered. */
  #asked = 1;
  #begun = 0;
  #answered = 0;
  #listed = Promise.withResolvers<void>();
  #stopWatch = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: ReflectorOptions<K>) {
    this.#options = options;
    // Not in this call: whoever makes it may still ask for the list that it begins with.
    this.#running = Promise.resolve().then(() => this.#run());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    this.#listed.resolve();
    await this.#running;
  }

  /** First every record there is, then each change, until `signal` aborts or the reflector is disposed. */
  async *watch(signal: AbortSignal): AsyncGenerator<Change<K>> {
    const watcher = new Watcher<K>(AbortSignal.any([signal, this.#abort.signal]));
    if (this.#answered > 0) for (const record of this.#records.values()) watcher.add({ type: "put", record });
    this.#watchers.add(watcher);
    try {
      yield* watcher.changes();
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  async follow(show: (changes: readonly Shown<K>[]) => void): Promise<Following> {
    await this.#untilAnswered(1);
    show([
      ...[...this.#records.values()].map((record) => ({ type: "put", record }) as const),
      ...[...this.#unreadable.values()].map((each) => ({ ...each, type: "unreadable" }) as const),
    ]);
    this.#followers.add(show);
    return {
      refresh: () => this.resync(),
      [Symbol.asyncDispose]: async () => void this.#followers.delete(show),
    };
  }

  /**
   * Lists anew, in a list that begins after this call; the watch goes on from there. Returns when what differs was
   * shown: a watch may be blind without anybody noticing.
   */
  async resync(): Promise<void> {
    if (this.#begun === this.#asked) {
      this.#asked++;
      this.#stopWatch.abort();
    }
    await this.#untilAnswered(this.#asked);
  }

  async #untilAnswered(wanted: number): Promise<void> {
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
    const { api, resource } = this.#options;
    const asked = this.#asked;
    this.#begun = asked;
    const { items, resourceVersion } = await listObjects(api, {
      path: resource.path,
      parse: (object) => this.#read(object),
      // Nothing is known yet that could be newer, and nobody asked for more than a beginning.
      fromCache: this.#answered === 0 && asked === 1,
      signal: this.#abort.signal,
    });
    const present = new Set(items.map(nameOf));
    const gone = [...new Set([...this.#records.keys(), ...this.#unreadable.keys()])].filter(
      (name) => !present.has(name),
    );
    this.#show([...gone.map((name) => ({ type: "deleted", name }) as const), ...items]);
    this.#answered = asked;
    this.#listed.resolve();
    this.#listed = Promise.withResolvers();
    return resourceVersion;
  }

  /** Each version reached. */
  async *#follow(resourceVersion: string, signal: AbortSignal): AsyncGenerator<string> {
    const { api, resource } = this.#options;
    const query = { resourceVersion, allowWatchBookmarks: "true", timeoutSeconds: String(WATCH_SECONDS) };
    for await (const { type, object } of api.watch(resource.path, query, signal)) {
      // What a stopped watch still had is in the list that follows.
      if (signal.aborted) return;
      if (type === "ADDED" || type === "MODIFIED") this.#show([this.#read(object)]);
      else if (type === "DELETED") {
        this.#show([{ type: "deleted", name: parseObject(resource.apiKind, object).metadata.name }]);
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

  /** Takes over what is new in a step from one moment to a later one, and shows it. */
  #show(step: readonly Shown<K>[]): void {
    const changes = step.filter((change) => this.#takeOver(change));
    if (changes.length === 0) return;
    for (const show of this.#followers) show(changes);
    for (const change of changes) {
      if (change.type !== "unreadable") for (const watcher of this.#watchers) watcher.add(change);
    }
  }

  #takeOver(change: Shown<K>): boolean {
    const name = nameOf(change);
    switch (change.type) {
      case "put": {
        const { record } = change;
        const wasUnreadable = this.#unreadable.delete(name);
        if (!wasUnreadable && this.#records.get(name)?.resourceVersion === record.resourceVersion) return false;
        this.#records.set(name, record);
        return true;
      }
      case "unreadable":
        this.#unreadable.set(name, change);
        return true;
      case "deleted": {
        const wasUnreadable = this.#unreadable.delete(name);
        return this.#records.delete(name) || wasUnreadable;
      }
      default:
        return change satisfies never;
    }
  }
}

function nameOf<K extends Kind>(change: Shown<K>): string {
  return change.type === "put" ? change.record.name : change.name;
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
    const name = nameOf(change);
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
