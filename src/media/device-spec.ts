import { fileURLToPath } from "node:url";
import { FamfsError, parseSize } from "../base/index.ts";

/**
 * What a command line, a flag or a record calls a device. A path may be a devdax device or a regular file that
 * stands for one; which of them is seen when it is opened.
 */
export type DeviceSpec = PathSpec | { readonly type: "uuid"; readonly uuid: string };

export interface PathSpec {
  readonly type: "path";
  readonly path: string;
  /** Of a simulated device: created with this size when it is missing. */
  readonly sizeBytes: number | undefined;
  /**
   * Tests: a simulated device as the host of this name sees it, whose caches agree with those of no other host. What
   * it stores is hidden until it is written back, what it has loaded stays until it is invalidated.
   */
  readonly cachesOf?: string;
}

const HOST = /^[\w.-]{1,31}$/;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * `/dev/dax0.0`, `file:///dev/shm/pool0?size=4Gi` (and for tests `&caches=HOST`), a path of a file, or a device's UUID.
 * INVALID_ARGUMENT.
 */
export function parseDeviceSpec(text: string): DeviceSpec {
  if (text === "") throw invalid(text, "is empty");
  if (text.includes("\0")) throw invalid(text, "contains a NUL byte");
  if (UUID.test(text)) return { type: "uuid", uuid: text.toLowerCase() };
  if (/^[a-z][a-z0-9+.-]*:/i.test(text)) return parseUrl(text);
  return { type: "path", path: text, sizeBytes: undefined };
}

function parseUrl(text: string): DeviceSpec {
  const url = URL.parse(text);
  if (url === null || url.protocol !== "file:") throw invalid(text, "is not a file: URL");
  if (url.host !== "" || url.hash !== "") throw invalid(text, "has a host or a fragment");
  for (const name of url.searchParams.keys()) {
    if (name !== "size" && name !== "caches") {
      throw invalid(text, `has the parameter "${name}"; those known are "size" and, for tests, "caches"`);
    }
  }
  const [size, ...more] = url.searchParams.getAll("size");
  if (more.length > 0) throw invalid(text, "has several sizes");
  const host = url.searchParams.get("caches") ?? undefined;
  if (host !== undefined && !HOST.test(host)) throw invalid(text, "has caches of a host that is no name");
  url.search = "";
  let path: string;
  try {
    path = fileURLToPath(url);
  } catch {
    throw invalid(text, "has a path that cannot be decoded");
  }
  if (path === "/" || path.includes("\0")) throw invalid(text, "names no file");
  const spec: PathSpec = { type: "path", path, sizeBytes: size === undefined ? undefined : parseSize(size) };
  return host === undefined ? spec : { ...spec, cachesOf: host };
}

function invalid(text: string, why: string): FamfsError {
  return new FamfsError(
    "INVALID_ARGUMENT",
    `device "${text}" ${why}; write /dev/daxX.Y, a device UUID, the path of a file, or file:///PATH?size=4Gi`,
  );
}

export function showDeviceSpec(spec: DeviceSpec): string {
  return spec.type === "uuid" ? spec.uuid : spec.path;
}
