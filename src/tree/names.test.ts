import assert from "node:assert/strict";
import { test } from "node:test";
import { standInPath } from "../format/index.ts";
import { contents, list, put, ROOT } from "./testing/actions.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

test("an exchange replaces nothing, whatever the names in the root", async () => {
  const volume = new SharedVolume();
  const node = volume.serve("a");
  const stopovers = [10, 11, 12, 13, 14, 15, 16].map(standInPath); // two entries each: 16 are in the log then
  for (const name of ["a", "b", ...stopovers]) await put(node, name, name);
  await node.tree.syncFileSystem();
  await node.tree.rename(ROOT, "a", ROOT, "b", 2);
  for (const at of [node, volume.serve("b")]) {
    assert.deepEqual(list(at), [...stopovers, "a", "b"]);
    assert.equal(await contents(at, "a"), "b");
    assert.equal(await contents(at, "b"), "a");
    for (const name of stopovers) assert.equal(await contents(at, name), name);
  }
  assert.deepEqual(volume.replay().findings, []);
});
