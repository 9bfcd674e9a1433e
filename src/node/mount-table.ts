import { readFile } from "node:fs/promises";

/** One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)). */
export interface MountEntry {
  /** st_dev of the file system as "major:minor": the same for a mount and all its binds. */
  readonly device: string;
  /** Path within the file system that is the root of this mount. */
  readonly root: string;
  readonly target: string;
  /** Per-mount options: what a bind mount was made with. */
  readonly options: ReadonlySet<string>;
  readonly type: string;
  readonly source: string;
}

function unescapeOctal(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Lines that are not of the documented form are left out. In the order they were mounted. */
export function parseMountTable(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split("\n")) {
    const [before, after] = line.split(" - ", 2);
    const [, , device, root, target, options] = before?.split(" ") ?? [];
    const [type, source] = after?.split(" ") ?? [];
    if (!device || !root || !target || !options || !type || source === undefined) continue;
    entries.push({
      device,
      root: unescapeOctal(root),
      target: unescapeOctal(target),
      options: new Set(options.split(",")),
      type,
      source: unescapeOctal(source),
    });
  }
  return entries;
}

/** The mounts that this process sees. The kernel answers from memory: no file system is asked. */
export async function readMountTable(): Promise<MountEntry[]> {
  return parseMountTable(await readFile("/proc/self/mountinfo", "utf8"));
}

/** What is mounted at `target`: the topmost, when several are stacked there. */
export function mountAt(table: readonly MountEntry[], target: string): MountEntry | undefined {
  return table.findLast((entry) => entry.target === target);
}
