import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "../base/index.ts";
import { abnormalOn, updateRecord } from "../state/index.ts";
import { answers, claim, mountCapability, testCluster } from "./testing/fixture.ts";

test("DeleteVolume is OK once it is durable; the name and the bytes are free when a node has erased them", async () => {
  await using at = await testCluster({ size: "32Mi" });
  const create = (name: string) =>
    at.client.call("controller", "CreateVolume", claim(name, { capacityRange: { requiredBytes: 16n << 20n } }));
  const remove = (volumeId: string) => at.client.call("controller", "DeleteVolume", { volumeId });
  await create("a");
  const [region] = (await at.store.get("volumes", "a"))?.regions ?? [];
  assert.ok(region);
  at.agent.hold = true;
  await remove("a");
  assert.equal((await at.store.get("volumes", "a"))?.phase, "Reclaiming");
  await remove("a");
  await assert.rejects(create("a"), answers("ABORTED", /being erased/));
  await assert.rejects(create("b"), answers("RESOURCE_EXHAUSTED"), "its bytes are not free before they are erased");
  await assert.rejects(at.client.call("controller", "ControllerGetVolume", { volumeId: "a" }), answers("NOT_FOUND"));
  assert.deepEqual((await at.client.call("controller", "ListVolumes", {})).entries, []);
  assert.ok((await at.agent.device.read(region.offset, 4096)).some((byte) => byte !== 0));
  await at.agent.resume();
  while ((await at.store.get("volumes", "a")) !== undefined) await tick();
  assert.ok((await at.agent.device.read(region.offset, 4096)).every((byte) => byte === 0));
  await create("a");
  await remove("never made");
});

test("a volume that waits for lost records can be deleted: the node that was to format it drops it", async () => {
  await using at = await testCluster({ formatWaitMs: 1 });
  at.agent.hold = true;
  await assert.rejects(at.client.call("controller", "CreateVolume", claim("v")), answers("ABORTED"));
  const remove = () => at.client.call("controller", "DeleteVolume", { volumeId: "v" });
  await assert.rejects(remove(), answers("ABORTED", /being formatted by node node-a/));
  const condition = {
    type: abnormalOn("node-a"),
    status: "True",
    reason: "RecordsLost",
    message: "another volume is there",
    lastTransitionTime: new Date().toISOString(),
  } as const;
  await updateRecord(at.store, "volumes", "v", (volume) => ({ ...volume, conditions: [condition] }));
  await remove();
  const { phase, jobNode, failure } = (await at.store.get("volumes", "v")) ?? {};
  assert.deepEqual([phase, jobNode, failure?.code], ["Reclaiming", "node-a", "CANCELLED"]);
  await at.agent.resume();
  while ((await at.store.get("volumes", "v")) !== undefined) await tick();
});

test("what a controller left half done and nobody asks for again goes away", async () => {
  await using at = await testCluster({ abandonedMs: 50 });
  await at.client.call("controller", "CreateVolume", claim("kept"));
  const kept = await at.store.get("volumes", "kept");
  assert.ok(kept);
  const { name: _n, resourceVersion: _r, createdAt: _c, ...like } = kept;
  await at.store.create("volumes", "pending", {
    ...like,
    uuid: "00000000-0000-4000-8000-00000000000a",
    phase: "Pending",
    regions: [],
    jobNode: undefined,
  });
  const regions = [{ deviceUuid: at.agent.deviceUuid, offset: 512 * MIB, length: 16 * MIB }];
  await at.store.create("volumes", "failed", {
    ...like,
    uuid: "00000000-0000-4000-8000-00000000000f",
    phase: "Failed",
    regions,
  });
  while ((await at.store.list("volumes")).length > 1) await tick();
  assert.deepEqual(await at.store.get("volumes", "kept"), kept);
});

test("ListVolumes gives every volume exactly once, in pages that changes in between do not disturb", async () => {
  await using at = await testCluster();
  const names = Array.from({ length: 7 }, (_, index) => `v${index}`);
  for (const name of names) await at.client.call("controller", "CreateVolume", claim(name));
  await at.client.call("controller", "ControllerPublishVolume", {
    volumeId: "v1",
    nodeId: "node-a",
    volumeCapability: mountCapability(),
  });
  const seen: string[] = [];
  let startingToken = "";
  do {
    const page = await at.client.call("controller", "ListVolumes", { maxEntries: 3, startingToken });
    assert.ok(page.entries.length <= 3);
    seen.push(...page.entries.map((entry) => entry.volume?.volumeId ?? ""));
    startingToken = page.nextToken;
    // The page begins after a name, even when that volume is gone by then.
    if (seen.length === 3) await at.client.call("controller", "DeleteVolume", { volumeId: "v2" });
  } while (startingToken !== "");
  assert.deepEqual(seen, names);
  const { entries, nextToken } = await at.client.call("controller", "ListVolumes", {});
  assert.equal(nextToken, "");
  assert.deepEqual(
    entries.map((entry) => entry.volume?.volumeId),
    names.filter((name) => name !== "v2"),
  );
  assert.deepEqual(entries[1]?.status?.publishedNodeIds, ["node-a"]);
  assert.equal(entries[1]?.status?.volumeCondition?.abnormal, false);
  for (const token of ["invalid-token", "after.", "after.%%%", "after.djE=="]) {
    await assert.rejects(at.client.call("controller", "ListVolumes", { startingToken: token }), answers("ABORTED"));
  }
  await assert.rejects(at.client.call("controller", "ListVolumes", { maxEntries: -1 }), answers("INVALID_ARGUMENT"));
});

