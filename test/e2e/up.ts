/** A cluster with the driver installed, to look around in until Ctrl-C: `npm run cluster`. */
import { once } from "node:events";
import { startDriverCluster } from "./support/driver.ts";
import { missingCluster, programs } from "./support/programs.ts";

const missing = missingCluster();
if (missing !== false) {
  process.stderr.write(`${missing}\n`);
  process.exit(69);
}
const stopped = Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
await using cluster = await startDriverCluster();
const node = cluster.node("node-a");
process.stdout.write(`two nodes, driver installed; in another terminal:

  alias kubectl='nsenter --net=${cluster.network} ${programs.kubectl} --kubeconfig=${cluster.plane.kubeconfig()}'
  kubectl get pods --all-namespaces
  ${node.enter.join(" ")} findmnt --type fuse.famfs    # on node-a

Ctrl-C ends it and removes all of it.
`);
await stopped;
