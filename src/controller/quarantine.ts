import { showNames } from "../base/index.ts";
import { type Condition, eventText, type FamfsVolume, type NodeRecord, type StoredRecord } from "../state/index.ts";
import type { ControllerContext } from "./context.ts";

/*
 * A region is not given to another volume, nor erased, while a node may still write to it: a node that staged the
 * volume and has neither acknowledged its end (NodeUnstage, or giving it up after a forced detach), nor booted since,
 * nor is gone. Only the leader ends a quarantine.
 */

/** Facts about nodes that one round of maintenance finds out once. */
export interface KnownNodes {
  /** All that have a record, read after the volumes. */
  readonly records: () => Promise<readonly NodeRecord[]>;
  /** Whether a node without one is gone for good. */
  readonly isGone: (nodeId: string) => Promise<boolean>;
}

/** The nodes that may still write: not those that booted since, and not those that are gone. */
async function nodesThatMayWrite(
  { liveness, events }: Pick<ControllerContext, "liveness" | "events">,
  { staged }: FamfsVolume,
  nodes: KnownNodes,
): Promise<string[]> {
  const records = await nodes.records();
  const may: string[] = [];
  for (const [nodeId, { bootId }] of Object.entries(staged)) {
    const record = records.find((node) => node.nodeId === nodeId);
    if (record === undefined ? await nodes.isGone(nodeId) : record.bootId !== bootId) continue;
    may.push(nodeId);
    if (record === undefined && !liveness.isAlive(nodeId)) {
      const message = `node ${nodeId} has volumes mounted and no record of its heartbeat`;
      events.record({ reason: "HeartbeatMissing", nodeId, message });
    }
  }
  return may;
}

const QUARANTINED = "Quarantined";

/**
 * Brings `staged` up to date, and says in a condition when a deleted volume waits for silent nodes. Answers the record
 * as it is then. CONFLICT when it changed meanwhile: it is looked at
 * again in the next round.
 */
export async function endQuarantine(
  context: ControllerContext,
  volume: StoredRecord<"volumes">,
  nodes: KnownNodes,
): Promise<StoredRecord<"volumes">> {
  const { store, liveness } = context;
  // Asked of every volume that is in use, in every round: a request only when a node is not as it was.
  const known = Object.entries(volume.staged).every(([nodeId, { bootId }]) => liveness.get(nodeId)?.bootId === bootId);
  const holding = new Set(known ? Object.keys(volume.staged) : await nodesThatMayWrite(context, volume, nodes));
  const staged = Object.fromEntries(Object.entries(volume.staged).filter(([nodeId]) => holding.has(nodeId)));
  const silent = [...holding].filter((nodeId) => !liveness.answers(nodeId));
  const message =
    volume.phase === "Reclaiming" && silent.length > 0
      ? `deleted, but not erased yet: ${showNames(silent)} had it mounted and does not answer`
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
