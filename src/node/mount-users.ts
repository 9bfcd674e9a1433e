import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { FUSE_TYPE } from "../../native/index.ts";
import { type MountEntry, mountAt, parseMountTable } from "./mount-table.ts";

/** A process of this host that has something to do with a mount. */
export interface MountUser {
  readonly pid: number;
  readonly command: string;
  /** Of the pod it runs in. */
  readonly podUid: string | undefined;
}

/** A mount namespace of others, as one of its processes shows it. */
export interface MountNamespace {
  readonly pid: number;
  readonly table: readonly MountEntry[];
}

/** More of them make a message longer than it is useful. */
const MOST_NAMED = 5;
/** The longest that somebody waits for their names. */
const LOOK_MS = 2_000;

let looking: Promise<MountNamespace[] | undefined> | undefined;

/**
 * The mount namespaces of other processes, containers among them, that show a mount of ours. Undefined when none but
 * our own can be seen: then this process sees its own pod only, and nothing can be said about others (the chart's node
 * plugin has `hostPID`). Callers at one time share one look: after a server died there is one for each volume.
 */
export function otherMountNamespaces(): Promise<MountNamespace[] | undefined> {
  looking ??= lookAtNamespaces().finally(() => {
    looking = undefined;
  });
  return looking;
}

async function lookAtNamespaces(): Promise<MountNamespace[] | undefined> {
  const own = await namespaceOf("self");
  const seen = new Set([own]);
  const found: MountNamespace[] = [];
  for (const pid of await processes()) {
    const namespace = await namespaceOf(pid);
    if (namespace === undefined || seen.has(namespace)) continue;
    const text = await read(pid, "mountinfo");
    if (text === undefined) continue; // ended meanwhile: another process of that namespace may be there
    seen.add(namespace);
    if (text.includes(` ${FUSE_TYPE} `)) found.push({ pid: Number(pid), table: parseMountTable(text) });
  }
  return seen.size === 1 ? undefined : found;
}

/**
 * Whether something gets what is mounted over `entry`, and would not if `entry` went away: a bind of it in one of
 * `namespaces`, as a container has it. What merely shows our mounts because it shows the directory they are in does not
 * count: it gets them anew. `table` is the one that `entry` is from.
 */
export function isFollowed(
  entry: MountEntry,
  table: readonly MountEntry[],
  namespaces: readonly MountNamespace[],
): boolean {
  const { peerGroup } = entry;
  if (peerGroup === undefined) return false;
  const around = table.find(({ id }) => id === entry.parent)?.peerGroup;
  const gets = (mount: MountEntry, group: string) => mount.peerGroup === group || mount.master === group;
  return namespaces.some((namespace) =>
    namespace.table.some((mount) => {
      if (mount.root !== entry.root || !gets(mount, peerGroup)) return false;
      const parent = namespace.table.find(({ id }) => id === mount.parent);
      return parent === undefined || around === undefined || !gets(parent, around);
    }),
  );
}

/** One process for each of `namespaces` that shows a mount that `isDead` at some path: nothing answers there. */
export async function holdersOf(
  isDead: (mount: MountEntry) => boolean,
  namespaces: readonly MountNamespace[],
): Promise<MountUser[]> {
  const holding = namespaces.filter(({ table }) =>
    table.some((mount) => isDead(mount) && mountAt(table, mount.target) === mount),
  );
  return await Promise.all(
    holding.map(async ({ pid, table }) => ({ pid, command: await commandOf(pid), podUid: podUidOf(table) })),
  );
}

/** Each container has files that the kubelet keeps in the directory of its pod. */
function podUidOf(table: readonly MountEntry[]): string | undefined {
  for (const { root } of table) {
    const [, uid] = /\/pods\/([^/]+)\/(?:etc-hosts$|containers\/)/.exec(root) ?? [];
    if (uid !== undefined) return uid;
  }
  return undefined;
}

/**
 * In words, a few of the processes that stand in what is mounted at `target`, or have something of it open. Mappings of
 * files that were closed are not among them: the kernel may let who asks for those wait for a fault that hangs.
 */
export async function usersOf(target: string): Promise<string> {
  const users: string[] = [];
  const until = performance.now() + LOOK_MS;
  for (const pid of await processes()) {
    if (users.length === MOST_NAMED || performance.now() > until) return `${users.join(", ") || "somebody"} and more`;
    if (await uses(pid, target)) users.push(`process ${pid} (${await commandOf(Number(pid))})`);
  }
  return users.length === 0 ? "no process that can be seen from here" : users.join(", ");
}

/** Links of /proc name paths without asking a file system. */
async function uses(pid: string, target: string): Promise<boolean> {
  const isBelow = (path: string | undefined) => path !== undefined && `${path}/`.startsWith(`${target}/`);
  for (const name of ["cwd", "root", "exe"]) if (isBelow(await link(pid, name))) return true;
  const descriptors = await readdir(join("/proc", pid, "fd")).catch(() => []);
  for (const fd of descriptors) if (isBelow(await link(pid, `fd/${fd}`))) return true;
  return false;
}

async function commandOf(pid: number): Promise<string> {
  return (await read(`${pid}`, "comm"))?.trim() ?? "ended";
}

async function processes(): Promise<string[]> {
  return (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
}

const namespaceOf = (pid: string) => link(pid, "ns/mnt");

/** Undefined when the process is gone, or not for us to see. */
function link(pid: string, name: string): Promise<string | undefined> {
  return readlink(join("/proc", pid, name)).catch(() => undefined);
}

function read(pid: string, name: string): Promise<string | undefined> {
  return readFile(join("/proc", pid, name), "utf8").catch(() => undefined);
}
