import { readFile } from "node:fs/promises";
import { FamfsError, type Logger } from "../base/index.ts";
import { readSystemUuid, VolumeMedia, type Window, whyNotOwner } from "../media/index.ts";
import { alwaysMine, chooseSlot, type FileMaps, openVolumeTree, type VolumeTree } from "../tree/index.ts";
import type { Target } from "./target.ts";

type Layout = Parameters<FileMaps["create"]>[0]["layout"];

/** The command line in a volume's owner slots: this boot of this host. */
export async function localNode(): Promise<{ readonly nodeId: string; readonly bootId: string }> {
  const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  return { nodeId: "famfs-csi command line", bootId };
}

/**
 * The file system of a volume without a mount: for commands that write a file or two. The caller holds the device's
 * lock. Disposing seals what was written and gives the log up.
 */
export class LocalVolume implements AsyncDisposable {
  readonly tree: VolumeTree;
  readonly #media: VolumeMedia;
  readonly #maps: LocalFileMaps;

  private constructor(tree: VolumeTree, media: VolumeMedia, maps: LocalFileMaps) {
    this.tree = tree;
    this.#media = media;
    this.#maps = maps;
  }

  /** READ_ONLY for a stock file system of another host. Errors of `VolumeMedia.open`. */
  static async open({ device, region }: Target, logger: Logger): Promise<LocalVolume> {
    const media = await VolumeMedia.open(device, region, { writable: true });
    try {
      const systemUuid = await readSystemUuid();
      const why = media.extended ? undefined : whyNotOwner(media, systemUuid);
      if (why !== undefined) throw new FamfsError("READ_ONLY", why);
      const maps = new LocalFileMaps();
      const node = await localNode();
      const tree = await openVolumeTree({
        media,
        node: { ...node, slot: chooseSlot(media, node.nodeId) },
        terms: alwaysMine,
        systemUuid,
        maps,
        exclusive: () => true,
        logger,
      });
      return new LocalVolume(tree, media, maps);
    } catch (error) {
      await media[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Copies `bytes` to `offset` of a file that `prepareWrite` made large enough. */
  write(map: number, offset: number, bytes: Uint8Array): void {
    this.#maps.write(this.#media.window, map, offset, bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using stack = new AsyncDisposableStack();
    stack.use(this.#media);
    stack.use(this.tree);
    await this.tree.syncFileSystem();
  }
}

interface LocalMap {
  layout: Layout;
  size: number;
  filled: number;
  lastWriteMs: number;
}

/** File maps for one thread: there is no kernel that asks, so nothing is shared and nothing is in flight. */
class LocalFileMaps implements FileMaps {
  readonly #maps = new Map<number, LocalMap>();
  #next = 1;

  create({ layout, size, filled }: Parameters<FileMaps["create"]>[0]): number {
    this.#maps.set(this.#next, { layout, size, filled, lastWriteMs: 0 });
    return this.#next++;
  }

  setLayout(map: number, layout: Layout): void {
    this.#get(map).layout = layout;
  }

  setSize(map: number, size: number): void {
    this.#get(map).size = size;
  }

  setFilled(map: number, bytes: number): void {
    this.#get(map).filled = bytes;
  }

  setGuard(): void {}
  setSealed(): void {}
  setPaused(): void {}

  size(map: number): number {
    return this.#get(map).size;
  }

  filled(map: number): number {
    return this.#get(map).filled;
  }

  lastWriteMs(map: number): number {
    return this.#get(map).lastWriteMs;
  }

  idle(): Promise<void> {
    return Promise.resolve();
  }

  destroy(map: number): void {
    this.#maps.delete(map);
  }

  write(window: Window, map: number, offset: number, bytes: Uint8Array): void {
    const file = this.#get(map);
    for (let done = 0; done < bytes.length; ) {
      const place = locate(file.layout, offset + done);
      const length = Math.min(place.length, bytes.length - done);
      window.copyInDurable(place.offset, bytes.subarray(done, done + length));
      done += length;
    }
    file.filled = Math.max(file.filled, offset + bytes.length);
    file.size = Math.max(file.size, offset + bytes.length);
    file.lastWriteMs = Date.now();
  }

  #get(map: number): LocalMap {
    const found = this.#maps.get(map);
    if (found === undefined) throw new FamfsError("HANDLE_STALE", `file map ${map} is gone`);
    return found;
  }
}

/** Where file offset `at` is, and how many bytes from there are contiguous (format 6.4, 6.5). */
function locate(layout: Layout, at: number): { offset: number; length: number } {
  if (layout.type === "interleaved") {
    const { chunkSize, strips } = layout;
    const chunk = Math.floor(at / chunkSize);
    const strip = strips[chunk % strips.length];
    if (strip !== undefined) {
      const within = at % chunkSize;
      const offset = strip.offset + Math.floor(chunk / strips.length) * chunkSize + within;
      return { offset, length: chunkSize - within };
    }
  } else {
    let start = 0;
    for (const extent of layout.extents) {
      if (at < start + extent.length) return { offset: extent.offset + at - start, length: start + extent.length - at };
      start += extent.length;
    }
  }
  throw new FamfsError("OUT_OF_RANGE", `byte ${at} is beyond what was allocated`);
}
