import { type Condition, type Store, updateRecord } from "../state/index.ts";

/** Conditions of a volume that nodes report, one type per node: anything of this kind that is True is abnormal. */
export const NODE_PROBLEM = "NodeProblem/";

/** Says in the volume's record what is wrong with it on this node; undefined: nothing any more. */
export async function reportProblem(
  store: Store,
  problem: { readonly volumeId: string; readonly nodeId: string; readonly message: string | undefined },
): Promise<void> {
  const type = `${NODE_PROBLEM}${problem.nodeId}`;
  await updateRecord(store, "volumes", problem.volumeId, (record) => {
    const present = record.conditions.find((condition) => condition.type === type);
    if (present?.message === problem.message) return undefined;
    const others = record.conditions.filter((condition) => condition !== present);
    if (problem.message === undefined) return { ...record, conditions: others };
    const condition: Condition = {
      type,
      status: "True",
      reason: "ServerReported",
      message: problem.message,
      since: new Date().toISOString(),
    };
    return { ...record, conditions: [...others, condition] };
  });
}
