/**
 * The worst day of a cluster's store: all FamfsVolumes and FamfsDevices are gone while the controller and two node
 * plugins run. The same story for each store, by the calls and commands of real life.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Account, eventually, Plugins, type StoreFlags } from "./plugins.ts";
import { runProgram } from "./program.ts";

const MIB = 2 ** 20;

export interface LostRecordsOptions {
  /** What the program needs to find the store. */
  readonly storeFlags: StoreFlags;
  /** Takes all volumes and devices away, as nobody should. */
  readonly loseRecords: (directory: string, device: string) => Promise<void>;
}

export async function checkLostRecords({ storeFlags, loseRecords }: LostRecordsOptions): Promise<void> {
  await using plugins = await Plugins.start(storeFlags);
  const { directory, device, controller } = plugins;
  const create = (name: string, parameters?: Record<string, string>) => plugins.create(name, parameters);
  const attach = (node: "a" | "b", volumeId: string) => plugins.attach(node, volumeId);
  const detach = (node: "a" | "b", volumeId: string) => plugins.detach(node, volumeId);

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
