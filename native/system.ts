/**
 * Calls of system.c: mounts and descriptors. Calls that can hang run each on a thread of its own and return a
 * promise, never on libuv's pool (four hung calls there stop DNS and file I/O for everybody). They cannot be
 * cancelled: who stops waiting must clean up what comes late (`src/node/bounded.ts`). All throw or reject with an
 * Error that has a string `code`, an `errno` and a `syscall`.
 */
export interface SystemCalls {
  /** mount(2); `flags` from MS. Follows a symlink at `target`. */
  mount(source: string, target: string, type: string, data: string, flags: number): Promise<void>;
  /** umount2(2); `flags` from UMOUNT. */
  unmount(target: string, flags: number): Promise<void>;
  /**
   * Binds `source` to `target`, which keeps the source's mount attributes and gets `attributes` (MOUNT_ATTR) before
   * anybody can see it. A later mount over one of the two does not appear over the other. Never follows a
   * symlink at `target`. ENOSYS: open_tree needs Linux 5.2, mount_setattr 5.12.
   */
  bindMount(source: string, target: string, attributes: number): Promise<void>;
  statfs(path: string): Promise<FileSystemNumbers>;
  realpath(path: string): Promise<string>;
  lstat(path: string): Promise<{ mode: number; uid: number; gid: number; size: number }>;

  /** A new /dev/fuse connection: O_RDWR, O_CLOEXEC, O_NONBLOCK. The caller owns the descriptor. */
  openFuse(): number;
  /** A connected pair of SOCK_SEQPACKET sockets, close-on-exec and non-blocking. The caller owns both. */
  socketPair(): [number, number];
  /** Sends a copy of `fd` with a number that tells the receiver which it is. Never blocks: EAGAIN, EPIPE. */
  sendDescriptor(socket: number, fd: number, tag: number): void;
  /**
   * The next descriptor (close-on-exec; the caller owns it), ours or one that fusermount sends. Never blocks: EAGAIN,
   * ECONNRESET, EBADMSG.
   */
  receiveDescriptor(socket: number): { descriptor: number; tag: number };
  /**
   * Ends this process `graceSeconds` after its parent died, whatever its threads do; 0: never.
   * False when `parent` is no longer its parent.
   */
  dieWithParent(parent: number, graceSeconds: number): boolean;
}

/** struct statfs: counts of blocks of `blockSize` bytes. */
export interface FileSystemNumbers {
  readonly blockSize: number;
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly availableBlocks: number;
  readonly files: number;
  readonly freeFiles: number;
  readonly type: number;
}

/** Flags of mount(2). */
export const MS = { RDONLY: 1, NOSUID: 2, NODEV: 4 } as const;

/** Flags of umount2(2). FORCE aborts the FUSE connection and needs CAP_SYS_ADMIN outside user namespaces. */
export const UMOUNT = { FORCE: 1, DETACH: 2, NOFOLLOW: 8 } as const;

/** Attributes of mount_setattr(2). */
export const MOUNT_ATTR = { RDONLY: 1, NOSUID: 2, NODEV: 4, NOEXEC: 8, NOATIME: 16, NODIRATIME: 128 } as const;

export interface FuseMountOptions {
  /** Shown as the source in the mount table. */
  readonly fsname: string;
  /** Largest READ the kernel sends; absent: the kernel's own limit. */
  readonly maxRead?: number;
  readonly readOnly?: boolean;
  /** The SELinux label of everything on it, checked: it is quoted here, not escaped. */
  readonly seLinuxContext?: string | undefined;
}

/** The file system type our mounts show in the mount table. */
export const FUSE_TYPE = "fuse.famfs-csi";

/**
 * Arguments of `mount` for a FUSE connection that `fd` opened in the same user namespace (fuse II.1). Without
 * default_permissions any uid would read 0600 files, without nosuid setuid programs would work (design 6).
 */
export function fuseMountArguments(
  fd: number,
  target: string,
  options: FuseMountOptions,
): [source: string, target: string, type: string, data: string, flags: number] {
  const data = [`fd=${fd}`, "rootmode=40000", "user_id=0", "group_id=0", "allow_other", "default_permissions"];
  if (options.maxRead !== undefined) data.push(`max_read=${options.maxRead}`);
  if (options.seLinuxContext !== undefined) data.push(`context="${options.seLinuxContext}"`);
  const flags = MS.NOSUID | MS.NODEV | (options.readOnly === true ? MS.RDONLY : 0);
  return [options.fsname, target, FUSE_TYPE, data.join(","), flags];
}
