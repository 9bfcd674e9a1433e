import { readFile } from "node:fs/promises";

/** One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)). */
export interface MountEntry {
  readonly id: string;
  /** The mount it is attached to. */
  readonly parent: string;
  /** Mounts of one peer group see what is mounted over any of them. */
  readonly peerGroup: string | undefined;
  /** The peer group whose mounts it gets as well, but gives none. */
  readonly master: string | undefined;
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

/**
 * Lines that are not of the documented form are left out, and so are mounts that no path leads to, because a directory
 * above them was mounted over: nothing can be done to them. In the order they were mounted.
 */
export function parseMountTable(text: string): MountEntry[] {
  const lines: MountEntry[] = [];
  for (const line of text.split("\n")) {
    const [before, after] = line.split(" - ", 2);
    const [id, parent, device, root, target, options, ...propagation] = before?.split(" ") ?? [];
    const [type, source] = after?.split(" ") ?? [];
    if (!id || !parent || !device || !root || !target || !options || !type || source === undefined) continue;
    const tag = (name: string) => propagation.find((field) => field.startsWith(name))?.slice(name.length);
    lines.push({
      id,
      parent,
      peerGroup: tag("shared:"),
      master: tag("master:"),
      device,
      root: unescapeOctal(root),
      target: unescapeOctal(target),
      options: new Set(options.split(",")),
      type,
      source: unescapeOctal(source),
    });
  }
  return withPaths(lines);
}

/** Those that a path leads to; of several stacked at one place, all. */
function withPaths(lines: readonly MountEntry[]): MountEntry[] {
  const ids = new Set(lines.map(({ id }) => id));
  const top = lines.find(({ id, target, parent }) => target === "/" && (parent === id || !ids.has(parent)));
  if (top === undefined) return [...lines]; // in a chroot, whose root is no mount
  const placed = new Map<string, MountEntry>();
  for (const line of lines) if (line !== top) placed.set(`${line.parent} ${line.target}`, line);
  const reached = new Set<MountEntry>([top]);
  const stackAt = (below: MountEntry, path: string): MountEntry => {
    let at = below;
    for (let next = placed.get(`${at.id} ${path}`); next !== undefined; next = placed.get(`${at.id} ${path}`))
      at = next;
    return at;
  };
  for (const line of lines) {
    let below = stackAt(top, "/");
    const { target } = line;
    for (let end = target.indexOf("/", 1); end > 0; end = target.indexOf("/", end + 1)) {
      below = stackAt(below, target.slice(0, end));
    }
    for (let at = placed.get(`${below.id} ${target}`); at !== undefined; at = placed.get(`${at.id} ${target}`)) {
      reached.add(at);
    }
  }
  return lines.filter((line) => reached.has(line));
}

/** The mounts that this process sees. The kernel answers from memory: no file system is asked. */
export async function readMountTable(): Promise<MountEntry[]> {
  return parseMountTable(await readFile("/proc/self/mountinfo", "utf8"));
}

/** The mount at `target`: the topmost, when several are stacked there. */
export function mountAt(table: readonly MountEntry[], target: string): MountEntry | undefined {
  return table.findLast((entry) => entry.target === target);
}

/** Everything that is stacked at `target`, the lowest first. */
export function stackAt(table: readonly MountEntry[], target: string): MountEntry[] {
  return table.filter((entry) => entry.target === target);
}
