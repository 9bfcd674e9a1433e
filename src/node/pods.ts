import { showNames } from "../base/index.ts";
import type { PodName } from "../state/index.ts";
import type { StageRecord } from "./stage-records.ts";

/** What the kubelet adds to the volume context (CSIDriver `podInfoOnMount`). */
const INFO = "csi.storage.k8s.io/pod.";

/** The pod that a volume is published for, where the CO says so. */
export function podIn(context: Readonly<Record<string, string>>): PodName | undefined {
  const [namespace = "", name = "", uid = ""] = ["namespace", "name", "uid"].map((each) => context[`${INFO}${each}`]);
  return namespace === "" || name === "" ? undefined : { namespace, name, uid };
}

/** Pods that the volume is published for on this node. */
export function podsOf(record: StageRecord | undefined): PodName[] {
  return Object.values(record?.pods ?? {});
}

/** For messages: pods, and the paths of those that nobody named. */
export function showPods(pods: readonly (PodName | string)[]): string {
  return showNames(pods.map((pod) => (typeof pod === "string" ? pod : `pod ${pod.namespace}/${pod.name}`)));
}
