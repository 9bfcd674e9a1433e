import { constants } from "node:fs";
import { mkdir, open, readFile, rmdir } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, normalize } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { FUSE_TYPE, fuseMountArguments, MOUNT_ATTR, native, UMOUNT } from "../../native/index.ts";
import { FamfsError, fromSystemError, hasCode } from "../base/index.ts";
import { bounded } from "./bounded.ts";
import { type MountEntry, mountAt, readMountTable, stackAt } from "./mount-table.ts";
import { isFollowed, type MountNamespace, usersOf } from "./mount-users.ts";

/** Bound of one mount, unmount or question to a file system. */
const TIMEOUT_MS = 10_000;
const BUSY = { attempts: 5, delayMs: 200 };
const PATH_MAX = 4096;
const NAME_MAX = 255;

const SOURCE_PREFIX = "famfs-csi:";

/** What our mounts show as their source, so that a restarted plugin knows which are its own. */
export function mountSource(nodeId: string, volumeId: string): string {
  return `${SOURCE_PREFIX}${nodeId}/${volumeId}`;
}

export function isMountOf(entry: MountEntry, source: string): boolean {
  return entry.type === FUSE_TYPE && entry.source === source;
}

function errnoOf(error: unknown): string | undefined {
  return hasCode(error, "SYSTEM") ? error.details?.errno : undefined;
}

async function system<T>(call: Promise<T>, syscall: string, path: string, late?: (value: T) => void): Promise<T> {
  try {
    return await bounded(call, { what: `${syscall} of ${path}`, timeoutMs: TIMEOUT_MS, ...(late && { late }) });
  } catch (error) {
    throw fromSystemError(error, syscall, path);
  }
}

/**
 * A path of a request as the mount table shows it: absolute, symlinks of its parent resolved, the last component
 * left alone. Undefined when the parent does not exist.
 */
export async function resolveMountPath(path: string, field: string): Promise<string | undefined> {
  if (!isAbsolute(path) || path.length > PATH_MAX || path.includes("\0")) {
    throw new FamfsError("INVALID_ARGUMENT", `${field} "${path.slice(0, 200)}" is not an absolute path`);
  }
  const clean = normalize(path).replace(/\/+$/, "");
  if (clean === "") throw new FamfsError("INVALID_ARGUMENT", `${field} is the root directory`);
  if (Buffer.byteLength(basename(clean)) > NAME_MAX) throw unusable(field, clean, "ENAMETOOLONG");
  try {
    const parent = await system(native.realpath(`${dirname(clean)}/.`), "realpath", dirname(clean));
    return join(parent, basename(clean));
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR") return undefined;
    if (errno === "ELOOP" || errno === "ENAMETOOLONG") throw unusable(field, clean, errno);
    throw error;
  }
}

function unusable(field: string, path: string, errno: string): FamfsError {
  return new FamfsError("INVALID_ARGUMENT", `${field} ${path.slice(0, 200)} leads nowhere (${errno})`);
}

export type PathKind = "directory" | "file" | "missing" | "other";

/** The kind of thing at `path` itself. Never ask this of a mount of ours: its server would have to answer. */
export async function pathKind(path: string): Promise<PathKind> {
  try {
    const { mode } = await system(native.lstat(path), "lstat", path);
    const format = mode & 0o170000;
    return format === 0o040000 ? "directory" : format === 0o100000 ? "file" : "other";
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return "missing";
    throw error;
  }
}

/** Makes sure that `path` is a directory to mount on. PATH_CONFLICT when it is something else. */
export async function makeMountPoint(path: string): Promise<void> {
  const kind = await pathKind(path);
  if (kind === "directory") return;
  if (kind !== "missing") {
    throw new FamfsError("PATH_CONFLICT", `${path} is not a directory: a famfs volume is mounted on a directory`);
  }
  try {
    await mkdir(path, { mode: 0o750, recursive: true });
  } catch (error) {
    throw fromSystemError(error, "mkdir", path);
  }
}

/** Removes an empty directory that was a mount point; fine when it is gone, or not empty (it is not ours then). */
export async function removeMountPoint(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    const failure = fromSystemError(error, "rmdir", path);
    if (!["ENOENT", "ENOTEMPTY", "ENOTDIR"].includes(errnoOf(failure) ?? "")) throw failure;
  }
}

