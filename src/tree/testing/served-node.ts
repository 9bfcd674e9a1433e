import type { Forgettable, TreeCondition } from "../ports.ts";
import type { VolumeTree } from "../volume-tree.ts";
import type { MemoryMaps } from "./memory-maps.ts";
import type { NodeMemory } from "./node-memory.ts";

/** A node that serves the volume: its tree, what its workers do, and what its kernel was told. */
export interface ServedNode {
  readonly tree: VolumeTree;
  readonly maps: MemoryMaps;
  readonly conditions: TreeCondition[];
  /** What the kernel was told to forget. */
  readonly told: string[];
  /** How much of that each message held. */
  readonly messages: number[];
  readonly memory: NodeMemory;
  /** As processes write: the worker first, `prepareWrite` where it may not. Bytes that were written. */
  write(handle: { handle: number; map: number }, offset: number, data: Uint8Array | string): Promise<number>;
  read(handle: { map: number }): string;
}

/** Attaches a kernel to `tree` that notes what it is told. */
export function servedNode(
  tree: VolumeTree,
  maps: MemoryMaps,
): Pick<ServedNode, "tree" | "maps" | "told" | "messages" | "write" | "read"> {
  const told: string[] = [];
  const messages: number[] = [];
  tree.attachKernel(
    {
      forget: async (what) => {
        messages.push(what.length);
        for (const one of what) told.push(kernelLine(one));
      },
      doubtNames: () => told.push("all names") > 0,
    },
    { directIoAllowMmap: true },
  );
  return {
    tree,
    maps,
    told,
    messages,
    async write(handle, offset, data) {
      const bytes = typeof data === "string" ? Buffer.from(data, "latin1") : data;
      if (maps.write(handle.map, offset, bytes)) return bytes.byteLength;
      const write = { offset, end: offset + bytes.byteLength, isWriteBack: false };
      const end = await tree.prepareWrite(handle.handle, write);
      const part = bytes.subarray(0, end - offset);
      if (!maps.writePrepared(handle.map, offset, part))
        throw new Error("prepareWrite did not make the write possible");
      return part.byteLength;
    },
    read: (handle) => Buffer.from(maps.read(handle.map, 0, 2 ** 30)).toString("latin1"),
  };
}

/** As the kernel is told: of an inode its pages from 0 to the end, or none (-1). */
function kernelLine(what: Forgettable): string {
  switch (what.type) {
    case "name":
      return `entry ${what.parent} ${what.name}`;
    case "removed":
      return `delete ${what.parent} ${what.nodeid} ${what.name}`;
    case "attributes":
      return `inode ${what.nodeid} 0 -1`;
    case "content":
      return `inode ${what.nodeid} 0 0`;
  }
}
