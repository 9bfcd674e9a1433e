import { FamfsError, MIB } from "../base/index.ts";
import type { StoredRecord } from "../state/index.ts";
import type { ControllerContext } from "./context.ts";

export interface Page {
  readonly volumes: readonly StoredRecord<"volumes">[];
  /** Empty on the last page. */
  readonly nextToken: string;
}

const MAX_PAGE = 2_000;
/** Keeps an answer within what a client receives by default (4 MiB), also where volumes are on many nodes. */
const MAX_PAGE_BYTES = 2 * MIB;
/** Of an entry without what varies. */
const ENTRY_BYTES = 256;
const TOKEN_PREFIX = "after.";

/**
 * Volumes in order of name. A token says after which name a page begins, so volumes that come and go between two pages
 * move nothing. INVALID_PAGE_TOKEN.
 */
export function listVolumes({ volumes: view }: ControllerContext, maxEntries: number, token: string): Page {
  if (maxEntries < 0) throw new FamfsError("INVALID_ARGUMENT", `max_entries is ${maxEntries}, it cannot be negative`);
  const after = parseToken(token);
  const size = Math.min(maxEntries === 0 ? MAX_PAGE : maxEntries, MAX_PAGE);
  const volumes: StoredRecord<"volumes">[] = [];
  let bytes = 0;
  for (const volume of view.after(after)) {
    if (volume.phase !== "Ready") continue;
    const last = volumes.at(-1);
    bytes += bytesOf(volume);
    if ((volumes.length === size || bytes > MAX_PAGE_BYTES) && last !== undefined) {
      return { volumes, nextToken: TOKEN_PREFIX + Buffer.from(last.name).toString("base64url") };
    }
    volumes.push(volume);
  }
  return { volumes, nextToken: "" };
}

/** About as long as its entry. */
function bytesOf({ published, conditions }: StoredRecord<"volumes">): number {
  const texts = [...Object.keys(published), ...conditions.map(({ message }) => message)];
  return texts.reduce((sum, text) => sum + text.length, ENTRY_BYTES);
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
