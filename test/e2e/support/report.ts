/** What a person would look at first when something in a cluster does not work. */
import type { Cluster } from "../cluster.ts";

export async function report(cluster: Cluster, namespace: string): Promise<string> {
  const ask = (args: string) => cluster.kubectl(args.split(" "), { timeoutMs: 20_000 }).catch(String);
  const logs = (component: string) =>
    `logs --namespace=${namespace} --selector=app.kubernetes.io/component=${component} --all-containers --prefix --tail=15`;
  return [
    await ask("get pods,pvc,pv,volumeattachments,famfsvolumes,famfsdevices --all-namespaces --output=wide"),
    (await ask("get events --all-namespaces --sort-by=.lastTimestamp")).split("\n").slice(-40).join("\n"),
    await ask(logs("controller")),
    await ask(logs("node")),
  ].join("\n---\n");
}
