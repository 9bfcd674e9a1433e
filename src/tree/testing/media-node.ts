import type { SimulatedVolume } from "../../../test/support/simulated-volume.ts";
import { silentLogger } from "../../base/index.ts";
import type { VolumeMedia } from "../../media/index.ts";
import { alwaysMine, openVolumeTree, type WriterTermsSource } from "../open-volume.ts";
import type { TreeSettings } from "../options.ts";
import type { TreeCondition } from "../ports.ts";
import { MemoryMaps } from "./memory-maps.ts";
import { WindowMemory } from "./node-memory.ts";
import { type ServedNode, servedNode } from "./served-node.ts";

export interface MediaNode extends ServedNode {
  readonly media: VolumeMedia;
}

/**
 * A node that serves a volume in (simulated) memory, as production does; it takes the log whenever it wants, or, with
 * `turns`, when it is its turn.
 */
export async function serveMedia(
  volume: SimulatedVolume,
  slot: number,
  options: {
    readonly host?: string;
    readonly settings?: Partial<TreeSettings>;
    readonly turns?: { readonly isStruck?: (slot: number) => boolean; readonly silenceMs?: number };
  } = {},
): Promise<MediaNode> {
  const { host, settings = {}, turns } = options;
  const media = await volume.open(host === undefined ? {} : { host });
  const memory = new WindowMemory(media.window);
  const maps = new MemoryMaps(memory, Date.now);
  const conditions: TreeCondition[] = [];
  const tree = await openVolumeTree({
    media,
    node: { nodeId: `node-${slot}`, bootId: "boot", slot },
    terms: turns === undefined ? alwaysMine : storeOf(turns),
    ...(turns?.silenceMs === undefined ? {} : { silenceMs: turns.silenceMs }),
    maps,
    exclusive: () => false,
    logger: silentLogger,
    settings: { shared: true, minimumHoldMs: 0, ...settings },
    onCondition: (condition) => void (condition && conditions.push(condition)),
  });
  return { ...servedNode(tree, maps), media, memory, conditions };
}

/** A store that gives no turn. */
function storeOf({ isStruck = () => false }: { readonly isStruck?: (slot: number) => boolean }): WriterTermsSource {
  const asked = () => Promise.reject(new Error("the store is asked for a turn"));
  return { acquire: asked, release: asked, isStruck: (slot) => Promise.resolve(isStruck(slot)) };
}
