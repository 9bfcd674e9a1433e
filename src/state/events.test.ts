import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type Logger, silentLogger } from "../base/index.ts";
import { EVENT_REASONS, type EventRow } from "./event-reasons.ts";
import { loggedEvents } from "./events.ts";

test("without a cluster an event is one line of the log, with the way out; the same one again is not", () => {
  const lines: object[] = [];
  const log = (level: string) => (fields: object, text: string) => void lines.push({ level, ...fields, text });
  const logger: Logger = { ...silentLogger, info: log("info"), warn: log("warn") };
  const events = loggedEvents(logger);
  const died = { reason: "FuseServerDied", volumeId: "v1", message: "the FUSE server of node a died" } as const;
  events.record(died);
  events.record(died);
  events.record({ ...died, volumeId: "v2" });
  events.record({ reason: "VolumeHealthy", volumeId: "v1", message: "served again" });
  const text = `${died.message}; ${EVENT_REASONS.FuseServerDied.wayOut}`;
  assert.deepEqual(lines, [
    { level: "warn", event: "FuseServerDied", volumeId: "v1", text },
    { level: "warn", event: "FuseServerDied", volumeId: "v2", text },
    { level: "info", event: "VolumeHealthy", volumeId: "v1", text: "served again" },
  ]);
});

test("a warning has a way out, and what is over needs none", () => {
  for (const [reason, row] of Object.entries(EVENT_REASONS) as [string, EventRow][]) {
    assert.equal(row.wayOut !== undefined, row.type === "Warning", reason);
    assert.match(reason, /^([A-Z][a-z]+)+$/);
  }
});

test("docs/events.md has exactly the rows of the table", () => {
  const documented = readFileSync(new URL("../../docs/events.md", import.meta.url), "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  const objects = { volume: "FamfsVolume, its claim", device: "FamfsDevice", node: "Node" };
  const rows = Object.entries(EVENT_REASONS).map(([reason, row]: [string, EventRow]) => {
    return `| \`${reason}\` | ${row.type} | ${objects[row.about]} | ${row.means} | ${row.wayOut ?? "–"} |`;
  });
  assert.deepEqual(documented, rows);
});
