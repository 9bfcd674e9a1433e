import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import type { Command } from "commander";
import { FamfsError, formatSize } from "../../base/index.ts";
import {
  deviceCandidates,
  initDevice,
  openDevice,
  parseDeviceSpec,
  type ScannedDevice,
  scanDevices,
  scanVolumes,
} from "../../media/index.ts";
import { adopt, planAdoption } from "../../node/index.ts";
import { EXIT } from "../exit-code.ts";
import { globals } from "../globals.ts";
import { print, printJson, showName, table } from "../output.ts";
import { volumeName } from "../target.ts";
import { addStoreOptions, openStore, type StoreFlags } from "./plugin-options.ts";

export function registerDeviceCommands(program: Command): void {
  const device = program.command("device").description("Label devices for the driver, and see which are labelled.");

  device
    .command("init")
    .description("Write a label: from then on the driver manages the device and makes volumes on it.")
    .argument("<device>", "see famfs-csi --help")
    .option("--pool <name>", "the pool it belongs to", "default")
    .option("-f, --force", "overwrite whatever the device holds")
    .action(async (name: string, options: { pool: string; force?: boolean }, command: Command) => {
      await using opened = await openDevice(name, { writable: true });
      await using _lock = await opened.lock();
      const label = await initDevice(opened, {
        uuid: randomUUID(),
        pool: options.pool,
        incarnation: 1,
        createdSeconds: Math.floor(Date.now() / 1000),
        force: options.force === true,
      });
      if (globals(command).output === "json") printJson({ device: opened.path, ...label });
      else print(`${opened.path}: device ${label.uuid} of pool "${label.pool}", ${formatSize(label.sizeBytes)}`);
    });

  const scan = device
    .command("scan")
    .description("Show labelled devices and the volumes on them, as the memory says.")
    .argument("[device...]", "paths to look at (default: every devdax device, and the files in /dev/shm)")
    .option("--adopt", "make records of volumes and devices again where the store has lost them")
    .option("--dry-run", "with --adopt: show what would be made, and make nothing")
    .option("--fabric <name>", "with --adopt: the fabric of the devices, where no volume on them says it")
    .option("--token <file>", "with --adopt: a token that may make records, which a node's may not; -: standard input");
  addStoreOptions(scan)
    .addHelpText("after", ADOPT_HELP)
    .action(async (names: string[], options: ScanFlags, command: Command) => {
      const paths = names.length === 0 ? await deviceCandidates() : names.map(pathOf);
      const { devices, skipped } = await scanDevices(paths);
      if (options.adopt === true) return adoptDevices(devices, options, command);
      const found = [];
      for (const { path, label } of devices) {
        await using opened = await openDevice(path, { writable: false });
        const volumes = await scanVolumes(opened);
        found.push({ path, ...label, volumes });
      }
      if (globals(command).output === "json") {
        printJson({ devices: found, skipped });
        return;
      }
      print(
        table(
          [
            { title: "DEVICE", value: (row) => row.path },
            { title: "UUID", value: (row) => row.uuid },
            { title: "POOL", value: (row) => showName(row.pool) },
            { title: "SIZE", align: "right", value: (row) => formatSize(row.sizeBytes) },
            { title: "VOLUMES", align: "right", value: (row) => row.volumes.length },
          ],
          found,
        ),
      );
      const volumes = found.flatMap(({ path, volumes: list }) => list.map((volume) => ({ path, ...volume })));
      if (volumes.length > 0) {
        print("");
        print(
          table(
            [
              { title: "VOLUME", value: (row) => showName(volumeName(row)) },
              { title: "DEVICE", value: (row) => row.path },
              { title: "OFFSET", align: "right", value: (row) => row.region.offset },
              { title: "LENGTH", align: "right", value: (row) => formatSize(row.region.length) },
              {
                title: "CAPACITY",
                align: "right",
                value: (row) => formatSize(row.record?.capacityBytes ?? row.region.length),
              },
            ],
            volumes,
          ),
        );
      }
      // Only what was named and is not ours is worth a line; /dev/shm is full of other people's files.
      if (names.length > 0) for (const { path, reason } of skipped) print(`${path}: ${reason}`);
    });
}

interface ScanFlags extends StoreFlags {
  readonly adopt?: boolean;
  readonly dryRun?: boolean;
  readonly fabric?: string;
  readonly token?: string;
}

const ADOPT_HELP = `
With --adopt, in the pod of a node plugin that reaches the devices (it may keep running):

  famfs-csi device scan --adopt --dry-run --fabric rack1
  famfs-csi device scan --adopt --fabric rack1 --token -

The store is the cluster's in a pod; elsewhere say --state-dir or --kubeconfig. There the token of the node plugin may look
but not make records: "kubectl create token" makes one for the account of the chart that may. Exits with 1 when something
in the memory was not taken.`;

async function adoptDevices(devices: readonly ScannedDevice[], flags: ScanFlags, command: Command): Promise<void> {
  const { output, logger } = globals(command);
  const dryRun = flags.dryRun === true;
  if (devices.length === 0) {
    throw new FamfsError(
      "DEVICE_NOT_FOUND",
      "no labelled device was found. Looked at are devdax devices and files in /dev/shm; name others: " +
        "famfs-csi device scan --adopt file:///var/lib/famfs-csi/pool0",
    );
  }
  const token = flags.token === undefined ? undefined : await readToken(flags.token);
  await using opened = await openStore(flags, { logger, metrics: undefined, token });
  const { store } = opened;
  const plan = await planAdoption({ store, devices, fabric: flags.fabric });
  if (!dryRun) await adopt(store, plan);
  if (plan.refused.length > 0) process.exitCode = EXIT.negative;
  if (output === "json") {
    printJson({ dryRun, ...plan });
    return;
  }
  print(
    table(
      [
        { title: dryRun ? "WOULD MAKE" : "MADE", value: (row) => row.name },
        { title: "DEVICE", value: ({ record }) => record.regions[0]?.deviceUuid ?? "" },
        { title: "OFFSET", align: "right", value: ({ record }) => record.regions[0]?.offset ?? "" },
        { title: "CAPACITY", align: "right", value: ({ record }) => formatSize(record.capacityBytes) },
        { title: "FABRIC", value: ({ record }) => record.fabric },
        { title: "EPOCH", align: "right", value: ({ record }) => record.epoch },
        { title: "NODES", value: ({ record }) => Object.keys(record.slots).join(",") },
      ],
      plan.volumes,
    ),
  );
  if (plan.volumes.length === 0 && plan.refused.length === 0) print("every volume in the memory has its record");
  for (const { uuid } of plan.devices) print(`device ${uuid}${dryRun ? " would have" : " has"} a record`);
  for (const { name } of plan.displaced) print(`volume ${name} ${dryRun ? "would wait" : "waits"} for another place`);
  for (const { device, offset, reason } of plan.refused) print(`not taken, ${device} at ${offset}: ${reason}`);
}

async function readToken(file: string): Promise<string> {
  const token = (file === "-" ? await text(process.stdin) : await readFile(file, "utf8")).trim();
  if (token === "") throw new FamfsError("INVALID_ARGUMENT", "--token: there is no token in it");
  return token;
}

function pathOf(name: string): string {
  const spec = parseDeviceSpec(name);
  if (spec.type === "path") return spec.path;
  throw new FamfsError("INVALID_ARGUMENT", `${name} is a UUID; "device scan" without arguments looks for all of them`);
}