export interface VolumeMountOptions {
  readonly source: string;
  readonly readOnly: boolean;
  readonly seLinuxContext?: string | undefined;
}

/** Mounts the connection of `fd` at `target`. A mount that comes after the bound is taken away again. */
export async function mountVolume(
  fd: number,
  target: string,
  { source, readOnly, seLinuxContext }: VolumeMountOptions,
): Promise<MountEntry> {
  const call = native.mount(...fuseMountArguments(fd, target, { fsname: source, readOnly, seLinuxContext }));
  try {
    await system(call, "mount", target, () => abandon(target));
  } catch (error) {
    if (seLinuxContext === undefined || errnoOf(error) !== "EINVAL") throw error;
    throw await labelRefused(seLinuxContext, target, error);
  }
  const entry = mountAt(await readMountTable(), target);
  if (entry?.source !== source) {
    throw new FamfsError("PATH_CONFLICT", `${target}: mounted ${source}, but ${entry?.source ?? "nothing"} is there`);
  }
  return entry;
}

/** The kernel says EINVAL whether it has no SELinux, no policy yet, or one that does not know the label. */
async function labelRefused(seLinuxContext: string, target: string, cause: unknown): Promise<FamfsError> {
  const hasSeLinux = /\tselinuxfs$/m.test(await readFile("/proc/filesystems", "latin1"));
  const why = hasSeLinux
    ? "the SELinux policy of this node has no such label: load one that has, or name another label"
    : "SELinux is off in this node's kernel: boot it with SELinux, or leave the flag out";
  return new FamfsError(
    "NOT_SUPPORTED",
    `${target}: the kernel does not take mount flag context="${seLinuxContext}" (EINVAL). ${why} ` +
      "(seLinuxOptions of the pod, mountOptions of the StorageClass and the PersistentVolume)",
    { cause },
  );
}

/** Attributes of a bind mount by the option that the mount table shows for them. */
const BIND_OPTIONS = {
  ro: MOUNT_ATTR.RDONLY,
  noexec: MOUNT_ATTR.NOEXEC,
  noatime: MOUNT_ATTR.NOATIME,
  nodiratime: MOUNT_ATTR.NODIRATIME,
} as const;
export type BindOption = keyof typeof BIND_OPTIONS;
const BIND_OPTION_NAMES = Object.keys(BIND_OPTIONS) as BindOption[];

/** Whether a bind mount has exactly these of the options that may be asked for. */
export function hasBindOptions(entry: MountEntry, options: ReadonlySet<BindOption>): boolean {
  return BIND_OPTION_NAMES.every((name) => entry.options.has(name) === options.has(name));
}

/** Shows the mount at `source` at `target` too, with `options` for everybody who comes through `target`. */
export async function bindVolume(source: string, target: string, options: ReadonlySet<BindOption>): Promise<void> {
  const attributes = [...options].reduce((bits, option) => bits | BIND_OPTIONS[option], 0);
  try {
    await system(native.bindMount(source, target, attributes), "bind mount", target, () => abandon(target));
  } catch (error) {
    if (errnoOf(error) !== "ENOSYS") throw error;
    throw new FamfsError(
      "NOT_SUPPORTED",
      "publishing volumes needs the mount calls of Linux 5.12 or later (open_tree, mount_setattr): upgrade the kernel",
      { cause: error },
    );
  }
}

/** What a mount was bound with. */
export function bindOptionsOf(entry: MountEntry): ReadonlySet<BindOption> {
  return new Set(BIND_OPTION_NAMES.filter((name) => entry.options.has(name)));
}

/** Mounts that may be stacked at one target: those of servers that died, below the one that answers. */
const MOST_STACKED = 16;

/**
 * Binds as `bindVolume` does, over the dead mounts that are at `target`: a container that got one of them with
 * `mountPropagation: HostToContainer` gets what is mounted over it, and goes on. What no container follows is taken
 * away first; all is, when nobody knows and many are there. Mounts of one peer group, as earlier versions made them for
 * all targets of a volume, are taken away too: what is bound over one of them would appear over the others, with its
 * options.
 */
