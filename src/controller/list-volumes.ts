import { FamfsError } from "../base/index.ts";
import type { StoredRecord } from "../state/index.ts";
import type { ControllerContext } from "./context.ts";

export interface Page {
  readonly volumes: readonly StoredRecord<"volumes">[];
  /** Empty on the last page. */
  readonly nextToken: string;
}

/** Keeps an answer within what a client receives by default (4 MiB). */
const MAX_PAGE = 2_000;
const TOKEN_PREFIX = "after.";

/**
 * Volumes in order of name. A token says after which name a page begins, so volumes that come and go between two pages
 * move nothing. INVALID_PAGE_TOKEN.
 */
export async function listVolumes({ store }: ControllerContext, maxEntries: number, token: string): Promise<Page> {
  if (maxEntries < 0) throw new FamfsError("INVALID_ARGUMENT", `max_entries is ${maxEntries}, it cannot be negative`);
  const after = parseToken(token);
  const size = Math.min(maxEntries === 0 ? MAX_PAGE : maxEntries, MAX_PAGE);
  const rest = (await store.list("volumes")).filter(({ phase, name }) => phase === "Ready" && name > after);
  const volumes = rest.slice(0, size);
  const last = volumes.at(-1);
  const more = rest.length > size && last !== undefined;
  return { volumes, nextToken: more ? TOKEN_PREFIX + Buffer.from(last.name).toString("base64url") : "" };
}

function parseToken(token: string): string {
  if (token === "") return "";
  const encoded = token.startsWith(TOKEN_PREFIX) ? token.slice(TOKEN_PREFIX.length) : "";
  const name = Buffer.from(encoded, "base64url").toString();
  if (name === "" || Buffer.from(name).toString("base64url") !== encoded) {
    throw new FamfsError(
      "INVALID_PAGE_TOKEN",
      `starting_token "${token}" is none that ListVolumes gave; begin again without`,
    );
  }
  return name;
}
