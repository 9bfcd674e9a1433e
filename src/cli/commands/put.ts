import { open, stat } from "node:fs/promises";
import { basename } from "node:path";
import type { Command } from "commander";
import { FamfsError, formatSize, fromSystemError, MIB, uninterrupted } from "../../base/index.ts";
import { integer, octal } from "../arguments.ts";
import { globals } from "../globals.ts";
import { LocalVolume } from "../local-volume.ts";
import { Progress, print, printJson } from "../output.ts";
import { openTarget } from "../target.ts";
import { components, find } from "../volume-path.ts";

interface PutOptions {
  readonly volume?: string;
  readonly to: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** O_WRONLY | O_CREAT | O_EXCL */
const NEW_FILE = 0o301;

export function registerPutCommand(program: Command): void {
  program
    .command("put")
    .description("Copy files into a file system that is not mounted on this host.")
    .argument("<device>", "see famfs-csi --help")
    .argument("<file...>", "files to copy; each keeps its name")
    .option("--to <directory>", "where to, from the root of the file system", "/")
    .option("--volume <id>", "which volume of a managed device")
    .option("-m, --mode <octal>", "permissions (default: those of the file)", octal)
    .option("--uid <uid>", "owner (default: you)", integer)
    .option("--gid <gid>", "group (default: yours)", integer)
    .action(async (name: string, files: string[], options: PutOptions, command: Command) => {
      const { output, logger } = globals(command);
      await using target = await openTarget(name, { volume: options.volume, writable: true });
      await using _lock = await target.device.lock();
      await using volume = await LocalVolume.open(target, logger);
      const directory = find(volume.tree, components(options.to));
      if (directory === undefined || !directory.directory) {
        throw new FamfsError(
          "NOT_A_DIRECTORY",
          `${options.to} is not a directory of the volume; "famfs-csi mkdir" makes one`,
        );
      }
      const copied = [];
      for (const file of files) copied.push(await copy(volume, file, directory.nodeid, options));
      if (output === "json") printJson({ copied });
      else for (const { path, sizeBytes } of copied) print(`${path}: ${formatSize(sizeBytes)}`);
    });
}

async function copy(volume: LocalVolume, path: string, directory: number, options: PutOptions) {
  const info = await stat(path).catch((error: unknown) => {
    throw fromSystemError(error, "stat", path);
  });
  if (!info.isFile()) throw new FamfsError("INVALID_ARGUMENT", `${path} is not a regular file`);
  const caller = { uid: options.uid ?? process.getuid?.() ?? 0, gid: options.gid ?? process.getgid?.() ?? 0, pid: 0 };
  const by = uninterrupted(caller);
  const name = Buffer.from(basename(path), "utf8").toString("latin1");
  await using source = await open(path, "r");
  const { tree } = volume;
  const { opened } = await tree.create(directory, name, options.mode ?? info.mode & 0o7777, NEW_FILE, by);
  try {
    using progress = new Progress(path);
    await tree.prepareWrite(opened.handle, { offset: 0, end: info.size, isWriteBack: false });
    const buffer = new Uint8Array(MIB);
    let done = 0;
    while (done < info.size) {
      const { bytesRead } = await source.read(buffer, 0, Math.min(buffer.length, info.size - done), done);
      if (bytesRead === 0)
        throw new FamfsError("INVALID_ARGUMENT", `${path} shrank to ${done} bytes while it was copied`);
      volume.write(opened.map, done, buffer.subarray(0, bytesRead));
      done += bytesRead;
      progress.update(done, info.size);
    }
  } catch (error) {
    await tree.unlink(directory, name); // not sealed yet: nobody has seen it
    throw error;
  } finally {
    tree.release(opened.handle);
  }
  return { path, sizeBytes: info.size };
}
