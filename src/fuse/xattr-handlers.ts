import { FamfsError } from "../base/index.ts";
import type { Handler } from "./handler.ts";
import { nameOf } from "./node-handlers.ts";
import type { ReplyWriter } from "./reply.ts";
import type { Request } from "./request.ts";
import { GetxattrIn, SetxattrIn } from "./wire.ts";

/** Asked with size 0, the answer is how many bytes there are; otherwise the bytes, ERANGE when they do not fit. */
function writeValue(reply: ReplyWriter, value: Uint8Array, request: Request): void {
  const size = request.view.getUint32(GetxattrIn.offsets.size, true);
  if (size === 0) {
    reply.u32(value.byteLength);
    return;
  }
  reply.start(size);
  reply.data(value);
}

const GETXATTR: Handler<Uint8Array> = {
  run: (on, request, by) => on.operations.getExtendedAttribute(request.nodeid, nameOf(request, 0), by),
  write: writeValue,
};

const LISTXATTR: Handler<string[]> = {
  run: (on, request, by) => on.operations.listExtendedAttributes(request.nodeid, by),
  write: (reply, names, request) =>
    writeValue(reply, Buffer.from(names.map((name) => `${name}\0`).join(""), "latin1"), request),
};

const SETXATTR: Handler<void> = {
  run(on, request, by) {
    const size = request.view.getUint32(SetxattrIn.offsets.size, true);
    if (size !== request.bytes.byteLength - request.dataAt) {
      throw new FamfsError(
        "INVALID_ARGUMENT",
        `SETXATTR of ${size} bytes brings ${request.bytes.byteLength - request.dataAt}`,
      );
    }
    const value = request.bytes.slice(request.dataAt);
    return on.operations.setExtendedAttribute(request.nodeid, nameOf(request, 0), value, by);
  },
};

const REMOVEXATTR: Handler<void> = {
  run: (on, request, by) => on.operations.removeExtendedAttribute(request.nodeid, nameOf(request, 0), by),
};

export const xattrHandlers = { GETXATTR, LISTXATTR, SETXATTR, REMOVEXATTR } as const;
