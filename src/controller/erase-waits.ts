import type { StoredRecord } from "../state/index.ts";
import type { ControllerContext } from "./context.ts";

/** Tells when a deleted volume waits for nodes that have been silent for long: only a person can say they are gone. */
export function tellEraseWaits(
  { liveness, events, silenceMs }: Pick<ControllerContext, "liveness" | "events" | "silenceMs">,
  { name, phase, staged, jobNode }: Pick<StoredRecord<"volumes">, "name" | "phase" | "staged" | "jobNode">,
): void {
  if (phase !== "Reclaiming") return;
  // One without a record counts as gone: the next round goes on without it.
  const isSilent = (nodeId: string) => liveness.get(nodeId) !== undefined && !liveness.isAlive(nodeId, silenceMs);
  const holding = Object.keys(staged).filter(isSilent).toSorted();
  const record = (why: string) =>
    events.record({
      reason: "EraseWaits",
      volumeId: name,
      message: `deleted, but not erased yet: no answer from ${why}`,
    });
  if (holding.length > 0) record(`${holding.join(", ")}, which may still write to its memory`);
  else if (jobNode !== undefined && isSilent(jobNode)) record(`${jobNode}, which has to erase its memory`);
}
