import { readdirSync } from "node:fs";
import type { StoreFigures } from "../../controller/index.ts";
import type { NodeFigures, VolumeFigures } from "../../node/index.ts";
import { VERSION } from "../version.ts";
import type { Sample } from "./definitions.ts";

/** Figures of the parts, as samples. */

export function processSamples(): Sample[] {
  return [
    ["famfs_csi_build_info", { version: VERSION }, 1],
    ["process_cpu_seconds_total", {}, seconds(process.cpuUsage())],
    ["process_resident_memory_bytes", {}, process.memoryUsage.rss()],
    ["process_open_fds", {}, readdirSync("/proc/self/fd").length - 1], // the one that reads the directory
    ["process_start_time_seconds", {}, performance.timeOrigin / 1000],
    ["famfs_csi_main_thread_cpu_seconds_total", {}, seconds(process.threadCpuUsage())],
  ];
}

function seconds({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) / 1e6;
}

/** What the records say is told by the leader alone, so that each figure exists once. */
export function controllerSamples(
  leads: boolean,
  { pools, volumes, abnormal, frozen, unreadable, nodes }: StoreFigures,
): Sample[] {
  const leader: Sample = ["famfs_csi_controller_leader", {}, Number(leads)];
  if (!leads) return [leader];
  return [
    leader,
    ...pools.flatMap(({ pool, fabric, ...figures }): Sample[] => [
      ["famfs_csi_pool_bytes", { pool, fabric }, figures.totalBytes],
      ["famfs_csi_pool_free_bytes", { pool, fabric }, figures.freeBytes],
      ["famfs_csi_pool_largest_free_bytes", { pool, fabric }, figures.largestFreeBytes],
      ["famfs_csi_pool_quarantined_bytes", { pool, fabric }, figures.quarantinedBytes],
      ["famfs_csi_pool_quarantined_regions", { pool, fabric }, figures.quarantinedRegions],
    ]),
    ...Object.entries(volumes).map(([phase, count]): Sample => ["famfs_csi_volumes", { phase }, count]),
    ...abnormal.map((labels): Sample => ["famfs_csi_volume_abnormal", labels, 1]),
    ...frozen.map(({ device, frozen: is }): Sample => ["famfs_csi_device_frozen", { device }, Number(is)]),
    ...unreadable.map((labels): Sample => ["famfs_csi_record_unreadable", labels, 1]),
    ...nodes.map(({ node, alive }): Sample => ["famfs_csi_node_alive", { node }, Number(alive)]),
  ];
}

export function nodeSamples({ leaseRemainingMs, heartbeatFailures, serverStarts, server }: NodeFigures): Sample[] {
  const own: Sample[] = [
    ["famfs_csi_lease_remaining_seconds", {}, leaseRemainingMs / 1000],
    ["famfs_csi_heartbeat_failures_total", {}, heartbeatFailures],
    ["famfs_csi_fuse_server_up", {}, Number(server !== undefined)],
    ["famfs_csi_fuse_server_starts_total", {}, serverStarts],
  ];
  if (server === undefined) return own;
  return [
    ...own,
    ["famfs_csi_fuse_server_cpu_seconds_total", {}, server.process.cpuSeconds],
    ["famfs_csi_fuse_server_memory_bytes", {}, server.process.memoryBytes],
    ["famfs_csi_fuse_server_main_thread_cpu_seconds_total", {}, server.process.mainThreadCpuSeconds],
    ...Object.entries(server.volumes).flatMap(([volume, figures]) => volumeSamples(volume, figures)),
  ];
}

function volumeSamples(volume: string, figures: VolumeFigures): Sample[] {
  const { requests, bytes, logSlots, replay, openHandles, unsealed, isWriter } = figures;
  const { opcodes, errnos, pending, memoryErrors } = requests;
  const counted = Object.entries(opcodes).filter(([, counts]) => counts.requests > 0);
  return [
    ...counted.map(
      ([opcode, counts]): Sample => ["famfs_csi_fuse_requests_total", { volume, opcode }, counts.requests],
    ),
    ...Object.entries(errnos).map(([errno, n]): Sample => ["famfs_csi_fuse_errors_total", { volume, errno }, n]),
    ["famfs_csi_fuse_requests_waiting", { volume }, pending],
    ["famfs_csi_volume_read_bytes_total", { volume }, opcodes.READ?.bytes ?? 0],
    ["famfs_csi_volume_written_bytes_total", { volume }, opcodes.WRITE?.bytes ?? 0],
    ["famfs_csi_volume_memory_errors_total", { volume }, memoryErrors],
    ["famfs_csi_volume_bytes", { volume }, bytes.total],
    ["famfs_csi_volume_free_bytes", { volume }, bytes.available],
    ["famfs_csi_volume_log_slots", { volume }, logSlots.total],
    ["famfs_csi_volume_log_free_slots", { volume }, logSlots.available],
    ...replaySamples(volume, replay),
    ["famfs_csi_volume_open_files", { volume }, openHandles],
    ["famfs_csi_volume_unsealed_files", { volume }, unsealed],
    ["famfs_csi_volume_writer", { volume }, Number(isWriter)],
  ];
}

/** An owner that lost the log may have lowered its counter for a moment: then nobody is behind. */
function replaySamples(volume: string, replay: VolumeFigures["replay"]): Sample[] {
  if (replay === undefined) return [];
  const { position, published, behindMs } = replay;
  return [
    ["famfs_csi_volume_log_entries", { volume }, published],
    ["famfs_csi_volume_replay_position", { volume }, position],
    ["famfs_csi_volume_replay_lag_entries", { volume }, Math.max(0, published - position)],
    ["famfs_csi_volume_replay_lag_seconds", { volume }, behindMs / 1000],
  ];
}
