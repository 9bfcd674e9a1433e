/** A volume in a temporary simulated device, served on a real mount: for behaviour tests. */
import { closeSync, mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { native } from "../../native/index.ts";
import { fuseMountArguments, UMOUNT } from "../../native/system.ts";
import { silentLogger } from "../../src/base/index.ts";
import { FuseServer } from "../../src/fuse/index.ts";
import type { VolumeFormat } from "../../src/media/index.ts";
import { type ServedVolume, type ServeVolumeOptions, serveVolume } from "../../src/node/volume-server.ts";
import { alwaysMine, chooseSlot } from "../../src/tree/index.ts";
import { type SimulatedVolume, simulatedVolume } from "./simulated-volume.ts";

export type MountOptions = Partial<Omit<ServeVolumeOptions, "device" | "region" | "fuse" | "fd" | "node">> & {
  readonly nodeId?: string;
};

export class MountedVolume implements AsyncDisposable {
  readonly path: string;
  readonly served: ServedVolume;
  readonly #stack: AsyncDisposableStack;

  private constructor(path: string, served: ServedVolume, stack: AsyncDisposableStack) {
    this.path = path;
    this.served = served;
    this.#stack = stack;
  }

  /** Unmounted and sealed at the end of the scope. */
  static async open(fuse: FuseServer, volume: SimulatedVolume, options: MountOptions = {}): Promise<MountedVolume> {
    await using stack = new AsyncDisposableStack();
    const path = mkdtempSync(join(tmpdir(), "famfs-mount-"));
    stack.defer(() => rmdirSync(path));
    const fd = native.openFuse();
    try {
      await native.mount(...fuseMountArguments(fd, path, { fsname: "famfs-test" }));
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    const unmount = stack.use({
      [Symbol.asyncDispose]: () => native.unmount(path, UMOUNT.DETACH).catch(() => {}), // a test may have done it
    });
    const nodeId = options.nodeId ?? "node-a";
    const served = await serveVolume({
      device: volume.device,
      region: volume.region,
      fuse,
      fd,
      node: { nodeId, bootId: "boot", slot: (media) => chooseSlot(media, nodeId) },
      terms: alwaysMine,
      exclusive: true,
      logger: silentLogger,
      ...options,
    });
    const all = new AsyncDisposableStack();
    all.defer(() => rmdirSync(path));
    all.use(served);
    all.use(unmount);
    stack.move();
    return new MountedVolume(path, served, all);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** A server and a volume for one test; `mount` may be called many times, also side by side. */
export async function behaviourVolume(
  options: { dataBytes?: number; format?: Partial<VolumeFormat> } = {},
): Promise<
  AsyncDisposable & { volume: SimulatedVolume; fuse: FuseServer; mount(options?: MountOptions): Promise<MountedVolume> }
> {
  await using stack = new AsyncDisposableStack();
  const volume = stack.use(await simulatedVolume(options));
  const fuse = stack.use(await FuseServer.open({ workers: 2 }));
  const owned = stack.move();
  return {
    volume,
    fuse,
    mount: (mountOptions) => MountedVolume.open(fuse, volume, mountOptions),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
