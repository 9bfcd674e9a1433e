import { type Condition, type Store, updateRecord } from "../state/index.ts";

/** What is True of this type makes a volume abnormal; each node has one, told apart by `reason`. */
const ABNORMAL = "Abnormal";

/** Says in the volume's record what is wrong with it on this node; undefined: nothing any more. */
export async function reportProblem(
  store: Store,
  problem: { readonly volumeId: string; readonly nodeId: string; readonly message: string | undefined },
): Promise<void> {
  const reason = `Node:${problem.nodeId}`;
  await updateRecord(store, "volumes", problem.volumeId, (record) => {
    const present = record.conditions.find(({ type, reason: by }) => type === ABNORMAL && by === reason);
    if (present?.message === problem.message) return undefined;
    const others = record.conditions.filter((condition) => condition !== present);
    if (problem.message === undefined) return { ...record, conditions: others };
    const condition: Condition = {
      type: ABNORMAL,
      status: "True",
      reason,
      message: problem.message,
      lastTransitionTime: new Date().toISOString(),
    };
    return { ...record, conditions: [...others, condition] };
  });
}
