import { FamfsError } from "../base/index.ts";
import type { Kind } from "./records.ts";
import type { Shown, StoredRecord, Unreadable } from "./store.ts";

/** What feeds an informer. It is told of the state by steps, each from one moment to a later one. */
export interface InformerSource extends AsyncDisposable {
  /** Lists, in a list that begins after this call, and shows what differs. STORE_UNAVAILABLE. */
  resync(): Promise<void>;
}

export interface InformerSink<K extends Kind> {
  /** The first step, which may be empty, is all that there is. */
  show(step: readonly Shown<K>[]): void;
  /** All that there is at a later moment. */
  replace(state: readonly Shown<K>[]): void;
}

type Handler<K extends Kind> = (changes: readonly Shown<K>[]) => void;

/**
 * All records of one kind as this process saw them last: one list and one watch, however many ask. It may be behind the
 * store, but is always its state of some moment, and only moves forward, unless the store itself went back. A record
 * that cannot be read any more stays as it was when it last could.
 */
export class Informer<K extends Kind> implements AsyncDisposable {
  readonly kind: K;
  readonly #records = new Map<string, StoredRecord<K>>();
  readonly #unreadable = new Map<string, Unreadable>();
  readonly #handlers = new Set<Handler<K>>();
  readonly #synced = Promise.withResolvers<void>();
  readonly #source: InformerSource;

  constructor(kind: K, start: (sink: InformerSink<K>) => InformerSource) {
    this.kind = kind;
    this.#synced.promise.catch(() => undefined); // perhaps nobody waits for it
    this.#source = start({ show: (step) => this.#show(step), replace: (state) => this.#replace(state) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#handlers.clear();
    await this.#source[Symbol.asyncDispose]();
    this.#synced.reject(new FamfsError("STORE_UNAVAILABLE", "the store is closed"));
  }

  /** Returns when there is a first state, which may be older than the call. STORE_UNAVAILABLE when the store closes. */
  synced(): Promise<void> {
    return this.#synced.promise;
  }

  /**
   * Lists everything anew: a watch may be blind without anybody noticing. Returns when all that was acknowledged to
   * anybody before this call is here, and was shown. STORE_UNAVAILABLE.
   */
  resync(): Promise<void> {
    return this.#source.resync();
  }

  get size(): number {
    return this.#records.size;
  }

  get(name: string): StoredRecord<K> | undefined {
    return this.#records.get(name);
  }

  /** In no order. */
  list(): IterableIterator<StoredRecord<K>> {
    return this.#records.values();
  }

  /** Objects that are there and are no records. */
  unreadable(): IterableIterator<Unreadable> {
    return this.#unreadable.values();
  }

  /**
   * Shows what is known now, if anything is, and then each step, until disposal. Of several quick changes to one record
   * only the last may be shown. `handler` must not throw.
   */
  onChange(handler: Handler<K>): Disposable {
    const known = [
      ...[...this.#records.values()].map((record) => ({ type: "put", record }) as const),
      ...[...this.#unreadable.values()].map((each) => ({ ...each, type: "unreadable" }) as const),
    ];
    if (known.length > 0) handler(known);
    this.#handlers.add(handler);
    return { [Symbol.dispose]: () => void this.#handlers.delete(handler) };
  }

  /**
   * Asks `look` now and after each change, of the record `name` if one is given, until it answers something; undefined
   * when `signal` aborts. A `look` that reads the store sees what is at least as new as the change.
   */
  async until<T>(
    look: () => T | undefined | Promise<T | undefined>,
    { signal, name }: { readonly signal: AbortSignal; readonly name?: string },
  ): Promise<T | undefined> {
    let changed = Promise.withResolvers<void>();
    const wake = () => changed.resolve();
    const handler: Handler<K> = (changes) => {
      if (name === undefined || changes.some((change) => nameOf(change) === name)) wake();
    };
    this.#handlers.add(handler);
    signal.addEventListener("abort", wake);
    try {
      while (!signal.aborted) {
        changed = Promise.withResolvers();
        const found = await look();
        if (found !== undefined) return found;
        if (!signal.aborted) await changed.promise;
      }
      return undefined;
    } finally {
      signal.removeEventListener("abort", wake);
      this.#handlers.delete(handler);
    }
  }

  #replace(state: readonly Shown<K>[]): void {
    const present = new Set(state.map(nameOf));
    const known = new Set([...this.#records.keys(), ...this.#unreadable.keys()]);
    const gone = [...known].filter((name) => !present.has(name));
    this.#show([...gone.map((name) => ({ type: "deleted", name }) as const), ...state]);
  }

  #show(step: readonly Shown<K>[]): void {
    const changes = step.filter((change) => this.#takeOver(change));
    if (changes.length > 0) for (const handler of [...this.#handlers]) handler(changes);
    this.#synced.resolve();
  }

  /** Whether it is news. */
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
      case "unreadable": {
        const { type: _type, ...unreadable } = change;
        this.#unreadable.set(name, unreadable);
        return true;
      }
      case "deleted": {
        const wasUnreadable = this.#unreadable.delete(name);
        return this.#records.delete(name) || wasUnreadable;
      }
      default:
        return change satisfies never;
    }
  }
}

export function nameOf<K extends Kind>(change: Shown<K>): string {
  return change.type === "put" ? change.record.name : change.name;
}
