import { type Condition, eventText, type FamfsVolume, type NodeRecord, type StoredRecord } from "../state/index.ts";
import type { ControllerContext } from "./context.ts";

/*
 * A region is not given to another volume, nor erased, while a node may still write to it: a node that staged the
 * volume and has neither acknowledged its end (NodeUnstage, or giving it up after a forced detach), nor booted since,
 * nor is gone. Only the leader ends a quarantine.
 */

/**
 * The nodes that may still write. `nodes` are to be read after the volume: a node has a record before it stages
 * anything, so only one that is really gone is not among them.
 */
function nodesThatMayWrite({ staged }: FamfsVolume, nodes: readonly NodeRecord[]): string[] {
  return Object.entries(staged)
    .filter(([nodeId, { bootId }]) => nodes.some((node) => node.nodeId === nodeId && node.bootId === bootId))
    .map(([nodeId]) => nodeId);
}

const QUARANTINED = "Quarantined";

/**
 * Brings `staged` up to date, and says in a condition when a deleted volume waits for silent nodes. Answers the record
 * as it is then. `nodes` reads them all, after the volume was read. CONFLICT when it changed meanwhile: it is looked at
 * again in the next round.
 */
export async function endQuarantine(
  { store, liveness }: ControllerContext,
  volume: StoredRecord<"volumes">,
  nodes: () => Promise<readonly NodeRecord[]>,
): Promise<StoredRecord<"volumes">> {
  // Asked of every volume that is in use, in every round: a request only when a node is not as it was.
  const known = Object.entries(volume.staged).every(([nodeId, { bootId }]) => liveness.get(nodeId)?.bootId === bootId);
  const holding = new Set(known ? Object.keys(volume.staged) : nodesThatMayWrite(volume, await nodes()));
  const staged = Object.fromEntries(Object.entries(volume.staged).filter(([nodeId]) => holding.has(nodeId)));
  const silent = [...holding].filter((nodeId) => !liveness.isAlive(nodeId)).toSorted();
  const message =
    volume.phase === "Reclaiming" && silent.length > 0
      ? `deleted, but not erased yet: ${silent.join(", ")} had it mounted and does not answer`
      : undefined;
  const text = message === undefined ? undefined : eventText("EraseWaits", message);
  const present = volume.conditions.find(({ type }) => type === QUARANTINED);
  if (Object.keys(staged).length === Object.keys(volume.staged).length && present?.message === text) return volume;
  const others = volume.conditions.filter((condition) => condition !== present);
  const conditions = text === undefined ? others : [...others, quarantined(text)];
  return await store.replace("volumes", { ...volume, staged, conditions });
}

function quarantined(message: string): Condition {
  const lastTransitionTime = new Date().toISOString();
  return { type: QUARANTINED, status: "True", reason: "EraseWaits", message, lastTransitionTime };
}
