/**
 * The one error class. A code says what is wrong in our domain, never what a caller should be told: the tables
 * `src/csi/grpc-status.ts`, `src/fuse/errno.ts` and `src/cli/exit-code.ts` decide that, and a new code does not
 * compile until each of them has decided.
 */
export const ERROR_CODES = [
  // requests
  "INVALID_ARGUMENT", // a request, flag or parameter is malformed
  "UNKNOWN_PARAMETER", // a StorageClass parameter, volume attribute or option nobody knows
  "NOT_SUPPORTED", // well formed, but this build, kernel or volume does not do it
  "INTERNAL", // a defect of ours
  "CANCELLED",
  "DEADLINE_EXCEEDED",
  // devices and pools
  "DEVICE_NOT_FOUND",
  "DEVICE_IN_USE", // another process on this host holds the device's lock
  "DEVICE_NOT_BLANK", // it holds something that would be overwritten
  "DEVICE_MODE", // e.g. bound to fsdev_dax, or not a devdax device
  "DEVICE_TOO_SMALL",
  "LABEL_CORRUPT",
  "LABEL_CHANGED", // a device is not the one that was registered: initialised anew, or replaced
  "STORE_RESTORED", // the store is older than what the memory remembers
  "RECORDS_LOST", // the memory holds volumes that the store does not know
  "FABRIC_CONFLICT", // a node or device was registered in another fabric
  "POOL_NOT_FOUND",
  "POOL_FULL", // no free region of the wanted size
  // memory
  "MEMORY_ERROR", // SIGBUS or poison behind a mapping
  "OUT_OF_RANGE", // an access outside its region
  // media format
  "SUPERBLOCK_CORRUPT",
  "SUPERBLOCK_VERSION",
  "LOG_CORRUPT",
  "ENTRY_CORRUPT",
  "VOLUME_RECORD_CORRUPT",
  "LOG_FULL",
  // ownership
  "OVERLOADED", // too many requests wait already
  "CHANGES_LOST", // acknowledged, and dropped when this node lost the log
  "OWNER_STALE", // this node no longer owns the log (or the region was given away)
  "OWNER_BUSY", // another node holds the writer grant and did not give it up in time
  "LEASE_LOST",
  // volumes and CSI
  "VOLUME_NOT_FOUND",
  "VOLUME_EXISTS", // same name, other parameters
  "VOLUME_BUSY", // an operation on this volume is pending
  "VOLUME_PUBLISHED", // still published somewhere
  "VOLUME_NOT_STAGED",
  "MOUNT_BUSY", // somebody uses what is to be unmounted
  "VOLUME_NOT_READY",
  "NODE_NOT_FOUND",
  "NODE_FULL", // as many volumes are published to the node as it takes
  "NODE_NOT_IN_TOPOLOGY", // the node does not reach the volume's pool
  "TOPOLOGY_UNSATISFIABLE", // no pool reaches any of the places a volume was asked for
  "WRITER_CONFLICT", // the access mode admits one writer and another has it
  "PATH_CONFLICT", // a staging or target path is in use for something else
  "INVALID_PAGE_TOKEN",
  "CAPACITY_INCOMPATIBLE", // required bytes above limit bytes
  // state
  "CONFLICT", // compare-and-swap lost: somebody else wrote first
  "STORE_UNAVAILABLE",
  "NODE_UNAVAILABLE", // the FUSE server or node agent did not answer
  // files
  "FILE_NOT_FOUND",
  "FILE_EXISTS",
  "NOT_A_DIRECTORY",
  "IS_A_DIRECTORY",
  "DIRECTORY_NOT_EMPTY",
  "NAME_TOO_LONG",
  "NAME_INVALID",
  "SIZE_SEALED", // the size of a sealed file never changes
  "WRITE_PAST_END", // a write past the end of a sealed file
  "NO_SPACE", // no free extent in the volume
  "READ_ONLY",
  "NOT_PERMITTED", // what famfs never allows: hard links, device nodes
  "XATTR_UNSUPPORTED",
  "XATTR_NOT_FOUND",
  "BUFFER_TOO_SMALL",
  "INVALID_OPERATION", // e.g. rename of a directory into itself
  "HANDLE_STALE",
  "NODE_STALE", // a nodeid that is gone: another node removed or replaced it
  "SYSTEM", // an errno of a system call, with syscall and path
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** What a code carries for programs; a code that is not named here carries whatever helps its message. */
export interface ErrorDetails {
  SYSTEM: { errno: string; syscall: string; path?: string };
  ENTRY_CORRUPT: { index: number };
  POOL_FULL: { requestedBytes: number; largestFreeBytes: number };
  WRITER_CONFLICT: { nodeId: string };
  OWNER_BUSY: { nodeId: string };
}

type Details<Code extends ErrorCode> = Code extends keyof ErrorDetails
  ? ErrorDetails[Code]
  : Readonly<Record<string, unknown>>;

type Options<Code extends ErrorCode> = { cause?: unknown } & (Code extends keyof ErrorDetails
  ? { details: Details<Code> }
  : { details?: Details<Code> });

/**
 * Names the object, both values and the way out in `message`.
 * Recognised by shape (`isFamfsError`), so two loaded copies still agree.
 */
export class FamfsError<Code extends ErrorCode = ErrorCode> extends Error {
  override readonly name = "FamfsError";
  readonly code: Code;
  readonly details: Details<Code> | undefined;

  constructor(
    code: Code,
    message: string,
    ...[options]: Code extends keyof ErrorDetails ? [Options<Code>] : [Options<Code>?]
  ) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options?.details as Details<Code> | undefined;
  }
}

export function isFamfsError(error: unknown): error is FamfsError {
  return error instanceof Error && error.name === "FamfsError" && "code" in error;
}

/** True when `error` is ours and has one of `codes`. */
export function hasCode<Code extends ErrorCode>(error: unknown, ...codes: Code[]): error is FamfsError<Code> {
  return isFamfsError(error) && (codes as ErrorCode[]).includes(error.code);
}

/**
 * The one way in for errnos of Node's `fs` and of the addon: both throw errors with a string `code` such as
 * `ENOENT`. Anything else becomes INTERNAL.
 */
export function fromSystemError(error: unknown, syscall: string, path?: string): FamfsError {
  if (isFamfsError(error)) return error;
  const where = path === undefined ? "" : ` ${path}`;
  if (error instanceof Error && "code" in error && typeof error.code === "string" && /^E[A-Z0-9]+$/.test(error.code)) {
    return new FamfsError("SYSTEM", `${syscall}${where}: ${error.code} (${error.message})`, {
      details: { errno: error.code, syscall, ...(path === undefined ? {} : { path }) },
      cause: error,
    });
  }
  return new FamfsError("INTERNAL", `${syscall}${where}: ${messageOf(error)}`, { cause: error });
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
