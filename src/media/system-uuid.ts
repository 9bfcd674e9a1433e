import { readFile } from "node:fs/promises";

/** Where the stock tools keep the UUID of this host (format 8). */
const FILE = "/opt/famfs/system_uuid";

/**
 * The UUID by which the stock tools know this host, as text; undefined when they have not given it one or it cannot be
 * read. The host whose UUID a stock superblock carries is the one that appends to its log.
 */
export async function readSystemUuid(file: string = FILE): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(file, "latin1");
  } catch {
    return undefined;
  }
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/i.exec(text)?.[0].toLowerCase();
}
