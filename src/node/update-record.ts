import { setTimeout as delay } from "node:timers/promises";
import { FamfsError, hasCode } from "../base/index.ts";
import type { Kind, Records, Store, StoredRecord } from "../state/index.ts";

const ATTEMPTS = 30;

/**
 * Changes a record by compare-and-swap, over and over until nobody else was faster. `change` gets the record as it is
 * and returns what it should be, or undefined to leave it. Undefined when there is no such record.
 */
export async function updateRecord<K extends Kind>(
  store: Store,
  kind: K,
  name: string,
  change: (record: StoredRecord<K>) => Records[K] | undefined,
): Promise<StoredRecord<K> | undefined> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const record = await store.get(kind, name);
    if (record === undefined) return undefined;
    const changed = change(record);
    if (changed === undefined) return record;
    try {
      return await store.replace(kind, { ...record, ...changed });
    } catch (error) {
      if (!hasCode(error, "CONFLICT")) throw error;
      await delay(Math.random() * 5 * (attempt + 1));
    }
  }
  throw new FamfsError("CONFLICT", `${kind} ${name} changed ${ATTEMPTS} times while it was to be updated`);
}
