import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import type { Command } from "commander";
import { FamfsError, formatSize } from "../../base/index.ts";
import { planRebuild, rebuild } from "../../node/index.ts";
import { EXIT } from "../exit-code.ts";
import { globals } from "../globals.ts";
import { print, printJson, table } from "../output.ts";
import { scanNamed } from "./named-devices.ts";
import { addStoreOptions, openStore, type StoreFlags } from "./plugin-options.ts";

interface RebuildFlags extends StoreFlags {
  readonly dryRun?: boolean;
  readonly fabric?: string;
  readonly token?: string;
  readonly force?: boolean;
}

const HELP = `
In the pod of a node plugin that reaches the devices (it may keep running):

  famfs-csi device rebuild --dry-run --fabric rack1
  famfs-csi device rebuild --fabric rack1 --token -

The store is the cluster's in a pod; elsewhere say --state-dir or --kubeconfig. There the token of the node plugin may look
but not make records: "kubectl create token" makes one for the account of the chart that may. Exits with 1 when something
in the memory was not taken.`;

/** Beside `device scan`. */
export function registerRebuildCommand(device: Command): void {
  const command = device
    .command("rebuild")
    .description("Make lost or outdated records of volumes and devices again, from the memory.")
    .argument("[device...]", "paths to look at (default: every devdax device, and the files in /dev/shm)")
    .option("--dry-run", "show what would be made, and make nothing")
    .option("--fabric <name>", "the fabric of the devices, where no volume on them says it")
    .option("--force", "believe a restored store again although something in the memory was not taken")
    .option("--token <file>", "a token that may make records, which a node's may not; -: standard input");
  addStoreOptions(command).addHelpText("after", HELP).action(run);
}

async function run(names: string[], flags: RebuildFlags, command: Command): Promise<void> {
  const { output, logger } = globals(command);
  const dryRun = flags.dryRun === true;
  const { devices } = await scanNamed(names);
  if (devices.length === 0) {
    throw new FamfsError(
      "DEVICE_NOT_FOUND",
      "no labelled device was found. Looked at are devdax devices and files in /dev/shm; name others: " +
        "famfs-csi device rebuild file:///var/lib/famfs-csi/pool0",
    );
  }
  const token = flags.token === undefined ? undefined : await readToken(flags.token);
  await using opened = await openStore(flags, { logger, metrics: undefined, token });
  const { store } = opened;
  const plan = await planRebuild({ store, devices, fabric: flags.fabric, force: flags.force });
  if (!dryRun) await rebuild(store, plan);
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
  for (const { name } of plan.refreshed) print(`volume ${name} ${dryRun ? "would be" : "is"} as the memory says`);
  for (const { uuid } of plan.devices) print(`device ${uuid}${dryRun ? " would have" : " has"} a record`);
  for (const { name } of plan.displaced)
    print(`volume ${name} ${dryRun ? "would lose" : "has lost"} the place that is another's`);
  for (const { device, offset, reason } of plan.refused) print(`not taken, ${device} at ${offset}: ${reason}`);
  for (const uuid of plan.frozen) print(`device ${uuid} stays frozen until that is mended (or --force)`);
}

async function readToken(file: string): Promise<string> {
  const token = (file === "-" ? await text(process.stdin) : await readFile(file, "utf8")).trim();
  if (token === "") throw new FamfsError("INVALID_ARGUMENT", "--token: there is no token in it");
  return token;
}