test("a page stays within what a client receives by default, however many nodes the volumes are on", async () => {
  await using at = await testCluster();
  const names = ["a", "b", "c", "d"];
  const use = { accessMode: "MULTI_NODE_MULTI_WRITER", readonly: true };
  const published = Object.fromEntries(
    Array.from({ length: 6_000 }, (_, index) => [`node-${index}`.padEnd(250, "x"), use]),
  );
  for (const name of names) {
    await at.client.call("controller", "CreateVolume", claim(name));
    await updateRecord(at.store, "volumes", name, (volume) => ({ ...volume, published }));
  }
  const seen: string[] = [];
  let startingToken = "";
  do {
    const { entries, nextToken } = await at.client.call("controller", "ListVolumes", { startingToken });
    const nodeIds = entries.flatMap(({ status }) => status?.publishedNodeIds ?? []);
    assert.ok(nodeIds.join("").length < 4 * MIB, `${entries.length} entries with ${nodeIds.length} nodes`);
    seen.push(...entries.map((entry) => entry.volume?.volumeId ?? ""));
    startingToken = nextToken;
  } while (startingToken !== "");
  assert.deepEqual(seen, names);
});

test("a condition that a node reported is told by ListVolumes and ControllerGetVolume", async () => {
  await using at = await testCluster();
  await at.client.call("controller", "CreateVolume", claim("v"));
  const message = "log entry 17: wrong CRC";
  await updateRecord(at.store, "volumes", "v", (volume) => ({
    ...volume,
    conditions: [
      { type: "node-a/Abnormal", status: "True", reason: "ENTRY_CORRUPT", message, lastTransitionTime: "now" },
    ],
  }));
  const { status } = await at.client.call("controller", "ControllerGetVolume", { volumeId: "v" });
  assert.deepEqual(status?.volumeCondition, { abnormal: true, message });
  const { entries } = await at.client.call("controller", "ListVolumes", {});
  assert.deepEqual(entries[0]?.status?.volumeCondition, { abnormal: true, message });
});

test("GetCapacity tells what could be claimed: a volume of the maximum size can be made, one byte more cannot", async () => {
  await using at = await testCluster({ size: "256Mi" });
  const capacity = (request: object = {}) => at.client.call("controller", "GetCapacity", request);
  await at.client.call("controller", "CreateVolume", claim("v"));
  const before = await capacity();
  // 256 less the label, the volume's region (2 + 8 + 4) and the next one's superblock and log.
  assert.equal(before.maximumVolumeSize?.value, BigInt((256 - 2 - 14 - 10) * MIB));
  assert.equal(before.minimumVolumeSize?.value, BigInt(2 * MIB));
  assert.equal((await capacity({ parameters: { logLength: "16Mi" } })).maximumVolumeSize?.value, BigInt(222 * MIB));
  const maximum = before.maximumVolumeSize?.value ?? 0n;
  const create = (requiredBytes: bigint) =>
    at.client.call("controller", "CreateVolume", claim("largest", { capacityRange: { requiredBytes } }));
  await assert.rejects(create(maximum + 1n), answers("RESOURCE_EXHAUSTED"));
  await create(maximum);
  assert.equal((await capacity()).maximumVolumeSize?.value, 0n);

  const elsewhere = { segments: { "famfs.csi.dev/fabric": "rack-9" } };
  assert.equal((await capacity({ accessibleTopology: elsewhere })).availableCapacity, 0n);
  assert.equal((await capacity({ parameters: { pool: "other" } })).availableCapacity, 0n);
  await assert.rejects(capacity({ parameters: { pools: "x" } }), answers("INVALID_ARGUMENT", /"pools" is unknown/));
});

test("ValidateVolumeCapabilities confirms what is served, and says why not otherwise", async () => {
  await using at = await testCluster();
  await at.client.call("controller", "CreateVolume", claim("v", { parameters: { sealDelay: "2s" } }));
  const validate = (more: object = {}) =>
    at.client.call("controller", "ValidateVolumeCapabilities", {
      volumeId: "v",
      volumeCapabilities: [mountCapability(), mountCapability("SINGLE_NODE_WRITER")],
      ...more,
    });
  const confirmed = await validate({ parameters: { sealDelay: "2s" } });
  assert.equal(confirmed.confirmed?.volumeCapabilities.length, 2);
  const block = { block: {}, accessMode: { mode: "SINGLE_NODE_WRITER" } };
  for (const [more, message] of [
    [{ volumeCapabilities: [block] }, /block volumes are not supported/],
    [{ parameters: { sealDelay: "3s" } }, /sealDelay: the volume has 2s/],
    [{ parameters: { nothing: "3s" } }, /"nothing" is unknown/],
    [{ mutableParameters: { a: "b" } }, /mutable/],
  ] as const) {
    const answer = await validate(more);
    assert.equal(answer.confirmed, null);
    assert.match(answer.message, message);
  }
  await assert.rejects(validate({ volumeCapabilities: [] }), answers("INVALID_ARGUMENT"));
  await assert.rejects(validate({ volumeId: "gone" }), answers("NOT_FOUND"));
  await assert.rejects(validate({ volumeId: "" }), answers("INVALID_ARGUMENT"));
});

function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}
