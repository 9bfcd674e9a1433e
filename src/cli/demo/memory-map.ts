import { type Extent, formatSize } from "../../base/index.ts";
import type { SealedNode } from "../../format/index.ts";
import { openDevice, scanVolumes } from "../../media/index.ts";
import { showName, table } from "../output.ts";
import { readVolume } from "../read-volume.ts";
import { volumeName } from "../target.ts";

interface Piece extends Extent {
  readonly what: string;
}

/** The map of a device, as the memory itself says: label, and of each volume superblock, log and every extent. */
export async function memoryMap(devicePath: string): Promise<string> {
  await using device = await openDevice(devicePath, { writable: false, create: false });
  const pieces: Piece[] = [{ offset: 0, length: 2 ** 21, what: "device label" }];
  for (const volume of await scanVolumes(device)) {
    const { region } = volume;
    const { tree, summary } = await readVolume({ device, region, [Symbol.asyncDispose]: async () => undefined });
    const name = showName(volumeName(volume));
    const logLength = [...(tree?.daxdevs.values() ?? [])][0]?.dataOffset ?? 2 ** 21;
    pieces.push({ offset: region.offset, length: 2 ** 21, what: `${name}: superblock, volume record, owner claims` });
    pieces.push({
      offset: region.offset + 2 ** 21,
      length: logLength - 2 ** 21,
      what: `${name}: log, ${summary?.logEntries ?? 0} of ${summary?.logCapacity ?? 0} entries, epoch ${summary?.epoch ?? 0}`,
    });
    for (const { node, path } of tree === undefined ? [] : files(tree.root, "")) {
      const extents = node.layout?.type === "simple" ? node.layout.extents : (node.layout?.strips ?? []);
      for (const extent of extents) {
        pieces.push({
          offset: region.offset + extent.offset,
          length: extent.length,
          what: `${name}: ${showName(path)}, ${formatSize(node.size)}`,
        });
      }
    }
  }
  return table<Piece>(
    [
      { title: "  OFFSET", align: "right", value: ({ offset }) => `0x${offset.toString(16).padStart(10, "0")}` },
      { title: "LENGTH", align: "right", value: ({ length }) => formatSize(length) },
      { title: "WHAT", value: ({ what }) => what },
    ],
    pieces.sort((x, y) => x.offset - y.offset),
  );
}

function* files(directory: SealedNode, prefix: string): Generator<{ node: SealedNode; path: string }> {
  for (const node of directory.children?.values() ?? []) {
    if (node.kind === "directory") yield* files(node, `${prefix}${node.name}/`);
    else yield { node, path: `${prefix}${node.name}` };
  }
}
