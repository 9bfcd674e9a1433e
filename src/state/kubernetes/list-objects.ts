import { FamfsError } from "../../base/index.ts";
import { isGone, type KubernetesApi } from "./api.ts";
import { asRecord } from "./api-object.ts";

/** Objects per request: keeps answers of a large cluster to some megabytes. */
const PAGE = "500";

export interface ObjectList {
  readonly items: readonly unknown[];
  /** Of the whole list, which is one state at one moment, however many pages it took. */
  readonly resourceVersion: string;
}

/** Everything under `path`, as of now. */
export async function listObjects(api: KubernetesApi, path: string, signal?: AbortSignal): Promise<ObjectList> {
  const items: unknown[] = [];
  for (let position: string | undefined, restarts = 0; ; ) {
    let page: Record<string, unknown>;
    try {
      page = asRecord(
        await api.request({
          method: "GET",
          path,
          query: position === undefined ? { limit: PAGE } : { limit: PAGE, continue: position },
          ...(signal === undefined ? {} : { signal }),
        }),
      );
    } catch (error) {
      // The state that the first page was of has been compacted away.
      if (!isGone(error) || ++restarts > 3) throw error;
      items.length = 0;
      position = undefined;
      continue;
    }
    const { continue: next, resourceVersion } = asRecord(page["metadata"]);
    if (!Array.isArray(page["items"])) throw new FamfsError("STORE_UNAVAILABLE", `${path}: the answer is not a list`);
    items.push(...page["items"]);
    if (typeof next !== "string" || next === "") return { items, resourceVersion: String(resourceVersion) };
    position = next;
  }
}
