import assert from "node:assert/strict";
import { test } from "node:test";
import { standInPath } from "../format/index.ts";
import { contents, list, nodeidOf, O, put, ROOT } from "./testing/actions.ts";
import type { ServedNode } from "./testing/served-node.ts";
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

/** A file whose former content is in the log, and whose new one is not yet. */
async function overwrite(node: ServedNode, name: string, data: string): Promise<void> {
  const opened = await node.tree.open(nodeidOf(node, name), O.WRONLY | O.TRUNC);
  await node.write(opened, 0, data);
  node.tree.release(opened.handle);
}

async function show(node: ServedNode): Promise<Record<string, string>> {
  const shown: Record<string, string> = {};
  for (const name of list(node)) shown[name] = await contents(node, name);
  return shown;
}

const CHANGES: Readonly<
  Record<
    string,
    { change: (node: ServedNode) => void | Promise<void>; now: Record<string, string>; log: Record<string, string> }
  >
> = {
  "moved over another": {
    change: ({ tree }) => tree.rename(ROOT, "new", ROOT, "old", 0),
    now: { old: "new 2" },
    log: { old: "old 1" },
  },
  "moved to a free name": {
    change: ({ tree }) => tree.rename(ROOT, "new", ROOT, "free", 0),
    now: { old: "old 1", free: "new 2" },
    log: { old: "old 1" },
  },
  "exchanged with a sealed one": {
    change: ({ tree }) => tree.rename(ROOT, "new", ROOT, "old", 2),
    now: { old: "new 2", new: "old 1" },
    log: { new: "old 1" },
  },
  "exchanged with another that is being overwritten": {
    change: async (node) => {
      await overwrite(node, "old", "old 2");
      await node.tree.rename(ROOT, "new", ROOT, "old", 2);
    },
    now: { old: "new 2", new: "old 2" },
    log: { old: "old 1", new: "new 1" },
  },
};

for (const [what, { change, now, log }] of Object.entries(CHANGES)) {
  test(`the former content of an overwritten file is never seen at its new name: ${what}`, async () => {
    const volume = new SharedVolume();
    const [writer, other] = [volume.serve("a"), volume.serve("b")];
    for (const name of ["new", "old"]) await put(writer, name, `${name} 1`);
    await writer.tree.syncFileSystem();
    volume.steal();
    const node = volume.serve("c"); // its directory has the names of the log
    await overwrite(node, "new", "new 2");
    await change(node);
    assert.deepEqual(await show(node), now);
    other.tree.poll();
    assert.deepEqual(await show(other), log);
    assert.deepEqual(await show(volume.serve("d")), log, "as after a crash");
    await volume.clock.advance(1100);
    other.tree.poll();
    for (const each of [node, other, volume.serve("e")]) assert.deepEqual(await show(each), now);
    for (const name of Object.keys(now)) await node.tree.unlink(ROOT, name);
    other.tree.poll();
    for (const each of [node, other, volume.serve("f")]) assert.deepEqual(await show(each), {});
    assert.deepEqual(volume.replay().findings, []);
  });

  test(`a file that is overwritten and ${what} is as the log says when the ownership is lost`, async () => {
    const volume = new SharedVolume();
    const node = volume.serve("a");
    for (const name of ["new", "old"]) await put(node, name, `${name} 1`);
    await node.tree.syncFileSystem();
    await overwrite(node, "new", "new 2");
    await change(node);
    volume.steal();
    await assert.rejects(async () => await node.tree.unlink(ROOT, Object.keys(log)[0] ?? ""), { code: "OWNER_STALE" });
    assert.deepEqual(await show(node), log);
  });
}
