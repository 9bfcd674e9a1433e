import { randomUUID } from "node:crypto";
import { type Command, Option } from "commander";
import { FamfsError, formatSize } from "../../base/index.ts";
import { initDevice, openDevice, scanVolumes } from "../../media/index.ts";
import { globals } from "../globals.ts";
import { print, printJson, showName, table } from "../output.ts";
import { volumeName } from "../target.ts";
import { scanNamed } from "./named-devices.ts";
import { registerRebuildCommand } from "./rebuild.ts";

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

  device
    .command("scan")
    .description("Show labelled devices and the volumes on them, as the memory says.")
    .argument("[device...]", "paths to look at (default: every devdax device, and the files in /dev/shm)")
    // The former name of "device rebuild"; its other options are none of this command.
    .addOption(new Option("--adopt").hideHelp())
    .on("option:adopt", () => {
      throw new FamfsError("INVALID_ARGUMENT", '"device scan --adopt" is now "device rebuild", with the same options');
    })
    .action(async (names: string[], _options: object, command: Command) => {
      const { devices, skipped } = await scanNamed(names);
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

  registerRebuildCommand(device);
}
