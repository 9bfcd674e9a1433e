import assert from "node:assert/strict";
import { test } from "node:test";
import type { StoreFigures } from "../../controller/index.ts";
import { controllerSamples, nodeSamples } from "./samples.ts";

const figures: StoreFigures = {
  pools: [
    {
      pool: "default",
      fabric: "rack-1",
      totalBytes: 100,
      freeBytes: 60,
      largestFreeBytes: 50,
      quarantinedRegions: 1,
      quarantinedBytes: 20,
    },
  ],
  volumes: { Pending: 0, Formatting: 0, Ready: 3, Failed: 0, Reclaiming: 1 },
  abnormal: [{ volume: "v", node: "a", reason: "LogCorrupt" }],
  frozen: [{ device: "d", frozen: true }],
  unreadable: [{ kind: "volumes", name: "bad" }],
  nodes: [{ node: "a", alive: false }],
};

test("of several controllers only the leader tells what the records say", () => {
  assert.deepEqual(controllerSamples(false, figures), [["famfs_csi_controller_leader", {}, 0]]);
  const led = controllerSamples(true, figures);
  assert.deepEqual(led[0], ["famfs_csi_controller_leader", {}, 1]);
  const pool = { pool: "default", fabric: "rack-1" };
  for (const sample of [
    ["famfs_csi_pool_largest_free_bytes", pool, 50],
    ["famfs_csi_pool_quarantined_bytes", pool, 20],
    ["famfs_csi_volumes", { phase: "Reclaiming" }, 1],
    ["famfs_csi_volume_abnormal", { volume: "v", node: "a", reason: "LogCorrupt" }, 1],
    ["famfs_csi_device_frozen", { device: "d" }, 1],
    ["famfs_csi_record_unreadable", { kind: "volumes", name: "bad" }, 1],
    ["famfs_csi_node_alive", { node: "a" }, 0],
  ]) {
    assert.ok(
      led.some((each) => JSON.stringify(each) === JSON.stringify(sample)),
      JSON.stringify(sample),
    );
  }
});

test("a counter that was lowered in the memory makes nobody be ahead", () => {
  const usage = { total: 10, used: 4, available: 6 };
  const volume = {
    requests: { opcodes: {}, errnos: {}, memoryErrors: 0, pending: 0 },
    bytes: usage,
    logSlots: usage,
    replay: { position: 7, published: 5, behindMs: 0 },
    openHandles: 0,
    unsealed: 0,
    isWriter: false,
  };
  const process = { cpuSeconds: 1, memoryBytes: 1, mainThreadCpuSeconds: 1 };
  const samples = nodeSamples({
    leaseRemainingMs: 1,
    heartbeatFailures: 0,
    serverStarts: 1,
    server: { process, volumes: { v: volume } },
  });
  const lag = samples.find(([name]) => name === "famfs_csi_volume_replay_lag_entries");
  assert.deepEqual(lag, ["famfs_csi_volume_replay_lag_entries", { volume: "v" }, 0]);
});
