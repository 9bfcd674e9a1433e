import type { Kind, Records, Stored } from "./records.ts";

export type StoredRecord<K extends Kind> = Records[K] & Stored;

export type Change<K extends Kind> =
  | { readonly type: "put"; readonly record: StoredRecord<K> }
  | { readonly type: "deleted"; readonly name: string };

/**
 * Where records live. Two implementations pass one conformance suite: the embedded one (SQLite) and the Kubernetes
 * API. Errors: CONFLICT (the record changed or exists), STORE_UNAVAILABLE; a missing record is undefined.
 */
export interface Store extends AsyncDisposable {
  get<K extends Kind>(kind: K, name: string): Promise<StoredRecord<K> | undefined>;
  /** In order of name. */
  list<K extends Kind>(kind: K): Promise<StoredRecord<K>[]>;
  /** CONFLICT when `name` exists. */
  create<K extends Kind>(kind: K, name: string, record: Records[K]): Promise<StoredRecord<K>>;
  /** Replaces the whole record if it is still at `record.resourceVersion`, otherwise CONFLICT. */
  replace<K extends Kind>(kind: K, record: StoredRecord<K>): Promise<StoredRecord<K>>;
  /** CONFLICT when it is no longer at `resourceVersion`; no error when it is gone already. */
  delete(kind: Kind, name: string, resourceVersion: string): Promise<void>;
  /** First every record there is, then each change, until `signal` aborts. Survives disconnects. */
  watch<K extends Kind>(kind: K, signal: AbortSignal): AsyncIterable<Change<K>>;
}
