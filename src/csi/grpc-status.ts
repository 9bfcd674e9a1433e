import { status } from "@grpc/grpc-js";
import { type ErrorCode, isFamfsError } from "../base/index.ts";

/**
 * The only mapping to gRPC. What decides a row: may the operation still be running? The provisioner assumes so for
 * ABORTED, UNAVAILABLE, CANCELLED and DEADLINE_EXCEEDED alone; any other code tells it that the attempt is over.
 */
export const GRPC_STATUS = {
  INVALID_ARGUMENT: status.INVALID_ARGUMENT,
  UNKNOWN_PARAMETER: status.INVALID_ARGUMENT,
  NOT_SUPPORTED: status.FAILED_PRECONDITION,
  INTERNAL: status.INTERNAL,
  CANCELLED: status.CANCELLED,
  DEADLINE_EXCEEDED: status.DEADLINE_EXCEEDED,

  DEVICE_NOT_FOUND: status.FAILED_PRECONDITION, // NOT_FOUND would speak of the volume
  DEVICE_IN_USE: status.UNAVAILABLE,
  DEVICE_NOT_BLANK: status.FAILED_PRECONDITION,
  DEVICE_MODE: status.FAILED_PRECONDITION,
  DEVICE_TOO_SMALL: status.FAILED_PRECONDITION,
  LABEL_CORRUPT: status.DATA_LOSS,
  LABEL_CHANGED: status.FAILED_PRECONDITION,
  STORE_RESTORED: status.FAILED_PRECONDITION,
  RECORDS_LOST: status.FAILED_PRECONDITION,
  FABRIC_CONFLICT: status.FAILED_PRECONDITION,
  POOL_NOT_FOUND: status.INVALID_ARGUMENT,
  POOL_FULL: status.RESOURCE_EXHAUSTED,

  MEMORY_ERROR: status.DATA_LOSS,
  OUT_OF_RANGE: status.DATA_LOSS, // an access the media asked for; CSI's OUT_OF_RANGE is CAPACITY_INCOMPATIBLE

  SUPERBLOCK_CORRUPT: status.DATA_LOSS,
  SUPERBLOCK_VERSION: status.FAILED_PRECONDITION,
  LOG_CORRUPT: status.DATA_LOSS,
  ENTRY_CORRUPT: status.DATA_LOSS,
  VOLUME_RECORD_CORRUPT: status.DATA_LOSS,
  LOG_FULL: status.RESOURCE_EXHAUSTED,

  OVERLOADED: status.RESOURCE_EXHAUSTED,
  CHANGES_LOST: status.DATA_LOSS,
  OWNER_STALE: status.UNAVAILABLE, // a retry reaches the new owner
  OWNER_BUSY: status.UNAVAILABLE,
  LEASE_LOST: status.UNAVAILABLE,

  VOLUME_NOT_FOUND: status.NOT_FOUND,
  VOLUME_EXISTS: status.ALREADY_EXISTS,
  VOLUME_BUSY: status.ABORTED, // CSI "Operation pending for volume"
  VOLUME_PUBLISHED: status.FAILED_PRECONDITION,
  VOLUME_NOT_STAGED: status.FAILED_PRECONDITION,
  MOUNT_BUSY: status.UNAVAILABLE, // the CO calls again until nobody is in the way
  VOLUME_NOT_READY: status.UNAVAILABLE,
  NODE_NOT_FOUND: status.NOT_FOUND,
  NODE_FULL: status.RESOURCE_EXHAUSTED, // CSI ControllerPublishVolume "Max volumes attached"
  NODE_NOT_IN_TOPOLOGY: status.FAILED_PRECONDITION,
  TOPOLOGY_UNSATISFIABLE: status.RESOURCE_EXHAUSTED, // CSI CreateVolume "Unable to provision in accessible_topology"
  WRITER_CONFLICT: status.FAILED_PRECONDITION,
  PATH_CONFLICT: status.ALREADY_EXISTS,
  INVALID_PAGE_TOKEN: status.ABORTED, // CSI ListVolumes "Invalid starting_token"
  CAPACITY_INCOMPATIBLE: status.OUT_OF_RANGE,

  CONFLICT: status.ABORTED,
  STORE_UNAVAILABLE: status.UNAVAILABLE,
  NODE_UNAVAILABLE: status.UNAVAILABLE,

  // Answers of the file system to a file operation. No RPC operates on files, so one that arrives here is a defect.
  FILE_NOT_FOUND: status.INTERNAL,
  FILE_EXISTS: status.INTERNAL,
  NOT_A_DIRECTORY: status.INTERNAL,
  IS_A_DIRECTORY: status.INTERNAL,
  DIRECTORY_NOT_EMPTY: status.INTERNAL,
  NAME_TOO_LONG: status.INTERNAL,
  NAME_INVALID: status.INTERNAL,
  SIZE_SEALED: status.INTERNAL,
  WRITE_PAST_END: status.INTERNAL,
  NO_SPACE: status.RESOURCE_EXHAUSTED, // sealing at unpublish may meet it
  READ_ONLY: status.FAILED_PRECONDITION,
  NOT_PERMITTED: status.INTERNAL,
  XATTR_UNSUPPORTED: status.INTERNAL,
  XATTR_NOT_FOUND: status.INTERNAL,
  BUFFER_TOO_SMALL: status.INTERNAL,
  INVALID_OPERATION: status.INTERNAL,
  HANDLE_STALE: status.INTERNAL,
  NODE_STALE: status.INTERNAL,
  SYSTEM: status.INTERNAL,
} as const satisfies Record<ErrorCode, status>;

/** The status an error leaves the process as. What we did not throw on purpose says nothing about itself outside. */
export function toGrpcStatus(error: unknown): { code: status; details: string } {
  if (!isFamfsError(error))
    return { code: status.INTERNAL, details: "internal error; the plugin's log has the details" };
  return { code: GRPC_STATUS[error.code], details: error.message };
}
