import assert from "node:assert/strict";
import { test } from "node:test";
import { walk } from "../scripts/walk.ts";

test("one CREATE goes down through the source, with few files and few ways back up", { timeout: 60_000 }, async () => {
  const { calls, files, climbs } = await walk();
  assert.equal(files[0], "src/fuse/request.ts");
  assert.equal(calls.at(-1)?.to, "src/fuse/reply.ts");
  assert.ok(files.includes("src/tree/names.ts"), files.join("\n"));
  assert.ok(files.length <= 40, files.join("\n"));
  const ups = climbs.map(({ from, to, what }) => `${from} calls ${to} ${what}`);
  assert.ok(ups.length <= 3, ups.join("\n"));
});
