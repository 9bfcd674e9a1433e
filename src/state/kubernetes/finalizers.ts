import { hasCode } from "../../base/index.ts";
import type { KubernetesApi } from "./api.ts";
import { type ApiObject, asRecord, parseObject } from "./api-object.ts";

/** Objects per request: what is held at a time stays small however many there are. */
const PAGE = "200";
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
  let changed = 0;
  for (let next = ""; ; ) {
    const query = next === "" ? { limit: PAGE } : { limit: PAGE, continue: next };
    const page = asRecord(await api.request({ method: "GET", path: wanted.path, query }));
    for (const item of Array.isArray(page["items"]) ? page["items"] : []) {
      if (await changeOne(api, wanted, parseObject(wanted.apiKind, item))) changed++;
    }
    const { continue: more } = asRecord(page["metadata"]);
    if (typeof more !== "string" || more === "") return changed;
    next = more;
  }
}

async function changeOne(api: KubernetesApi, wanted: FinalizerChange, listed: ApiObject): Promise<boolean> {
  const path = `${wanted.path}/${encodeURIComponent(listed.metadata.name)}`;
  for (let object = listed, attempt = 1; ; attempt++) {
    const { name, resourceVersion, finalizers } = object.metadata;
    const rest = wanted.change(finalizers);
    const same = rest.length === finalizers.length && rest.every((each) => finalizers.includes(each));
    if (same || wanted.matches?.(object) === false) return false;
    try {
      await api.request({
        method: "PATCH",
        path,
        contentType: "application/merge-patch+json",
        body: { metadata: { name, resourceVersion, finalizers: rest } },
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
