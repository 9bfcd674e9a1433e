import { closeSync } from "node:fs";
import { native } from "../../native/index.ts";
import { type Extent, FamfsError, fromSystemError, type Logger, messageOf } from "../base/index.ts";
import { FuseServer } from "../fuse/index.ts";
import type { Device } from "../media/index.ts";
import { alwaysMine, chooseSlot } from "../tree/index.ts";
import { fusermount, fuserunmount } from "./fusermount.ts";
import { mountAt, readMountTable } from "./mount-table.ts";
import { mountVolume, pathKind, resolveMountPath, unmountAll } from "./mounts.ts";
import { setReadAhead } from "./read-ahead.ts";
import { serveVolume } from "./volume-server.ts";

export interface LocalMountOptions {
  /** Open and locked by the caller. */
  readonly device: Device;
  readonly region: Extent;
  readonly directory: string;
  readonly readOnly: boolean;
  /** Mounts and unmounts for us where this process may not: the path of `fusermount3` (findFusermount). */
  readonly fusermount?: string | undefined;
  /** This process in the volume's owner slots. */
  readonly node: { readonly nodeId: string; readonly bootId: string };
  readonly logger: Logger;
}

export interface LocalMount extends AsyncDisposable {
  readonly directory: string;
  /** Resolves when somebody else unmounted it. */
  readonly ended: Promise<void>;
}

/** The directory as the mount table will show it. NOT_A_DIRECTORY. */
export async function localMountPoint(name: string): Promise<string> {
  const directory = (await resolveMountPath(name, "directory")) ?? name;
  if ((await pathKind(directory)) === "directory") return directory;
  throw new FamfsError("NOT_A_DIRECTORY", `${name} is not a directory; make it first: mkdir -p ${name}`);
}

/**
 * A volume mounted and served by this process, without any driver around it: what `famfs-csi mount` is. The writer
 * grant is always this process's, which the device's lock makes true on this host; other hosts must not write
 * meanwhile. Disposing seals, unmounts and gives the log up. NOT_A_DIRECTORY, and what opening a volume throws.
 */
export async function mountLocally(options: LocalMountOptions): Promise<LocalMount> {
  const { device, region, node, logger } = options;
  const directory = await localMountPoint(options.directory);
  await using stack = new AsyncDisposableStack();
  const fuse = stack.use(await FuseServer.open({ logger }));
  const { fusermount: program } = options;
  const unmount = ({ force }: { readonly force: boolean }) =>
    program === undefined ? unmountAll(directory, () => force) : fuserunmount(program, directory, { lazy: force });
  const mount = { source: device.path, readOnly: options.readOnly };
  const fd = program === undefined ? await mountHere(directory, mount) : await fusermount(program, directory, mount);
  stack.defer(() => unmount({ force: true }));
  const served = stack.use(
    await serveVolume({
      device,
      region,
      fuse,
      fd,
      node: { ...node, slot: (media) => chooseSlot(media, node.nodeId) },
      terms: alwaysMine,
      settings: { readOnly: options.readOnly, soleOwner: true },
      exclusive: true,
      logger,
    }),
  );
  const entry = mountAt(await readMountTable(), directory);
  if (entry !== undefined) await setReadAhead(entry, logger);
  // Unmounted before the server goes: whatever the kernel still has to write comes while there is somebody to take it.
  stack.defer(() =>
    unmount({ force: false }).catch((error: unknown) =>
      logger.warn(
        { directory, reason: messageOf(error) },
        "still in use: sealed and detached, who uses it gets errors",
      ),
    ),
  );
  const owned = stack.move();
  return { directory, ended: served.ended, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function mountHere(directory: string, options: { source: string; readOnly: boolean }): Promise<number> {
  const fd = openFuse();
  try {
    await mountVolume(fd, directory, options);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openFuse(): number {
  try {
    return native.openFuse();
  } catch (error) {
    throw fromSystemError(error, "open", "/dev/fuse");
  }
}
