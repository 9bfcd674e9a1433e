import type { Logger } from "../base/index.ts";
import type { Clock, KernelCaches } from "./ports.ts";

/** The longest a take-over waits for notifications; the kernel may hold one back for a request of ours. */
const DELIVERY_MS = 250;

/**
 * What the kernel is told to forget. Nobody waits for it: the kernel may answer such a notification only after a
 * request that waits for us (design 6). In a directory with an operation pending, it is sent after the reply,
 * because the kernel holds that directory's lock until then and would stop the thread that notifies.
 */
export class Invalidations {
  readonly #clock: Clock;
  readonly #logger: Logger;
  #caches: KernelCaches | undefined;
  readonly #busy = new Map<number, number>();
  readonly #deferred = new Map<number, (() => void)[]>();
  readonly #underWay = new Set<Promise<void>>();

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Before there is a kernel, there is nothing to forget. */
  attach(caches: KernelCaches): void {
    this.#caches = caches;
  }

  /** While disposed of, `directories` have an operation pending. */
  pending(directories: readonly number[]): Disposable {
    for (const nodeid of directories) this.#busy.set(nodeid, (this.#busy.get(nodeid) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        // Not before the reply has been handed to the kernel.
        this.#clock.schedule(0, () => {
          for (const nodeid of directories) this.#leave(nodeid);
        });
      },
    };
  }

  /**
   * Resolves when the kernel has forgotten what it was told to forget so far, so that whoever waited for a take-over
   * sees what other nodes did before it. What cannot be delivered before the reply is covered by doubting all names.
   */
  async delivered(): Promise<void> {
    const late = this.#underWay.size > 0 && !(await this.#allDelivered());
    if (late || this.#deferred.size > 0) this.#caches?.doubtNames();
  }

  async #allDelivered(): Promise<boolean> {
    const { promise: timeout, resolve } = Promise.withResolvers<boolean>();
    using _timer = this.#clock.schedule(DELIVERY_MS, () => resolve(false));
    return await Promise.race([Promise.all(this.#underWay).then(() => true), timeout]);
  }

  name(parent: number, name: string): void {
    this.#later(parent, (caches) => caches.invalidateEntry(parent, name));
  }

  removed(parent: number, nodeid: number, name: string): void {
    this.#later(parent, (caches) => caches.notifyDelete(parent, nodeid, name));
  }

  attributes(nodeid: number): void {
    this.#send((caches) => caches.invalidateInode(nodeid, 0, -1));
  }

  /** Attributes and all pages. */
  content(nodeid: number): void {
    this.#send((caches) => caches.invalidateInode(nodeid, 0, 0));
  }

  #later(directory: number, notify: (caches: KernelCaches) => Promise<void>): void {
    if (this.#busy.has(directory)) {
      const list = this.#deferred.get(directory) ?? [];
      list.push(() => this.#send(notify));
      this.#deferred.set(directory, list);
    } else this.#send(notify);
  }

  #leave(directory: number): void {
    const left = (this.#busy.get(directory) ?? 1) - 1;
    if (left > 0) {
      this.#busy.set(directory, left);
      return;
    }
    this.#busy.delete(directory);
    const list = this.#deferred.get(directory) ?? [];
    this.#deferred.delete(directory);
    for (const send of list) send();
  }

  #send(notify: (caches: KernelCaches) => Promise<void>): void {
    if (this.#caches === undefined) return;
    const sent = notify(this.#caches)
      .catch((error: unknown) => {
        this.#logger.debug({ err: error }, "the kernel did not take an invalidation");
      })
      .finally(() => this.#underWay.delete(sent));
    this.#underWay.add(sent);
  }
}
