/** What a real controller and a real node with a volume export over HTTP, and what they log. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { skipWithoutMounts } from "../../../test/support/kernel.ts";
import { type Running, simulatedDevice, startProgram } from "../../../test/support/program.ts";
import { CsiClient, RpcError } from "../../csi/index.ts";
import { unmountBelow } from "../../node/index.ts";
import { METRICS, type MetricName } from "./definitions.ts";

const skip = skipWithoutMounts();
const MODE = { mount: { fsType: "famfs" }, accessMode: { mode: "MULTI_NODE_MULTI_WRITER" } } as const;

/** One answer of `/metrics`. */
class Scrape {
  readonly names: readonly string[];
  readonly #values = new Map<string, number>();

  constructor(text: string) {
    const lines = text.split("\n").filter((line) => line !== "");
    this.names = lines.flatMap((line) => /^# TYPE (\S+)/.exec(line)?.[1] ?? []);
    for (const line of lines.filter((one) => !one.startsWith("#"))) {
      const [, name = "", , labels = "", value = ""] = /^(\w+)({(.*)})? (\S+)$/.exec(line) ?? [];
      assert.notEqual(name, "", `not a sample: ${line}`);
      const key = `${name} ${labels}`;
      assert.ok(!this.#values.has(key), `twice: ${line}`);
      this.#values.set(key, Number(value));
    }
  }

  value(name: MetricName, labels = ""): number | undefined {
    return this.#values.get(`${name} ${labels}`);
  }

  /** Calls of a method that ended with a status. */
  calls(method: string, code: string): number {
    return this.#values.get(`famfs_csi_rpc_duration_seconds_count method="${method}",code="${code}"`) ?? 0;
  }
}

interface Plugin {
  readonly process: Running;
  readonly client: CsiClient;
  readonly scrape: () => Promise<Scrape>;
  /** Its lines about calls. */
  readonly calls: () => Record<string, unknown>[];
}

/** A controller and a node as processes of their own, over one store. */
async function startPlugins(t: TestContext) {
  const stack = new AsyncDisposableStack();
  t.after(() => stack.disposeAsync());
  const directory = mkdtempSync(join(tmpdir(), "metrics-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  stack.defer(() => unmountBelow(directory));
  const device = stack.use(simulatedDevice("128Mi"));

  const start = async (part: "controller" | "node", ...args: string[]): Promise<Plugin> => {
    const port = await freePort();
    const endpoint = `unix://${join(directory, `${part}.sock`)}`;
    const shared = [`--endpoint=${endpoint}`, `--state-dir=${join(directory, "state")}`, `--health-port=${port}`];
    const process = startProgram(part, ...shared, ...args);
    stack.defer(async () => void (await process.stop()));
    while (!process.said().includes("plugin is serving")) {
      if (process.child.exitCode !== null) throw new Error(`${part} ended:\n${process.said()}`);
      await delay(20);
    }
    const client = stack.use(CsiClient.open(endpoint));
    const scrape = async () => {
      const response = await fetch(`http://127.0.0.1:${port}/metrics`);
      assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
      return new Scrape(await response.text());
    };
    const calls = () =>
      process
        .said()
        .split("\n")
        .filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .filter(({ msg }) => msg === "rpc");
    return { process, client, scrape, calls };
  };

  const node = await start("node", "--node-id=here", `--device=${device.url}`, "--fabric=rack-1");
  const controller = await start("controller");
  return { directory, device, node, controller };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function childOf(pid: number | undefined): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0]);
}

const exported = (by: "controller" | "node") =>
  Object.entries(METRICS).flatMap(([name, metric]) => (metric.by === "both" || metric.by === by ? name : []));

test("a controller and a node with a volume export all that is documented, and log one line per call", {
  skip,
}, async (t) => {
  const { directory, device, node, controller } = await startPlugins(t);
  const claim = {
    name: "v",
    capacityRange: { requiredBytes: 32n << 20n },
    volumeCapabilities: [MODE],
    secrets: { token: "top-secret" },
  };
  const created = await controller.client.call("controller", "CreateVolume", claim);
  assert.equal(created.volume?.volumeId, "v");
  const { publishContext } = await controller.client.call("controller", "ControllerPublishVolume", {
    volumeId: "v",
    nodeId: "here",
    volumeCapability: MODE,
  });
  const stagingTargetPath = join(directory, "staging");
  mkdirSync(stagingTargetPath);
  const staging = { volumeId: "v", stagingTargetPath, volumeCapability: MODE };
  const context = { "storage.kubernetes.io/csiProvisionerIdentity": "do-not-log" };
  await node.client.call("node", "NodeStageVolume", {
    ...staging,
    publishContext,
    volumeContext: context,
    secrets: { token: "top-secret" },
  });
  writeFileSync(join(stagingTargetPath, "file"), Buffer.alloc(100_000, 1), { flush: true });
  assert.equal(readFileSync(join(stagingTargetPath, "file")).byteLength, 100_000);
  await assert.rejects(node.client.call("node", "NodeStageVolume", { ...staging, volumeId: "missing" }), RpcError);

  const of = await node.scrape();
  assert.deepEqual(of.names.toSorted(), exported("node").toSorted());
  const volume = 'volume="v"';
  assert.equal(of.value("famfs_csi_volume_written_bytes_total", volume), 100_000);
  assert.equal(of.value("famfs_csi_fuse_requests_total", `${volume},opcode="CREATE"`), 1);
  assert.equal(of.value("famfs_csi_volume_writer", volume), 1);
  assert.equal(of.value("famfs_csi_volume_replay_lag_entries", volume), 0);
  assert.equal(
    of.value("famfs_csi_volume_replay_position", volume),
    of.value("famfs_csi_volume_log_entries", volume) ?? "absent",
  );
  assert.equal(of.value("famfs_csi_fuse_server_up"), 1);
  assert.equal(of.value("famfs_csi_fuse_server_starts_total"), 1);
  assert.ok((of.value("famfs_csi_volume_log_free_slots", volume) ?? 0) > 10_000);
  assert.ok((of.value("famfs_csi_lease_remaining_seconds") ?? 0) > 0);
  assert.equal(of.calls("NodeStageVolume", "OK"), 1);
  assert.equal(of.calls("NodeStageVolume", "NOT_FOUND"), 1);

  const all = await controller.scrape();
  assert.deepEqual(all.names.toSorted(), exported("controller").toSorted());
  const pool = 'pool="default",fabric="rack-1"';
  assert.equal(all.value("famfs_csi_controller_leader"), 1);
  assert.equal(all.value("famfs_csi_pool_bytes", pool), 126 << 20);
  const free = all.value("famfs_csi_pool_free_bytes", pool) ?? 0;
  assert.ok(free > 0 && free <= (126 - 32) << 20);
  assert.equal(all.value("famfs_csi_pool_largest_free_bytes", pool), free);
  assert.equal(all.value("famfs_csi_volumes", 'phase="Ready"'), 1);
  assert.equal(all.value("famfs_csi_volumes", 'phase="Failed"'), 0);
  assert.equal(all.value("famfs_csi_node_alive", 'node="here"'), 1);
  assert.equal(all.calls("CreateVolume", "OK"), 1);

  const lines = [...controller.calls(), ...node.calls()];
  assert.deepEqual(
    lines.map((line) => ["rpc", "volume", "node", "code"].map((field) => line[field])),
    [
      ["CreateVolume", "v", undefined, "OK"],
      ["ControllerPublishVolume", "v", "here", "OK"],
      ["NodeStageVolume", "v", "here", "OK"],
      ["NodeStageVolume", "missing", "here", "NOT_FOUND"],
    ],
  );
  assert.ok(lines.every(({ id, ms }) => Number(id) > 0 && Number(ms) >= 0));
  for (const secret of ["top-secret", "do-not-log"]) {
    assert.ok(!`${controller.process.said()}${node.process.said()}`.includes(secret), secret);
  }

  // Memory goes bad from the log on: what the node meets, the controller knows.
  truncateSync(device.path, 4 << 20);
  assert.throws(() => writeFileSync(join(stagingTargetPath, "file"), "x", { flag: "r+" }), { code: "EIO" });
  const broken = await node.scrape();
  assert.equal(broken.value("famfs_csi_volume_replay_position", volume), undefined);
  assert.ok((broken.value("famfs_csi_volume_memory_errors_total", volume) ?? 0) > 0);
  assert.ok((broken.value("famfs_csi_fuse_errors_total", `${volume},errno="EIO"`) ?? 0) > 0);
  const abnormal = async () =>
    (await controller.scrape()).value("famfs_csi_volume_abnormal", `${volume},node="here",reason="MemoryError"`) === 1;
  for (const until = performance.now() + 10_000; !(await abnormal()); await delay(50)) {
    assert.ok(performance.now() < until, "the controller does not know of it");
  }
});

test("a node whose FUSE server hangs is scraped in bounded time, without what only the server knows", {
  skip,
}, async (t) => {
  const { node } = await startPlugins(t);
  const server = childOf(node.process.child.pid);
  assert.equal((await node.scrape()).value("famfs_csi_fuse_server_up"), 1);
  process.kill(server, "SIGSTOP");
  const hanging = await node.scrape();
  process.kill(server, "SIGCONT");
  assert.equal(hanging.value("famfs_csi_fuse_server_up"), 0);
  assert.ok(!hanging.names.includes("famfs_csi_fuse_server_memory_bytes"));
  assert.ok((hanging.value("famfs_csi_lease_remaining_seconds") ?? 0) > 0);
  for (const until = performance.now() + 10_000; (await node.scrape()).value("famfs_csi_fuse_server_up") !== 1; ) {
    assert.ok(performance.now() < until, "the server does not answer again");
  }
});
