import { hasCode } from "../../base/index.ts";
import type { KubernetesApi } from "./api.ts";
import { type ApiObject, parseObject } from "./api-object.ts";
import { listObjects } from "./list-objects.ts";

const ATTEMPTS = 5;

export interface FinalizerChange {
  /** Collection path on the API server. */
  readonly path: string;
  readonly apiKind: string;
  /** Which objects; default all. */
  readonly matches?: (object: ApiObject) => boolean;
  /** The new list; the same one leaves the object as it is. */
  readonly change: (finalizers: readonly string[]) => readonly string[];
}

/** Changes finalizers object by object and answers how many it changed. Safe to repeat. CONFLICT, STORE_UNAVAILABLE. */
export async function changeFinalizers(api: KubernetesApi, wanted: FinalizerChange): Promise<number> {
  const { path, apiKind } = wanted;
  // Of all objects only those are kept that are to change: usually none.
  const parse = (item: unknown) => {
    const object = parseObject(apiKind, item);
    return newFinalizers(wanted, object) === undefined ? [] : [object];
  };
  let changed = 0;
  for (const object of (await listObjects(api, { path, parse })).items.flat()) {
    if (await changeOne(api, wanted, object)) changed++;
  }
  return changed;
}

/** Undefined when the object stays as it is. */
function newFinalizers({ matches, change }: FinalizerChange, object: ApiObject): readonly string[] | undefined {
  const { finalizers } = object.metadata;
  const rest = change(finalizers);
  const same = rest.length === finalizers.length && rest.every((each) => finalizers.includes(each));
  return same || matches?.(object) === false ? undefined : rest;
}

async function changeOne(api: KubernetesApi, wanted: FinalizerChange, listed: ApiObject): Promise<boolean> {
  const path = `${wanted.path}/${encodeURIComponent(listed.metadata.name)}`;
  for (let object = listed, attempt = 1; ; attempt++) {
    const { name, resourceVersion } = object.metadata;
    const finalizers = newFinalizers(wanted, object);
    if (finalizers === undefined) return false;
    try {
      await api.request({
        method: "PATCH",
        path,
        contentType: "application/merge-patch+json",
        body: { metadata: { name, resourceVersion, finalizers } },
      });
      return true;
    } catch (error) {
      if (!hasCode(error, "CONFLICT") || attempt === ATTEMPTS) throw error;
    }
    const now = await api.request({ method: "GET", path });
    if (now === undefined) return false;
    object = parseObject(wanted.apiKind, now);
  }
}
