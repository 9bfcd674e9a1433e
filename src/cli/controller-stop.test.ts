import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("main.ts", import.meta.url));

test("a controller that is stopped while no API server answers it ends, and that is no failure", async () => {
  const directory = await mkdtemp(join(tmpdir(), "famfs-controller-stop-"));
  await using resources = new AsyncDisposableStack();
  resources.defer(() => rm(directory, { recursive: true }));
  const silent = createServer((socket) => socket.resume().on("error", () => {})).listen(0, "127.0.0.1");
  resources.use(silent);
  await once(silent, "listening");
  const kubeconfig = join(directory, "kubeconfig");
  const server = `https://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const config = {
    "current-context": "silent",
    contexts: [{ name: "silent", context: { cluster: "silent", user: "nobody" } }],
    clusters: [{ name: "silent", cluster: { server, "insecure-skip-tls-verify": true } }],
    users: [{ name: "nobody", user: {} }],
  };
  await writeFile(kubeconfig, JSON.stringify(config));
  const endpoint = `unix://${join(directory, "csi.sock")}`;
  const words = ["controller", "--endpoint", endpoint, "--kubeconfig", kubeconfig, "--identity", "a"];
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", main, ...words]);
  resources.defer(() => void child.kill("SIGKILL"));
  const asked = once(silent, "connection");
  const ended = once(child, "close");
  const output: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => output.push(text));
  child.stdout.resume();
  await Promise.race([asked, ended]);
  child.kill("SIGTERM");
  assert.deepEqual(await ended, [0, null], output.join(""));
});
