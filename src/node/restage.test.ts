import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { updateRecord } from "../state/index.ts";
import { testCluster } from "./testing/test-node.ts";

const skip = skipWithoutMounts();

test("a restarted plugin serves what was staged and published, without a call, and says whose mounts broke", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "pod");
  await a.publish("v1", "reader", { readonly: true });
  await writeFile(join(a.target("pod"), "kept"), "1");
  await a.restart();
  assert.equal(await readFile(join(a.stagingPath("v1"), "kept"), "utf8"), "1");
  assert.equal(await readFile(join(a.target("pod"), "kept"), "utf8"), "1");
  await writeFile(join(a.target("pod"), "new"), "2");
  assert.equal(await readFile(join(a.target("reader"), "new"), "utf8"), "2");
  await assert.rejects(writeFile(join(a.target("reader"), "other"), ""), { code: "EROFS" });
  const conditions = (await cluster.store.get("volumes", "v1"))?.conditions ?? [];
  assert.match(
    conditions[0]?.message ?? "",
    /plugin of a was restarted: the mounts of .*pods.pod, .*pods.reader do not answer; delete these pods/,
  );
  for (const target of ["pod", "reader"]) await a.unpublish("v1", target);
  await a.unstage("v1");
});

test("what was detached by force while the plugin was away is not served again", { skip }, async (t) => {
  const cluster = await testCluster(t);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.stop();
  await updateRecord(cluster.store, "volumes", "v1", (volume) => ({ ...volume, published: {} }));
  await a.restart();
  await assert.rejects(readFile(join(a.stagingPath("v1"), "any")), { code: "ENOTCONN" });
  const conditions = (await cluster.store.get("volumes", "v1"))?.conditions ?? [];
  assert.match(conditions[0]?.message ?? "", /not served again .* no longer published to node a/);
  await a.unstage("v1");
});
