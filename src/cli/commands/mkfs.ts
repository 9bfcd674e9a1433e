import { randomUUID } from "node:crypto";
import { type Command, Option } from "commander";
import { FamfsError, formatSize, GIB } from "../../base/index.ts";
import { capacityFor } from "../../format/index.ts";
import { assertBlank, formatVolume, openDevice } from "../../media/index.ts";
import { integer, octal, size } from "../arguments.ts";
import { globals } from "../globals.ts";
import { print, printJson } from "../output.ts";

/** The stock tool's own limit (format 9), kept where the result is for stock tools. */
const STOCK_MINIMUM = 4 * GIB;

interface MkfsOptions {
  readonly stock?: boolean;
  readonly force?: boolean;
  readonly loglen?: number;
  readonly name: string;
  readonly uid?: number;
  readonly gid?: number;
  readonly mode: number;
}

export function registerMkfsCommand(program: Command): void {
  program
    .command("mkfs")
    .description("Make an empty famfs file system over a whole device.")
    .argument("<device>", "see famfs-csi --help")
    .option("--stock", "exactly what mkfs.famfs writes; the stock tools own it, this program mounts it read-only")
    .option("-f, --force", "overwrite whatever the device holds")
    .option("--loglen <size>", "length of the log: a power of two, 8Mi or more; 8Mi hold about 15,000 files", size)
    .option("--name <name>", "a name for people", "")
    .option("--uid <uid>", "owner of the root directory (default: yours)", integer)
    .option("--gid <gid>", "group of the root directory (default: yours)", integer)
    .addOption(new Option("--mode <octal>", "permissions of the root directory").argParser(octal).default(0o755, "755"))
    .addHelpText(
      "after",
      `
Nothing is overwritten without --force: a device that holds a file system, a label, a partition table or any data is
refused. For several volumes on one device use "famfs-csi device init" and let the driver make the volumes.

  famfs-csi mkfs 'file:///dev/shm/pool0?size=4Gi'
  famfs-csi mkfs --loglen 64Mi /dev/dax0.0`,
    )
    .action(async (name: string, options: MkfsOptions, command: Command) => {
      const { output } = globals(command);
      await using device = await openDevice(name, { writable: true });
      await using _lock = await device.lock();
      if (options.force !== true) await assertBlank(device);
      if (options.stock === true && device.sizeBytes < STOCK_MINIMUM) {
        throw new FamfsError(
          "DEVICE_TOO_SMALL",
          `${device.path} has ${formatSize(device.sizeBytes)}; stock tools want ${formatSize(STOCK_MINIMUM)} or more`,
        );
      }
      const { superblock, record } = await formatVolume(device, device.whole, {
        uuid: randomUUID(),
        name: options.name,
        uid: options.uid ?? process.getuid?.() ?? 0,
        gid: options.gid ?? process.getgid?.() ?? 0,
        mode: options.mode,
        generation: 1,
        createdSeconds: Math.floor(Date.now() / 1000),
        stock: options.stock === true,
        ...(options.loglen === undefined ? {} : { logLength: options.loglen }),
      });
      const facts = {
        device: device.path,
        uuid: record?.volumeUuid ?? superblock.uuid,
        stock: record === undefined,
        sizeBytes: device.sizeBytes,
        logLength: superblock.logLength,
        capacityBytes: capacityFor(device.sizeBytes, superblock.logLength),
      };
      if (output === "json") printJson(facts);
      else
        print(
          `${facts.device}: ${facts.stock ? "stock file system" : "volume"} ${facts.uuid}, ${formatSize(facts.capacityBytes)} for files, log of ${formatSize(facts.logLength)}`,
        );
    });
}
