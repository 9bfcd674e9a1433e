import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { MIB } from "../base/index.ts";
import { abnormalOn, updateRecord } from "../state/index.ts";
import { StoreCensus, type StoreFigures } from "./figures.ts";
import { claim, registerNode, testCluster } from "./testing/fixture.ts";

/** The figures once they are as `expected` says: the watch that they come from is a moment behind. */
async function settled(census: StoreCensus, expected: (figures: StoreFigures) => boolean): Promise<StoreFigures> {
  for (;;) {
    const figures = census.figures();
    if (expected(figures)) return figures;
    await delay(10);
  }
}

test("figures of pools and volumes follow the records, from the first volume to its erased bytes", async () => {
  await using at = await testCluster({ size: "128Mi" });
  using census = await StoreCensus.open(at.store);
  const empty = await settled(census, ({ pools }) => pools.length > 0);
  assert.deepEqual(empty.pools, [
    {
      pool: "default",
      fabric: "rack-1",
      totalBytes: 126 * MIB,
      freeBytes: 126 * MIB,
      largestFreeBytes: 126 * MIB,
      quarantinedRegions: 0,
      quarantinedBytes: 0,
    },
  ]);

  const create = (name: string) =>
    at.client.call("controller", "CreateVolume", claim(name, { capacityRange: { requiredBytes: 16n << 20n } }));
  for (const name of ["a", "b", "c"]) await create(name);
  const three = await settled(census, ({ volumes }) => volumes.Ready === 3);
  const [pool] = three.pools;
  const lengths = (await at.store.list("volumes")).flatMap(({ regions }) => regions.map(({ length }) => length));
  const used = lengths.reduce((sum, length) => sum + length, 0);
  assert.equal(pool?.freeBytes, 126 * MIB - used);
  assert.equal(pool?.largestFreeBytes, pool?.freeBytes);

  // The one in the middle goes: what is free is in two pieces, and not free before a node let it go.
  at.agent.hold = true;
  await at.client.call("controller", "DeleteVolume", { volumeId: "b" });
  await updateRecord(at.store, "volumes", "b", (volume) => ({
    ...volume,
    staged: { "node-a": { bootId: "boot of node-a" } },
  }));
  const [held] = (await settled(census, ({ pools }) => pools[0]?.quarantinedRegions === 1)).pools;
  assert.equal(held?.freeBytes, pool?.freeBytes);
  assert.equal(held?.quarantinedBytes, lengths[1]);
  await updateRecord(at.store, "volumes", "b", (volume) => ({ ...volume, staged: {} }));
  assert.equal((await settled(census, ({ pools }) => pools[0]?.quarantinedRegions === 0)).volumes.Reclaiming, 1);
  await at.agent.resume();
  const [after] = (await settled(census, ({ volumes }) => volumes.Reclaiming === 0)).pools;
  assert.equal(after?.freeBytes, (pool?.freeBytes ?? 0) + (lengths[1] ?? 0));
  assert.equal(after?.largestFreeBytes, pool?.largestFreeBytes);
});

test("what a node reports of a volume, and whether a node is heard, are among the figures", async () => {
  await using at = await testCluster();
  using census = await StoreCensus.open(at.store);
  await at.client.call("controller", "CreateVolume", claim("v"));
  const report = {
    type: abnormalOn("node-a"),
    status: "True" as const,
    reason: "LogCorrupt",
    message: "log entry 3 is corrupt",
    lastTransitionTime: new Date().toISOString(),
  };
  await updateRecord(at.store, "volumes", "v", (volume) => ({ ...volume, conditions: [report] }));
  const { abnormal } = await settled(census, (figures) => figures.abnormal.length > 0);
  assert.deepEqual(abnormal, [{ volume: "v", node: "node-a", reason: "LogCorrupt" }]);
  await updateRecord(at.store, "volumes", "v", (volume) => ({ ...volume, conditions: [] }));
  await settled(census, (figures) => figures.abnormal.length === 0);

  await registerNode(at.store, "node-b");
  const { nodes } = await settled(census, (figures) => figures.nodes.length === 2);
  assert.deepEqual(nodes, [
    { node: "node-a", alive: true },
    { node: "node-b", alive: true },
  ]);
  await updateRecord(at.store, "nodes", "node-b", (node) => ({ ...node, renewedAt: "later", leaseSeconds: 0 }));
  await settled(census, (figures) => figures.nodes.some(({ node, alive }) => node === "node-b" && !alive));
});