export async function bindVolumeOver(
  source: string,
  target: string,
  options: ReadonlySet<BindOption>,
  namespaces: readonly MountNamespace[] | undefined,
): Promise<void> {
  const table = await readMountTable();
  const stack = stackAt(table, target);
  // A part that the kubelet bound (subPath) is a peer, too, but does not show what is mounted over the whole.
  const isOfOthers = ({ peerGroup, root }: MountEntry) =>
    peerGroup !== undefined &&
    table.some((entry) => entry.peerGroup === peerGroup && entry.root === root && entry.target !== target);
  let kept = stack.length;
  if (namespaces !== undefined) kept = 1 + stack.findLastIndex((entry) => isFollowed(entry, table, namespaces));
  if (kept >= MOST_STACKED || stack.some(isOfOthers)) kept = 0;
  for (let count = stack.length; count > kept; count--) await forceUnmount(target);
  await bindVolume(source, target, options);
}

/**
 * Unmounts everything stacked at `target`. Waits a bounded time for a server that has to write pages back; what
 * `force` is true of is aborted and detached when it does not answer, or is in use.
 */
export async function unmountAll(target: string, force: (entry: MountEntry) => boolean): Promise<void> {
  // More than a few stacked mounts are not ours to unwind.
  for (let attempt = 0; attempt < 2 * MOST_STACKED; attempt++) {
    const top = mountAt(await readMountTable(), target);
    if (top === undefined) return;
    try {
      await unmountIdle(target, { patient: !force(top) });
    } catch (error) {
      if (errnoOf(error) === "EINVAL") continue; // gone meanwhile: the table tells
      if (!force(top)) throw errnoOf(error) === "EBUSY" ? await busy(target, error) : error;
      await forceUnmount(target);
    }
  }
  throw new FamfsError("PATH_CONFLICT", `${target}: more than ${2 * MOST_STACKED} mounts are stacked there`);
}

/** A process that ends, or one of many unmounts at a time, makes a mount busy for a moment. */
async function unmountIdle(target: string, { patient }: { readonly patient: boolean }): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await system(native.unmount(target, UMOUNT.NOFOLLOW), "umount", target);
    } catch (error) {
      if (!patient || errnoOf(error) !== "EBUSY" || attempt === BUSY.attempts) throw error;
      await delay(BUSY.delayMs);
    }
  }
}

async function busy(target: string, cause: unknown): Promise<FamfsError> {
  const users = await usersOf(target);
  return new FamfsError(
    "MOUNT_BUSY",
    `${target} is in use by ${users}: it is unmounted when they have left it; try again`,
    {
      cause,
    },
  );
}

const O_PATH = 0o10000000;

/**
 * Ends the connection of the FUSE mount at `target`, which stays mounted: all that waits for its server fails, as does
 * what comes later. EPERM inside a user namespace.
 */
export async function abortConnection(target: string): Promise<void> {
  // A mount that is in use is not unmounted.
  await using _used = await open(target, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    await system(native.unmount(target, UMOUNT.NOFOLLOW | UMOUNT.FORCE), "umount -f", target);
  } catch (error) {
    if (errnoOf(error) !== "EBUSY") throw error;
  }
}

async function forceUnmount(target: string): Promise<void> {
  try {
    await system(native.unmount(target, UMOUNT.NOFOLLOW | UMOUNT.FORCE | UMOUNT.DETACH), "umount -f", target);
  } catch (error) {
    // Inside a user namespace only closing the connection's descriptors aborts it.
    if (errnoOf(error) !== "EPERM") throw error;
    await system(native.unmount(target, UMOUNT.NOFOLLOW | UMOUNT.DETACH), "umount -l", target);
  }
}

function abandon(target: string): void {
  native.unmount(target, UMOUNT.NOFOLLOW | UMOUNT.DETACH).catch(() => undefined);
}

/** statfs of a mount of ours, bounded: its server may hang. */
export async function fileSystemNumbers(target: string, signal?: AbortSignal) {
  try {
    const bound = { what: `statfs of ${target}`, timeoutMs: TIMEOUT_MS };
    return await bounded(native.statfs(target), signal === undefined ? bound : { ...bound, signal });
  } catch (error) {
    throw fromSystemError(error, "statfs", target);
  }
}

/** Unmounts every mount of ours at or below `directory`, the last made first, whatever state its server is in. */
export async function unmountBelow(directory: string): Promise<void> {
  const table = await readMountTable();
  const ours = table.filter((entry) => entry.type === FUSE_TYPE && `${entry.target}/`.startsWith(`${directory}/`));
  for (const { target } of ours.reverse()) await unmountAll(target, () => true);
}
