import type { Condition, FamfsVolume } from "./records.ts";

const ABNORMAL = "Abnormal";

/** The condition that says, while it is there, that a volume is not well on a node: each node has one of its own. */
export function abnormalOn(nodeId: string): string {
  return `${nodeId}/${ABNORMAL}`;
}

/** The node that a condition is about, of those that `abnormalOn` named. */
export function nodeOf({ type }: Condition): string {
  return type.slice(0, -`/${ABNORMAL}`.length);
}

/** Problems of a volume, on whichever nodes. */
export function problemsOf({ conditions }: FamfsVolume): Condition[] {
  return conditions.filter(({ type, status }) => type.endsWith(`/${ABNORMAL}`) && status === "True");
}
