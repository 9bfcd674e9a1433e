import { constants } from "node:os";
import { type ErrorCode, isFamfsError } from "../base/index.ts";

/** Linux errnos by name. The FUSE protocol carries them as numbers. */
export const ERRNO = constants.errno;

type ErrnoName = keyof typeof ERRNO;

/** The only mapping to errno: what a program on a mount sees. A new code does not compile until decided here. */
export const FUSE_ERRNO = {
  INVALID_ARGUMENT: "EINVAL",
  UNKNOWN_PARAMETER: "EINVAL",
  NOT_SUPPORTED: "EOPNOTSUPP",
  INTERNAL: "EIO",
  CANCELLED: "EINTR",
  DEADLINE_EXCEEDED: "EAGAIN", // the file system waited as long as it promised; a later try may succeed
  DEVICE_NOT_FOUND: "ENODEV",
  DEVICE_IN_USE: "EBUSY",
  DEVICE_NOT_BLANK: "EBUSY",
  DEVICE_MODE: "EIO",
  DEVICE_TOO_SMALL: "EIO",
  LABEL_CORRUPT: "EIO",
  LABEL_CHANGED: "EIO",
  STORE_RESTORED: "EIO",
  RECORDS_LOST: "EIO",
  FABRIC_CONFLICT: "EIO",
  POOL_NOT_FOUND: "EIO",
  POOL_FULL: "ENOSPC",
  MEMORY_ERROR: "EIO",
  OUT_OF_RANGE: "EIO",
  SUPERBLOCK_CORRUPT: "EIO",
  SUPERBLOCK_VERSION: "EIO",
  LOG_CORRUPT: "EIO",
  ENTRY_CORRUPT: "EIO",
  VOLUME_RECORD_CORRUPT: "EIO",
  LOG_FULL: "ENOSPC",
  OVERLOADED: "EAGAIN",
  CHANGES_LOST: "EIO",
  OWNER_STALE: "ESTALE", // not EIO: nothing is broken, this node's turn is over
  OWNER_BUSY: "EAGAIN",
  LEASE_LOST: "EAGAIN",
  VOLUME_NOT_FOUND: "EIO",
  VOLUME_EXISTS: "EEXIST",
  VOLUME_BUSY: "EBUSY",
  VOLUME_PUBLISHED: "EBUSY",
  VOLUME_NOT_STAGED: "EIO",
  MOUNT_BUSY: "EBUSY",
  VOLUME_NOT_READY: "EAGAIN",
  NODE_NOT_FOUND: "EIO",
  NODE_FULL: "EIO",
  NODE_NOT_IN_TOPOLOGY: "EIO",
  WRITER_CONFLICT: "EROFS", // another node is the writer for as long as it is published: nothing to wait for
  PATH_CONFLICT: "EEXIST",
  TOPOLOGY_UNSATISFIABLE: "EIO",
  INVALID_PAGE_TOKEN: "EINVAL",
  CAPACITY_INCOMPATIBLE: "EINVAL",
  CONFLICT: "EAGAIN",
  STORE_UNAVAILABLE: "EAGAIN",
  NODE_UNAVAILABLE: "EAGAIN",
  FILE_NOT_FOUND: "ENOENT",
  FILE_EXISTS: "EEXIST",
  NOT_A_DIRECTORY: "ENOTDIR",
  IS_A_DIRECTORY: "EISDIR",
  DIRECTORY_NOT_EMPTY: "ENOTEMPTY",
  NAME_TOO_LONG: "ENAMETOOLONG",
  NAME_INVALID: "EINVAL",
  SIZE_SEALED: "EPERM",
  WRITE_PAST_END: "EFBIG",
  NO_SPACE: "ENOSPC",
  READ_ONLY: "EROFS",
  NOT_PERMITTED: "EPERM",
  XATTR_UNSUPPORTED: "ENOTSUP",
  XATTR_NOT_FOUND: "ENODATA",
  BUFFER_TOO_SMALL: "ERANGE",
  INVALID_OPERATION: "EINVAL",
  HANDLE_STALE: "EBADF",
  NODE_STALE: "ESTALE", // the kernel then looks the path up again, and finds what took its place
  SYSTEM: "EIO", // replaced by the errno the error carries, where FUSE can carry it
} as const satisfies Record<ErrorCode, ErrnoName>;

/**
 * The errno for whatever an operation threw. The kernel refuses replies beyond 511 and takes some numbers below as
 * orders (ENOSYS: never ask again), so a foreign errno passes only when it is one a file system may return.
 */
export function errnoOf(error: unknown): number {
  if (!isFamfsError(error)) return ERRNO.EIO;
  if (error.code !== "SYSTEM") return ERRNO[FUSE_ERRNO[error.code]];
  const name = (error.details as { errno?: unknown } | undefined)?.errno;
  const value = typeof name === "string" ? (ERRNO as Record<string, number>)[name] : undefined;
  return value === undefined || value <= 0 || value >= 512 || value === ERRNO.ENOSYS ? ERRNO.EIO : value;
}

/** True for errors that are a defect rather than an answer: they are logged with their stack. */
export function isDefect(error: unknown): boolean {
  return !isFamfsError(error) || error.code === "INTERNAL";
}
