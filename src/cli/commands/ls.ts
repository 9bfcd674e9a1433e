import type { Command } from "commander";
import { FamfsError, formatSize } from "../../base/index.ts";
import type { SealedNode } from "../../format/index.ts";
import { globals } from "../globals.ts";
import { print, printJson, showName, table } from "../output.ts";
import { readVolume } from "../read-volume.ts";
import { openTarget } from "../target.ts";

interface Row {
  readonly path: string;
  readonly node: SealedNode;
}

export function registerLsCommand(program: Command): void {
  program
    .command("ls")
    .description("List every file and directory that the log of a file system names, without mounting it.")
    .argument("<device>", "see famfs-csi --help")
    .option("--volume <id>", "which volume of a managed device")
    .action(async (name: string, options: { volume?: string }, command: Command) => {
      await using target = await openTarget(name, { volume: options.volume, writable: false });
      const { tree, findings } = await readVolume(target);
      if (tree === undefined) {
        throw new FamfsError(
          "SUPERBLOCK_CORRUPT",
          `${target.device.path}: ${findings[0]?.message ?? "no file system"}`,
        );
      }
      const rows = [...walk(tree.root, "")];
      if (globals(command).output === "json") {
        printJson({ entries: rows.map(toJson), findings });
        return;
      }
      print(
        table<Row>(
          [
            { title: "MODE", value: ({ node }) => modeText(node) },
            { title: "UID", align: "right", value: ({ node }) => node.uid },
            { title: "GID", align: "right", value: ({ node }) => node.gid },
            { title: "SIZE", align: "right", value: ({ node }) => (node.kind === "file" ? node.size : "-") },
            { title: "MODIFIED", value: ({ node }) => timeText(node) },
            { title: "PATH", value: pathText },
          ],
          rows,
        ),
      );
      const { files, directories, fileBytes } = tree.counts;
      print(`${files} files, ${directories} directories, ${formatSize(fileBytes)}`);
      for (const finding of findings) process.stderr.write(`${finding.code}: ${showName(finding.message)}\n`);
    });
}

/** Directories before what is in them, names in byte order. */
function* walk(directory: SealedNode, prefix: string): Generator<Row> {
  const children = [...(directory.children?.values() ?? [])].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const node of children) {
    const path = `${prefix}${node.name}`;
    yield { path, node };
    if (node.kind === "directory") yield* walk(node, `${path}/`);
  }
}

function toJson({ path, node }: Row) {
  return {
    path: Buffer.from(path, "latin1").toString("utf8"),
    kind: node.kind,
    index: node.index,
    size: node.size,
    mode: node.mode,
    uid: node.uid,
    gid: node.gid,
    mtime: node.mtime ?? null,
    ...(node.symlinkTarget === undefined
      ? {}
      : { symlinkTarget: Buffer.from(node.symlinkTarget, "latin1").toString("utf8") }),
    ...(node.layout === undefined ? {} : { layout: node.layout }),
  };
}

const KIND = { directory: "d", file: "-", symlink: "l" } as const;

function modeText(node: SealedNode): string {
  const bits = Array.from("rwxrwxrwx", (letter, i) => ((node.mode >> (8 - i)) & 1 ? letter : "-"));
  return KIND[node.kind] + bits.join("");
}

function timeText({ mtime }: SealedNode): string {
  return mtime === undefined ? "-" : new Date(mtime.seconds * 1000).toISOString().replace(/\.\d+Z$/, "Z");
}

function pathText({ path, node }: Row): string {
  const target = node.symlinkTarget === undefined ? "" : ` -> ${showName(node.symlinkTarget)}`;
  return `${showName(path)}${node.kind === "directory" ? "/" : ""}${target}`;
}
