import { lstat, mkdir, rm } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, resolve } from "node:path";
import { FamfsError, fromSystemError } from "../base/index.ts";

/** `sun_path` less its NUL, and less what binding under a temporary name beside it needs. */
const MAX_PATH = 107 - "..12345678".length;

/**
 * The socket path of a CSI endpoint: `unix:///run/csi.sock`, `unix:relative.sock` or a bare path. TCP is refused: who
 * may call is decided by the socket's permissions, and there is nothing else that would decide it.
 */
export function parseEndpoint(endpoint: string): string {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(endpoint)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== "unix") {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `endpoint "${endpoint}": only Unix sockets are served, such as unix:///run/famfs-csi/csi.sock`,
    );
  }
  const path = endpoint.replace(/^unix:(\/\/)?/i, "");
  if (path === "" || path.includes("\0"))
    throw new FamfsError("INVALID_ARGUMENT", `endpoint "${endpoint}" has no path`);
  const absolute = resolve(path);
  if (Buffer.byteLength(absolute) > MAX_PATH) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `endpoint "${endpoint}": the path has ${Buffer.byteLength(absolute)} bytes, a socket's can have ${MAX_PATH} here`,
    );
  }
  return absolute;
}

/**
 * Makes way for a socket at `path`: its directory exists and nothing that still answers is there. Only a
 * socket is ever removed.
 */
export async function clearEndpoint(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true }).catch((error: unknown) => {
    throw fromSystemError(error, "mkdir", dirname(path));
  });
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw fromSystemError(error, "lstat", path);
  });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `endpoint ${path} exists and is not a socket; remove it or choose another`,
    );
  }
  if (await isServed(path)) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `endpoint ${path} is served by another process; stop it or choose another`,
    );
  }
  await rm(path, { force: true });
}

function isServed(path: string): Promise<boolean> {
  const { promise, resolve: settle } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once("connect", () => settle(true));
  // ECONNREFUSED and ENOENT: nobody listens. EAGAIN (a full backlog) and anything else: somebody may.
  socket.once("error", (error: NodeJS.ErrnoException) =>
    settle(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"),
  );
  return promise.finally(() => socket.destroy());
}
