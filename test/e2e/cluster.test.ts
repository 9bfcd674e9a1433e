/** The cluster of the tests itself: it works, and nothing of it stays, however the test ends. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { missingCluster } from "./support/programs.ts";
import { until } from "./support/until.ts";

const skip = missingCluster();

const program = `
  import { Cluster } from ${JSON.stringify(new URL("cluster.ts", import.meta.url).href)};
  import { TOOLS_IMAGE } from ${JSON.stringify(new URL("support/images.ts", import.meta.url).href)};
  await using cluster = await Cluster.start();
  const pod = (nodeName) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: nodeName, namespace: "default" },
    spec: { nodeName, containers: [{ name: "shell", image: TOOLS_IMAGE, imagePullPolicy: "Never" }] },
  });
  await cluster.apply(pod("node-a"), pod("node-b"));
  await cluster.kubectl(["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
  await cluster.kubectl(["exec", "node-a", "--", "ping", "-c1", "-W5", "10.96.0.1"]);
  console.log(cluster.directory);
  await new Promise((resolve) => setTimeout(resolve, 60_000));
`;

test("pods run on both nodes and reach the API; a killed test leaves nothing", { skip, timeout: 180_000 }, async () => {
  const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [output] = (await Promise.race([once(child.stdout, "data"), once(child, "exit")])) as [Buffer | number | null];
  assert.ok(output instanceof Buffer, `the program ended with ${String(output)}`);
  const directory = output.toString().trim();
  const ids = readdirSync(join(directory, "node-a/run/io.containerd.runtime.v2.task/k8s.io"));
  assert.equal(ids.length, 2, "a sandbox and a container");
  child.kill("SIGKILL");
  await until("the directory is gone", () => !existsSync(directory), { timeoutMs: 30_000 });
  assert.ok(!readFileSync("/proc/self/mountinfo", "latin1").includes(directory), "mounts");
  for (const id of ids) assert.ok(!existsSync(join("/sys/fs/cgroup/memory/k8s.io", id)), "control groups");
  const commands = readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1");
      } catch {
        return "";
      }
    });
  assert.deepEqual(
    commands.filter((command) => command.includes(directory)),
    [],
    "processes",
  );
});
