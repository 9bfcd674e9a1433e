import type { Clock, Forgettable, KernelCaches } from "./ports.ts";

/** The longest a take-over waits for notifications; the kernel may hold one back for a request of ours. */
const DELIVERY_MS = 250;

/**
 * What the kernel is told to forget. Nobody waits for it: the kernel may answer such a notification only after a
 * request that waits for us (design 6). In a directory with an operation pending, it is sent after the reply,
 * because the kernel holds that directory's lock until then and would stop the thread that notifies.
 */
export class Invalidations {
  readonly #clock: Clock;
  #caches: KernelCaches | undefined;
  readonly #busy = new Map<number, number>();
  readonly #deferred = new Map<number, Forgettable[]>();
  /** Set while one look at the log goes on: what it finds is sent together, and each thing once. */
  #gathered: Map<string, Forgettable> | undefined;
  readonly #underWay = new Set<Promise<void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
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

  /** Until it is disposed of, what is to be forgotten is kept, to be sent together. Not to be held over an await. */
  gather(): Disposable {
    if (this.#gathered !== undefined) return { [Symbol.dispose]: () => {} };
    const gathered = new Map<string, Forgettable>();
    this.#gathered = gathered;
    return {
      [Symbol.dispose]: () => {
        this.#gathered = undefined;
        // Old names first: while the kernel knows one of a moved file, it takes a rename to the new one for no change.
        const removals = (each: Forgettable) => Number(each.type === "removed");
        this.#send([...gathered.values()].toSorted((a, b) => removals(a) - removals(b)));
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
    this.#later(parent, { type: "name", parent, name });
  }

  /** Also forgets the name. */
  removed(parent: number, nodeid: number, name: string): void {
    this.#later(parent, { type: "removed", parent, nodeid, name });
  }

  attributes(nodeid: number): void {
    this.#forget({ type: "attributes", nodeid });
  }

  /** Attributes and all pages. */
  content(nodeid: number): void {
    this.#forget({ type: "content", nodeid });
  }

  #later(directory: number, what: Forgettable): void {
    if (!this.#busy.has(directory)) {
      this.#forget(what);
      return;
    }
    const list = this.#deferred.get(directory) ?? [];
    list.push(what);
    this.#deferred.set(directory, list);
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
    this.#send(list);
  }

  #forget(what: Forgettable): void {
    if (this.#caches === undefined) return;
    if (this.#gathered === undefined) {
      this.#send([what]);
      return;
    }
    const key = keyOf(what);
    const before = this.#gathered.get(key);
    // To forget the content is to forget the attributes, too; a removal says more than a name.
    if (before?.type === "content" || (before?.type === "removed" && what.type === "name")) return;
    this.#gathered.set(key, what);
  }

  #send(what: readonly Forgettable[]): void {
    if (this.#caches === undefined || what.length === 0) return;
    const sent = this.#caches.forget(what).finally(() => this.#underWay.delete(sent));
    this.#underWay.add(sent);
  }
}

function keyOf(what: Forgettable): string {
  return what.type === "name" || what.type === "removed" ? `${what.parent}/${what.name}` : `${what.nodeid}`;
}
