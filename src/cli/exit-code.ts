import { type ErrorCode, hasCode, isFamfsError } from "../base/index.ts";

/**
 * The one table of exit codes: those of sysexits.h, so that scripts can tell "ask again" (75) from "look at the
 * device" (65). 0 is success and 1 a negative answer of a command that ran (fsck with findings, a failed demo
 * check).
 */
export const EXIT = {
  ok: 0,
  negative: 1,
  usage: 64,
  data: 65,
  noInput: 66,
  unavailable: 69,
  internal: 70,
  cannotCreate: 73,
  io: 74,
  tryAgain: 75,
  noPermission: 77,
} as const;

type Exit = (typeof EXIT)[keyof typeof EXIT];

export const EXIT_CODE = {
  INVALID_ARGUMENT: EXIT.usage,
  UNKNOWN_PARAMETER: EXIT.usage,
  NOT_SUPPORTED: EXIT.unavailable,
  INTERNAL: EXIT.internal,
  CANCELLED: EXIT.tryAgain,
  DEADLINE_EXCEEDED: EXIT.tryAgain,
  DEVICE_NOT_FOUND: EXIT.noInput,
  DEVICE_IN_USE: EXIT.tryAgain,
  DEVICE_NOT_BLANK: EXIT.cannotCreate,
  DEVICE_MODE: EXIT.unavailable,
  DEVICE_TOO_SMALL: EXIT.cannotCreate,
  LABEL_CORRUPT: EXIT.data,
  LABEL_CHANGED: EXIT.data,
  STORE_RESTORED: EXIT.data,
  RECORDS_LOST: EXIT.data,
  FABRIC_CONFLICT: EXIT.usage,
  POOL_NOT_FOUND: EXIT.noInput,
  POOL_FULL: EXIT.cannotCreate,
  MEMORY_ERROR: EXIT.io,
  OUT_OF_RANGE: EXIT.data,
  SUPERBLOCK_CORRUPT: EXIT.data,
  SUPERBLOCK_VERSION: EXIT.data,
  LOG_CORRUPT: EXIT.data,
  ENTRY_CORRUPT: EXIT.data,
  VOLUME_RECORD_CORRUPT: EXIT.data,
  LOG_FULL: EXIT.cannotCreate,
  OVERLOADED: EXIT.tryAgain,
  CHANGES_LOST: EXIT.io,
  OWNER_STALE: EXIT.tryAgain,
  OWNER_BUSY: EXIT.tryAgain,
  LEASE_LOST: EXIT.tryAgain,
  VOLUME_NOT_FOUND: EXIT.noInput,
  VOLUME_EXISTS: EXIT.cannotCreate,
  VOLUME_BUSY: EXIT.tryAgain,
  VOLUME_PUBLISHED: EXIT.tryAgain,
  VOLUME_NOT_STAGED: EXIT.noInput,
  MOUNT_BUSY: EXIT.tryAgain,
  VOLUME_NOT_READY: EXIT.tryAgain,
  NODE_NOT_FOUND: EXIT.noInput,
  NODE_FULL: EXIT.cannotCreate,
  NODE_NOT_IN_TOPOLOGY: EXIT.unavailable,
  TOPOLOGY_UNSATISFIABLE: EXIT.unavailable,
  WRITER_CONFLICT: EXIT.tryAgain,
  PATH_CONFLICT: EXIT.cannotCreate,
  INVALID_PAGE_TOKEN: EXIT.usage,
  CAPACITY_INCOMPATIBLE: EXIT.usage,
  CONFLICT: EXIT.tryAgain,
  STORE_UNAVAILABLE: EXIT.unavailable,
  NODE_UNAVAILABLE: EXIT.unavailable,
  FILE_NOT_FOUND: EXIT.noInput,
  FILE_EXISTS: EXIT.cannotCreate,
  NOT_A_DIRECTORY: EXIT.noInput,
  IS_A_DIRECTORY: EXIT.noInput,
  DIRECTORY_NOT_EMPTY: EXIT.cannotCreate,
  NAME_TOO_LONG: EXIT.usage,
  NAME_INVALID: EXIT.usage,
  SIZE_SEALED: EXIT.cannotCreate,
  WRITE_PAST_END: EXIT.cannotCreate,
  NO_SPACE: EXIT.cannotCreate,
  READ_ONLY: EXIT.cannotCreate,
  NOT_PERMITTED: EXIT.noPermission,
  XATTR_UNSUPPORTED: EXIT.unavailable,
  XATTR_NOT_FOUND: EXIT.noInput,
  BUFFER_TOO_SMALL: EXIT.usage,
  INVALID_OPERATION: EXIT.usage,
  HANDLE_STALE: EXIT.io,
  NODE_STALE: EXIT.io,
  SYSTEM: EXIT.io,
} as const satisfies Record<ErrorCode, Exit>;

/** Permission errnos deserve their own code: the way out is another user, not another argument. */
const ERRNO_EXIT: Readonly<Record<string, Exit>> = {
  EACCES: EXIT.noPermission,
  EPERM: EXIT.noPermission,
  ENOENT: EXIT.noInput,
  ENOSPC: EXIT.cannotCreate,
};

export function exitCodeOf(error: unknown): Exit {
  if (!isFamfsError(error)) return EXIT.internal;
  const errno = hasCode(error, "SYSTEM") ? error.details?.errno : undefined;
  return (errno === undefined ? undefined : ERRNO_EXIT[errno]) ?? EXIT_CODE[error.code];
}
