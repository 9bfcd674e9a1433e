import { showNames } from "../base/index.ts";
import type { StoredRecord } from "../state/index.ts";
import type { ControllerContext } from "./context.ts";

/** Tells when a deleted volume waits for nodes that have been silent for long: only a person can say they are gone. */
export function tellEraseWaits(
  { liveness, events, silenceMs }: Pick<ControllerContext, "liveness" | "events" | "silenceMs">,
  { name, phase, staged, jobNode }: Pick<StoredRecord<"volumes">, "name" | "phase" | "staged" | "jobNode">,
): void {
  if (phase !== "Reclaiming") return;
  const isSilent = (nodeId: string) => !liveness.isAlive(nodeId, silenceMs);
  const holding = Object.keys(staged).filter(isSilent);
  const record = (why: string) =>
    events.record({
      reason: "EraseWaits",
      volumeId: name,
      message: `deleted, but not erased yet: no answer from ${why}`,
    });
  if (holding.length > 0) record(`${showNames(holding)}, which may still write to its memory`);
  else if (jobNode !== undefined && isSilent(jobNode)) record(`${jobNode}, which has to erase its memory`);
}
