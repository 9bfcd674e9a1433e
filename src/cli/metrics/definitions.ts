/**
 * Every metric there is: what is exported, and the table of docs/metrics.md. Names and labels are a promise to whoever
 * has dashboards; what a label can be bounds how many series there are.
 */

export interface Definition {
  readonly type: "counter" | "gauge" | "histogram";
  readonly labels: readonly string[];
  /** Which plugin exports it; `standalone` exports all. */
  readonly by: "controller" | "node" | "both";
  readonly help: string;
}

const VOLUME = ["volume"] as const;
const POOL = ["pool", "fabric"] as const;
const NONE = [] as const;

export const METRICS = {
  famfs_csi_build_info: { type: "gauge", labels: ["version"], by: "both", help: "1, for its label." },
  famfs_csi_rpc_duration_seconds: {
    type: "histogram",
    labels: ["method", "code"],
    by: "both",
    help: "CSI calls that ended, by method and gRPC status, and how long they took.",
  },
  famfs_csi_api_requests_total: {
    type: "counter",
    labels: ["method", "code"],
    by: "both",
    help: "Requests to the Kubernetes API by HTTP method and status; code none: there was no answer.",
  },
  process_cpu_seconds_total: { type: "counter", labels: NONE, by: "both", help: "User and system time." },
  process_resident_memory_bytes: { type: "gauge", labels: NONE, by: "both", help: "Resident memory." },
  process_open_fds: { type: "gauge", labels: NONE, by: "both", help: "Open file descriptors." },
  process_start_time_seconds: {
    type: "gauge",
    labels: NONE,
    by: "both",
    help: "When the process started, in seconds since the Unix epoch.",
  },
  famfs_csi_main_thread_cpu_seconds_total: {
    type: "counter",
    labels: NONE,
    by: "both",
    help: "User and system time of the main thread; its rate is 1 when it is saturated.",
  },

  famfs_csi_controller_leader: {
    type: "gauge",
    labels: NONE,
    by: "controller",
    help: "1 in the replica that leads: it runs the background loops and exports the metrics of pools, volumes and nodes.",
  },
  famfs_csi_pool_bytes: {
    type: "gauge",
    labels: POOL,
    by: "controller",
    help: "What a pool can give to volumes: its devices without their labels.",
  },
  famfs_csi_pool_free_bytes: { type: "gauge", labels: POOL, by: "controller", help: "What of that no volume has." },
  famfs_csi_pool_largest_free_bytes: {
    type: "gauge",
    labels: POOL,
    by: "controller",
    help: "The largest free region. No volume is larger.",
  },
  famfs_csi_pool_quarantined_bytes: {
    type: "gauge",
    labels: POOL,
    by: "controller",
    help: "Regions of deleted volumes that are still staged on a node, so that nobody else can have them yet.",
  },
  famfs_csi_pool_quarantined_regions: {
    type: "gauge",
    labels: POOL,
    by: "controller",
    help: "How many regions that are.",
  },
  famfs_csi_volumes: { type: "gauge", labels: ["phase"], by: "controller", help: "Volumes by phase." },
  famfs_csi_volume_abnormal: {
    type: "gauge",
    labels: ["volume", "node", "reason"],
    by: "controller",
    help: "1 for each volume and node that reports something wrong with it; docs/events.md lists the reasons.",
  },
  famfs_csi_device_frozen: {
    type: "gauge",
    labels: ["device"],
    by: "controller",
    help: "1 while nothing on a device is erased or given up, because the store was restored from a backup.",
  },
  famfs_csi_record_unreadable: {
    type: "gauge",
    labels: ["kind", "name"],
    by: "controller",
    help: "1 for each FamfsVolume, FamfsDevice or Lease of a node that cannot be read; an event on it says why.",
  },
  famfs_csi_node_alive: {
    type: "gauge",
    labels: ["node"],
    by: "controller",
    help: "1 while the heartbeat of a node is heard, 0 when its lease has run out.",
  },

  famfs_csi_lease_remaining_seconds: {
    type: "gauge",
    labels: NONE,
    by: "node",
    help: "How long the others are sure to count this node as alive. At 0 nothing is written here.",
  },
  famfs_csi_heartbeat_failures_total: {
    type: "counter",
    labels: NONE,
    by: "node",
    help: "Heartbeats that could not be written to the store.",
  },
  famfs_csi_fuse_server_up: {
    type: "gauge",
    labels: NONE,
    by: "node",
    help: "1 when the FUSE server process answers. All metrics below are its, and absent when it does not.",
  },
  famfs_csi_fuse_server_starts_total: {
    type: "counter",
    labels: NONE,
    by: "node",
    help: "FUSE server processes that were started: one more than were lost. (Told by the plugin itself.)",
  },
  famfs_csi_fuse_server_cpu_seconds_total: {
    type: "counter",
    labels: NONE,
    by: "node",
    help: "User and system time of all its threads.",
  },
  famfs_csi_fuse_server_memory_bytes: {
    type: "gauge",
    labels: NONE,
    by: "node",
    help: "Memory of its own, without the pages of the pool that it maps.",
  },
  famfs_csi_fuse_server_main_thread_cpu_seconds_total: {
    type: "counter",
    labels: NONE,
    by: "node",
    help: "Of that its main thread, which answers everything but READ and WRITE; the rate is 1 when it is saturated.",
  },
  famfs_csi_fuse_requests_total: {
    type: "counter",
    labels: ["volume", "opcode"],
    by: "node",
    help: "FUSE requests that arrived, by opcode. Opcodes that never came are absent.",
  },
  famfs_csi_fuse_errors_total: {
    type: "counter",
    labels: ["volume", "errno"],
    by: "node",
    help: "FUSE requests answered with an error. ENOSYS and most others are daily business; EIO is not.",
  },
  famfs_csi_fuse_requests_waiting: {
    type: "gauge",
    labels: VOLUME,
    by: "node",
    help: "FUSE requests that wait for the file system, such as for the right to write.",
  },
  famfs_csi_volume_read_bytes_total: { type: "counter", labels: VOLUME, by: "node", help: "File bytes read." },
  famfs_csi_volume_written_bytes_total: { type: "counter", labels: VOLUME, by: "node", help: "File bytes written." },
  famfs_csi_volume_memory_errors_total: {
    type: "counter",
    labels: VOLUME,
    by: "node",
    help: "READs and WRITEs that met bad memory.",
  },
  famfs_csi_volume_bytes: { type: "gauge", labels: VOLUME, by: "node", help: "Room for data in the volume." },
  famfs_csi_volume_free_bytes: { type: "gauge", labels: VOLUME, by: "node", help: "What of that is free." },
  famfs_csi_volume_log_slots: {
    type: "gauge",
    labels: VOLUME,
    by: "node",
    help: "Slots of the log for new files, directories and changes of names. They do not come back.",
  },
  famfs_csi_volume_log_free_slots: { type: "gauge", labels: VOLUME, by: "node", help: "What of that is free." },
  famfs_csi_volume_log_entries: {
    type: "gauge",
    labels: VOLUME,
    by: "node",
    help: "Entries in the log, as this node sees it now.",
  },
  famfs_csi_volume_replay_position: {
    type: "gauge",
    labels: VOLUME,
    by: "node",
    help: "Entries of the log that this node has applied.",
  },
  famfs_csi_volume_replay_lag_entries: {
    type: "gauge",
    labels: VOLUME,
    by: "node",
    help: "Entries that this node has yet to apply.",
  },
  famfs_csi_volume_replay_lag_seconds: {
    type: "gauge",
    labels: VOLUME,
    by: "node",
    help: "Time since this node last had applied all that was published; 0 while it has.",
  },
  famfs_csi_volume_open_files: { type: "gauge", labels: VOLUME, by: "node", help: "Open file handles." },
  famfs_csi_volume_unsealed_files: {
    type: "gauge",
    labels: VOLUME,
    by: "node",
    help: "Files, directories and symlinks made here that no other node sees yet.",
  },
  famfs_csi_volume_writer: {
    type: "gauge",
    labels: VOLUME,
    by: "node",
    help: "1 while this node owns the log of the volume.",
  },
} as const satisfies Readonly<Record<string, Definition>>;

export type MetricName = keyof typeof METRICS;
export type LabelsOf<Name extends MetricName> = Readonly<Record<(typeof METRICS)[Name]["labels"][number], string>>;

/** A metric, its labels and its value, at the moment of a scrape. */
export type Sample = {
  [Name in MetricName]: readonly [name: Name, labels: LabelsOf<Name>, value: number];
}[MetricName];

/** What a process is; `standalone` is both. */
export type Part = Exclude<Definition["by"], "both">;

export function metricsOf(parts: ReadonlySet<Part>): [MetricName, Definition][] {
  const all = Object.entries(METRICS) as [MetricName, Definition][];
  return all.filter(([, { by }]) => by === "both" || parts.has(by));
}
