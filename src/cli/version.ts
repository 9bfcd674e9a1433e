import { readFileSync } from "node:fs";

/** The version of package.json: the one place it stands. */
export const VERSION = String(
  (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: unknown }).version,
);
