import type { Command } from "commander";
import { FamfsError, uninterrupted } from "../../base/index.ts";
import { integer, octal } from "../arguments.ts";
import { globals } from "../globals.ts";
import { LocalVolume } from "../local-volume.ts";
import { printJson } from "../output.ts";
import { openTarget } from "../target.ts";
import { components, find } from "../volume-path.ts";

interface MkdirOptions {
  readonly volume?: string;
  readonly parents?: boolean;
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
}

export function registerMkdirCommand(program: Command): void {
  program
    .command("mkdir")
    .description("Make a directory in a file system that is not mounted on this host.")
    .argument("<device>", "see famfs-csi --help")
    .argument("<path>", "the directory, from the root of the file system")
    .option("--volume <id>", "which volume of a managed device")
    .option("-p, --parents", "make missing parents, too; no error when it exists")
    .option("-m, --mode <octal>", "permissions", octal, 0o755)
    .option("--uid <uid>", "owner (default: you)", integer)
    .option("--gid <gid>", "group (default: yours)", integer)
    .action(async (name: string, path: string, options: MkdirOptions, command: Command) => {
      const { output, logger } = globals(command);
      const parts = components(path);
      await using target = await openTarget(name, { volume: options.volume, writable: true });
      await using _lock = await target.device.lock();
      await using volume = await LocalVolume.open(target, logger);
      const caller = {
        uid: options.uid ?? process.getuid?.() ?? 0,
        gid: options.gid ?? process.getgid?.() ?? 0,
        pid: 0,
      };
      const made: string[] = [];
      const start = options.parents === true ? 1 : Math.max(parts.length, 1);
      for (let depth = start; depth <= parts.length; depth++) {
        const upTo = parts.slice(0, depth);
        const there = find(volume.tree, upTo);
        if (there !== undefined) {
          if (options.parents === true && there.directory) continue;
          throw new FamfsError(
            "FILE_EXISTS",
            `${upTo.join("/")} exists${there.directory ? "" : " and is not a directory"}`,
          );
        }
        const parent = find(volume.tree, upTo.slice(0, -1));
        if (parent === undefined || !parent.directory)
          throw new FamfsError("NOT_A_DIRECTORY", `the parent of ${upTo.join("/")} is not a directory`);
        await volume.tree.makeDirectory(parent.nodeid, upTo.at(-1) ?? "", options.mode, uninterrupted(caller));
        made.push(Buffer.from(upTo.join("/"), "latin1").toString("utf8"));
      }
      if (parts.length === 0 && options.parents !== true)
        throw new FamfsError("FILE_EXISTS", "the root directory exists");
      if (output === "json") printJson({ made });
    });
}
