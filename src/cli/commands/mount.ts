import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { constants } from "node:os";
import type { Command } from "commander";
import { FamfsError, fromSystemError } from "../../base/index.ts";
import { assertBlank, formatVolume, openDevice, showContents } from "../../media/index.ts";
import { findFusermount, localMountPoint, mountLocally } from "../../node/local.ts";
import { globals } from "../globals.ts";
import { localNode } from "../local-volume.ts";
import { print, printJson } from "../output.ts";
import { canMount, enterNamespaceIfNeeded, inOwnNamespace, mayEnterNamespace } from "../rootless.ts";
import { stopSignal, untilAborted } from "../signals.ts";
import { openTarget } from "../target.ts";

interface MountOptions {
  readonly volume?: string;
  readonly readOnly?: boolean;
}

export function registerMountCommand(program: Command): void {
  program
    .command("mount")
    .description("Mount a file system here and serve it until Ctrl-C, or while a command runs.")
    .argument("<device>", "see famfs-csi --help")
    .argument("<directory>", "where to mount it")
    .argument("[command...]", "after --: run this, then unmount and exit with its status")
    .option("--volume <id>", "which volume of a managed device")
    .option("-r, --read-only", "refuse every change")
    .addHelpText(
      "after",
      `
A blank device gets an empty file system first. A file system of the stock tools takes new files
and directories on the host that owns it (/opt/famfs/system_uuid), and is read-only on others. Other hosts must not
write to it at the same time: nothing but the driver arranges that.

Without root the mount is made by fusermount3 where that is installed, for you alone. Otherwise, and for a command
after --, it is made in a namespace of its own, where only that command sees it:

  famfs-csi mount 'file:///dev/shm/pool0?size=4Gi' /mnt                 serve until Ctrl-C
  famfs-csi mount 'file:///dev/shm/pool0' /mnt -- sh -c 'ls -l /mnt'    run one command`,
    )
    .action(async (name: string, directory: string, words: string[], options: MountOptions, command: Command) => {
      const fusermount = helperFor(words);
      if (fusermount === undefined) await enterNamespaceIfNeeded();
      if (words.length === 0 && inOwnNamespace(process.env)) {
        process.stderr.write(
          "famfs-csi: without root this mount is seen only by a command that is named after --, or by: " +
            `nsenter -t ${process.pid} -U -m --preserve-credentials\n`,
        );
      }
      const { output, logger } = globals(command);
      const stopped = stopSignal();
      await localMountPoint(directory); // before anything is made on the device
      await formatIfBlank(name, options);
      await using target = await openTarget(name, { volume: options.volume, writable: options.readOnly !== true });
      await using _lock = await target.device.lock();
      await using mount = await mountLocally({
        ...target,
        directory,
        readOnly: options.readOnly === true,
        fusermount,
        node: await localNode(),
        logger,
      });
      if (words.length > 0) {
        process.exitCode = await run(words, stopped);
        return;
      }
      if (output === "json") printJson({ device: target.device.path, directory: mount.directory, ready: true });
      else print(`${target.device.path} is mounted at ${mount.directory}; Ctrl-C unmounts`);
      await Promise.race([untilAborted(stopped), mount.ended]);
    });
}

/**
 * What mounts for an ordinary user: for a command of his own a namespace, which never outlives it; otherwise
 * fusermount, whose mounts the rest of the machine can see. Undefined where it is not needed, or there is none.
 */
function helperFor(words: readonly string[]): string | undefined {
  return canMount() || (words.length > 0 && mayEnterNamespace()) ? undefined : findFusermount();
}

/** "A blank device named on a command line is initialised"; anything else is left for openTarget to judge. */
async function formatIfBlank(name: string, options: MountOptions): Promise<void> {
  await using device = await openDevice(name, { writable: options.readOnly !== true });
  const contents = await device.inspect();
  if (contents.type === "other") {
    throw new FamfsError(
      "DEVICE_NOT_BLANK",
      `${device.path} ${showContents(contents)} and no famfs superblock; to overwrite it: famfs-csi mkfs --force ${name}`,
    );
  }
  if (contents.type !== "blank") return;
  if (options.readOnly === true) {
    throw new FamfsError(
      "DEVICE_NOT_FOUND",
      `${device.path} is blank, and nothing can be made on it read-only; run: famfs-csi mkfs ${name}`,
    );
  }
  await using _lock = await device.lock();
  await assertBlank(device);
  await formatVolume(device, device.whole, {
    uuid: randomUUID(),
    name: "",
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    mode: 0o755,
    generation: 1,
    createdSeconds: Math.floor(Date.now() / 1000),
  });
}

/**
 * Runs a command; its exit status, 128 + the signal's number when one ended it. Through a shell, because `spawn` blocks
 * this thread until the exec is done, and a program that lies on the mount could then never be read.
 */
async function run(words: readonly string[], stopped: AbortSignal): Promise<number> {
  const child = spawn("/bin/sh", ["-c", 'exec "$0" "$@"', ...words], { stdio: "inherit" });
  const stop = () => child.kill("SIGTERM");
  stopped.addEventListener("abort", stop, { once: true });
  return new Promise((resolve, reject) => {
    child.on("error", (error) => reject(fromSystemError(error, "spawn", "/bin/sh")));
    child.on("exit", (status, signal) => resolve(status ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  });
}
