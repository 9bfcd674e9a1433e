/** A node in a process of its own, so that a test can kill it: stages volume v1 and prints its FUSE server's pid. */
import { join } from "node:path";
import { EmbeddedStore } from "../../state/index.ts";
import { testLogger } from "./fixtures.ts";
import { TestNode } from "./test-node.ts";

const settings = JSON.parse(process.env["FAMFS_TEST_NODE"] ?? "{}") as {
  nodeId: string;
  directory: string;
  device: string;
  clusterDirectory: string;
};
const store = await EmbeddedStore.open({ stateDir: join(settings.clusterDirectory, "state") });
const node = await TestNode.start({ ...settings, store, logger: testLogger, watchdog: undefined });
await node.stage("v1");
console.log(await node.plugin.serverPid());
