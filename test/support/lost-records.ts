/**
 * The worst day of a cluster's store: all FamfsVolumes and FamfsDevices are gone while the controller and two node
 * plugins run. The same story for each store, by the calls and commands of real life.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { CsiClient } from "../../src/csi/index.ts";
import { unmountBelow } from "../../src/node/index.ts";
import { runProgram, simulatedDevice, startProgram } from "./program.ts";

const MIB = 2 ** 20;
const START_MS = 60_000;
const FABRIC = "rack-7";
const capability = {
  mount: { fsType: "famfs" },
  accessType: "mount",
  accessMode: { mode: "MULTI_NODE_MULTI_WRITER" },
} as const;

/** Whose rights a process has: a node's (which only looks), the controller's, or those to make records again. */
export type Account = "lost-a" | "lost-b" | "controller" | "rebuild";

export interface LostRecordsOptions {
  /** What the program needs to find the store. */
  readonly storeFlags: (directory: string, account: Account) => readonly string[];
  /** Takes all volumes and devices away, as nobody should. */
  readonly loseRecords: (directory: string, device: string) => Promise<void>;
}

export async function checkLostRecords({ storeFlags, loseRecords }: LostRecordsOptions): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "lost-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  stack.defer(() => unmountBelow(directory));
  using device = simulatedDevice("512Mi");
  const start = async (name: Account, command: string, ...more: string[]) => {
    const socket = join(directory, `${name}.sock`);
    const flags = storeFlags(directory, name);
    const server = startProgram(command, `--endpoint=unix://${socket}`, ...flags, ...more);
    stack.defer(async () => void (await server.stop()));
    for (const until = performance.now() + START_MS; !existsSync(socket); await setTimeout(20)) {
      if (server.child.exitCode !== null) throw new Error(`${name} ended:\n${server.said()}`);
      if (performance.now() > until) throw new Error(`${name} does not serve:\n${server.said()}`);
    }
    return stack.use(CsiClient.open(`unix://${socket}`));
  };
  const startNode = (nodeId: "lost-a" | "lost-b") => {
    const run = join(directory, `${nodeId}-run`);
    const own = [`--node-id=${nodeId}`, `--fabric=${FABRIC}`, `--run-dir=${run}`, `--device=${device.url}`];
    return start(nodeId, "node", ...own);
  };
  // At once, as the pods of an installation: one of the nodes finds the device blank, or both do.
  const [a, b, controller] = await Promise.all([
    startNode("lost-a"),
    startNode("lost-b"),
    start("controller", "controller", "--identity=only"),
  ]);
  const nodes = { a, b };

  const create = async (name: string, parameters: Record<string, string> = {}) => {
    const request = { name, capacityRange: { requiredBytes: BigInt(32 * MIB) }, volumeCapabilities: [capability] };
    return await eventually(`${name} is made`, async () => {
      const { volume } = await controller.call("controller", "CreateVolume", { ...request, parameters });
      return volume?.volumeId;
    });
  };
  const attach = async (node: "a" | "b", volumeId: string): Promise<string> => {
    const staging = join(directory, `${node}-${volumeId}-staging`);
    const target = join(directory, `${node}-${volumeId}`);
    mkdirSync(staging, { recursive: true });
    const nodeId = `lost-${node}`;
    const { publishContext } = await eventually("the node is known for the device", () =>
      controller.call("controller", "ControllerPublishVolume", {
        volumeId,
        nodeId,
        volumeCapability: capability,
        readonly: false,
      }),
    );
    const staged = { volumeId, publishContext, stagingTargetPath: staging, volumeCapability: capability };
    await nodes[node].call("node", "NodeStageVolume", staged);
    await nodes[node].call("node", "NodePublishVolume", { ...staged, targetPath: target, readonly: false });
    return target;
  };
  const detach = async (node: "a" | "b", volumeId: string) => {
    const staging = join(directory, `${node}-${volumeId}-staging`);
    const target = join(directory, `${node}-${volumeId}`);
    await nodes[node].call("node", "NodeUnpublishVolume", { volumeId, targetPath: target });
    await nodes[node].call("node", "NodeUnstageVolume", { volumeId, stagingTargetPath: staging });
    await controller.call("controller", "ControllerUnpublishVolume", { volumeId, nodeId: `lost-${node}` });
  };

  // One that is at rest, and one that is in use while it happens.
  const resting = await create("pvc-resting", { mode: "0775" });
  const used = await create("pvc-used", { dataWriters: "any" });
  writeFileSync(join(await attach("a", resting), "weights"), "at rest", { flush: true });
  await detach("a", resting);
  const inUse = await attach("b", used);
  writeFileSync(join(inUse, "arena"), "in use", { flush: true });
  const deleted = await create("pvc-deleted");
  await controller.call("controller", "DeleteVolume", { volumeId: deleted });
  await eventually("it is erased", async () => {
    const scanned = await runProgram("device", "scan", device.path, "--output", "json");
    return !scanned.stdout.includes("pvc-deleted");
  });

  await loseRecords(directory, device.path);
  assert.equal(readFileSync(join(inUse, "arena"), "utf8"), "in use", "what is mounted goes on");

  const scan = (account: Account, ...more: string[]) =>
    runProgram("device", "rebuild", device.path, ...more, ...storeFlags(directory, account));
  const wrong = await scan("lost-a", "--fabric=rack-8");
  assert.equal(wrong.status, 64, wrong.stderr);
  assert.match(wrong.stderr, /are of fabric "rack-7", not "rack-8"/);
  const dry = await scan("lost-a", "--dry-run");
  assert.equal(dry.status, 0, dry.stderr);
  assert.match(dry.stdout, /WOULD MAKE.*\npvc-resting .*rack-7.*lost-a\npvc-used .*rack-7.*lost-b\n/);
  const { entries: none } = await controller.call("controller", "ListVolumes", {});
  assert.deepEqual(none, []);
  const adopted = await scan("rebuild", "--output", "json");
  assert.equal(adopted.status, 0, adopted.stderr);
  const made = (JSON.parse(adopted.stdout) as { volumes: { name: string; record: { parameters: object } }[] }).volumes;
  assert.deepEqual(
    made.map(({ name, record }) => [name, record.parameters]),
    [
      [resting, { mode: "0775" }],
      [used, { dataWriters: "any" }],
    ],
  );
  const again = await scan("rebuild", "--output", "json");
  assert.deepEqual((JSON.parse(again.stdout) as { volumes: object[] }).volumes, [], "nothing is left to be made");

  assert.equal(await create("pvc-resting", { mode: "0775" }), resting, "the claim finds its volume");
  assert.equal(readFileSync(join(await attach("a", resting), "weights"), "utf8"), "at rest");
  assert.equal(readFileSync(join(await attach("b", resting), "weights"), "utf8"), "at rest");
  writeFileSync(join(directory, `a-${resting}`, "more"), "written after", { flush: true });

  // The CO publishes again what it finds unpublished; then the writer that ran through it all goes on.
  await attach("b", used);
  writeFileSync(join(inUse, "later"), "by the same mount", { flush: true });
  await detach("b", used);
  assert.equal(readFileSync(join(await attach("a", used), "later"), "utf8"), "by the same mount");

  const fresh = await create("pvc-fresh");
  writeFileSync(join(await attach("b", fresh), "x"), "x".repeat(8 * MIB), { flush: true });
  const scanned = await runProgram("device", "scan", device.path, "--output", "json");
  const { devices } = JSON.parse(scanned.stdout) as {
    devices: { volumes: { region: { offset: number; length: number }; record: { name: string } }[] }[];
  };
  const regions = devices.flatMap(({ volumes }) => volumes);
  assert.deepEqual(regions.map(({ record }) => record.name).toSorted(), [fresh, resting, used].toSorted());
  for (const [position, { region }] of regions.entries()) {
    const next = regions[position + 1]?.region;
    if (next !== undefined) assert.ok(region.offset + region.length <= next.offset, "no overlap");
  }
  assert.equal(readFileSync(join(directory, `a-${resting}`, "weights"), "utf8"), "at rest");
  for (const [node, volumeId] of [
    ["a", resting],
    ["b", resting],
    ["a", used],
    ["b", fresh],
  ] as const) {
    await detach(node, volumeId);
  }
  await controller.call("controller", "DeleteVolume", { volumeId: resting });
}

async function eventually<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (const until = performance.now() + START_MS; ; await setTimeout(100)) {
    const late = performance.now() > until;
    try {
      const value = await look();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      if (late) throw error;
    }
    if (late) throw new Error(`did not happen: ${what}`);
  }
}
