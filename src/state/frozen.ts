import type { FamfsDevice } from "./records.ts";
import { type Store, updateRecord } from "./store.ts";

/*
 * A store that was restored from a backup has forgotten what came after it: volumes, deletions, who has what mounted. A
 * driver that believes it erases memory that is another volume's by now, and takes mounts away from pods. It is noticed
 * by the revision of a device's record, which the leading controller raises every few seconds: the memory remembers the
 * highest one that a node has seen, and a controller the one that it wrote last. Until a person has made the lost
 * records again (`device rebuild`) the device is frozen: nothing on it is erased or given up (docs/decisions/0016).
 */

/** How often the leading controller raises the revision: what is younger than a backup by less is not noticed. */
export const RAISE_MS = 10_000;

export function revisionOf({ revision }: FamfsDevice): number {
  return revision ?? 0;
}

/** Says so in the record, where everybody looks; the first reason stays. Answers what the record says then. */
export async function freeze(store: Store, deviceUuid: string, reason: string): Promise<string> {
  const record = await updateRecord(store, "devices", deviceUuid, (found) =>
    found.frozen === undefined ? { ...found, frozen: { since: new Date().toISOString(), reason } } : undefined,
  );
  return record?.frozen?.reason ?? reason;
}
