import { setTimeout as sleep } from "node:timers/promises";
import { hasCode } from "../base/index.ts";
import type { Informer } from "./informer.ts";
import type { Kind, Records, Stored } from "./records.ts";

export type StoredRecord<K extends Kind> = Records[K] & Stored;

export type Change<K extends Kind> =
  | { readonly type: "put"; readonly record: StoredRecord<K> }
  | { readonly type: "deleted"; readonly name: string };

/** A record that is there and is none: a newer version wrote it, or somebody edited it. */
export interface Unreadable {
  readonly name: string;
  readonly reason: string;
  /** Of a volume: the devices that its regions are on; undefined when not even that can be read. */
  readonly devices: readonly string[] | undefined;
}

/** A change as an informer shows it. What cannot be read is said too: it may be in the way of something. */
export type Shown<K extends Kind> = Change<K> | ({ readonly type: "unreadable" } & Unreadable);

export interface Listed<K extends Kind> {
  readonly records: StoredRecord<K>[];
  readonly unreadable: readonly Unreadable[];
}

/**
 * Where records live. Two implementations pass one conformance suite (store-conformance.ts): the embedded one (SQLite)
 * and the Kubernetes API. Errors: CONFLICT (the record changed or exists), STORE_UNAVAILABLE; a missing record is
 * undefined. What was acknowledged survives the death of the process.
 */
export interface Store extends AsyncDisposable {
  get<K extends Kind>(kind: K, name: string): Promise<StoredRecord<K> | undefined>;
  /** In order of name. What cannot be read is passed over: one bad record must not stop everybody. */
  list<K extends Kind>(kind: K): Promise<StoredRecord<K>[]>;
  /** For those who must not go on without knowing everything. */
  listAll<K extends Kind>(kind: K): Promise<Listed<K>>;
  /** CONFLICT when `name` exists. */
  create<K extends Kind>(kind: K, name: string, record: Records[K]): Promise<StoredRecord<K>>;
  /** Replaces the whole record if it is still at `record.resourceVersion`, otherwise (or when it is gone) CONFLICT. */
  replace<K extends Kind>(kind: K, record: StoredRecord<K>): Promise<StoredRecord<K>>;
  /** CONFLICT when it is no longer at `resourceVersion`; no error when it is gone already. */
  delete(kind: Kind, name: string, resourceVersion: string): Promise<void>;
  /** The one of this process for the kind; it lives as long as the store, and outlives disconnects. */
  informer<K extends Kind>(kind: K): Informer<K>;
}

/** How often a compare-and-swap is tried again: each loss means that somebody else went forward. */
const UPDATE_ATTEMPTS = 20;

/**
 * Reads, changes and replaces a record until no other writer came in between. `change` answers undefined to leave it
 * as it is; it may be called several times, and what it reads itself is newer than the record. Undefined when the
 * record does not exist (any more).
 */
export async function updateRecord<K extends Kind>(
  store: Store,
  kind: K,
  name: string,
  change: (record: StoredRecord<K>) => StoredRecord<K> | undefined | Promise<StoredRecord<K> | undefined>,
): Promise<StoredRecord<K> | undefined> {
  for (let attempt = 1; ; attempt++) {
    const record = await store.get(kind, name);
    if (record === undefined) return undefined;
    const changed = await change(record);
    if (changed === undefined) return record;
    try {
      return await store.replace(kind, changed);
    } catch (error) {
      if (!hasCode(error, "CONFLICT") || attempt === UPDATE_ATTEMPTS) throw error;
      await sleep(Math.random() * attempt);
    }
  }
}

/** What `Unreadable.devices` says of raw regions, whatever they are. */
export function devicesIn(regions: unknown): readonly string[] | undefined {
  if (!Array.isArray(regions)) return undefined;
  const devices = regions.map((region: unknown) =>
    typeof region === "object" && region !== null && "deviceUuid" in region ? region.deviceUuid : undefined,
  );
  return devices.every((device) => typeof device === "string") ? devices : undefined;
}
