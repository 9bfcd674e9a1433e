/** The handlers of the main thread: a row for each opcode. */
import { FamfsError } from "../base/index.ts";
import { directoryHandlers } from "./directory-handlers.ts";
import { fileHandlers } from "./file-handlers.ts";
import type { Handler, Row } from "./handler.ts";
import { nodeHandlers } from "./node-handlers.ts";
import type { Opcode } from "./opcode.ts";
import { xattrHandlers } from "./xattr-handlers.ts";

const never: Handler = {
  run(_on, request) {
    throw new FamfsError("INTERNAL", `${request.name} is answered by the session`);
  },
};

export const HANDLERS: Readonly<Record<Opcode, Row>> = {
  ...nodeHandlers,
  ...fileHandlers,
  ...directoryHandlers,
  ...xattrHandlers,
  INIT: never, // session.ts
  INTERRUPT: never, // session.ts
  DESTROY: { run() {} },
  NOTIFY_REPLY: { ignored: true }, // we never send RETRIEVE
  // ENOSYS: the kernel does it itself or reports it as unsupported, and does not ask again.
  ACCESS: { errno: "ENOSYS" }, // default_permissions decides
  BMAP: { errno: "ENOSYS" },
  POLL: { errno: "ENOSYS" }, // always readable and writable
  STATX: { errno: "ENOSYS" }, // GETATTR says all we know
  COPY_FILE_RANGE: { errno: "ENOSYS" },
  COPY_FILE_RANGE_64: { errno: "ENOSYS" },
  GETLK: { errno: "ENOSYS" }, // locks were not negotiated
  SETLK: { errno: "ENOSYS" },
  SETLKW: { errno: "ENOSYS" },
  SETUPMAPPING: { errno: "ENOSYS" },
  REMOVEMAPPING: { errno: "ENOSYS" },
  IOCTL: { errno: "ENOTTY" },
  TMPFILE: { errno: "EOPNOTSUPP" }, // O_TMPFILE: programs then make a named file
};
