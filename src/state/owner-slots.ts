/**
 * Owner slots of a volume: places in its memory that one node each writes. A node has one while it has the volume. It is
 * given back when the node detaches in good order; that of a node that was lost is given to another one last of all, when
 * no other is left, since a store of it may still be on its way.
 */
import type { FamfsVolume } from "./records.ts";

type Slots = FamfsVolume["slots"];

/** Of volumes whose records do not say how many they have. */
const SLOTS_OF_OLD = 63;

/** Nodes that may have a volume for writing at a time. */
export function slotCountOf({ slotCount }: Pick<FamfsVolume, "slotCount">): number {
  return slotCount ?? SLOTS_OF_OLD;
}

/** The lowest slot that no node has; undefined when there is none. */
export function freeSlot(volume: Pick<FamfsVolume, "slots" | "slotCount">): number | undefined {
  const taken = new Set(Object.values(volume.slots));
  const count = slotCountOf(volume);
  for (let slot = 0; slot < count; slot++) if (!taken.has(slot)) return slot;
  return undefined;
}

/** The slots when the nodes that `leaves` names are detached: one that still has it staged keeps its own. */
export function slotsWithout({ slots, staged }: FamfsVolume, leaves: (nodeId: string) => boolean): Slots {
  const kept = Object.entries(slots).filter(([nodeId]) => !leaves(nodeId) || staged[nodeId] !== undefined);
  return Object.fromEntries(kept);
}

/** The slots when `nodeId` is to get one: where none is free, a node that has the volume no more loses its own. */
export function slotsWithRoomFor(volume: FamfsVolume, nodeId: string): Slots {
  const { slots, staged, published, writer } = volume;
  if (slots[nodeId] !== undefined || freeSlot(volume) !== undefined) return slots;
  const lost = Object.keys(slots).find(
    (each) => staged[each] === undefined && published[each] === undefined && writer?.nodeId !== each,
  );
  return Object.fromEntries(Object.entries(slots).filter(([each]) => each !== lost));
}
