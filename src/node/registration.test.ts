import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { silentLogger } from "../base/index.ts";
import { CsiClient } from "../csi/index.ts";
import { KubeletRegistration } from "./registration.ts";

/** As the kubelet does when it sees a socket. */
async function getInfo(path: string): Promise<object> {
  using client = CsiClient.open(path);
  return { ...(await client.call("registration", "GetInfo", {})) };
}

test("the kubelet learns name, version and socket; the socket comes back when the directory was cleared", async () => {
  const kubeletDir = await mkdtemp(join(tmpdir(), "famfs-kubelet-"));
  const registry = join(kubeletDir, "plugins_registry");
  const socket = join(registry, "famfs.csi.dev-reg.sock");
  try {
    await mkdir(registry);
    const endpoint = `unix://${kubeletDir}/plugins/famfs.csi.dev/csi.sock`;
    {
      await using _registration = await KubeletRegistration.open({
        kubeletDir,
        endpoint,
        logger: silentLogger,
        checkMs: 20,
      });
      const wanted = {
        type: "CSIPlugin",
        name: "famfs.csi.dev",
        endpoint: endpoint.slice(7),
        supportedVersions: ["1.0.0"],
      };
      assert.deepEqual(await getInfo(socket), wanted);
      await rm(registry, { recursive: true });
      for (let tries = 0; tries < 100 && !(await readdir(registry).catch(() => [])).length; tries++) await sleep(20);
      assert.deepEqual(await getInfo(socket), wanted);
    }
    assert.deepEqual(await readdir(registry), [], "it goes with the plugin");
  } finally {
    await rm(kubeletDir, { recursive: true, force: true });
  }
});

test("what the kubelet says is known, and a socket that vanished counts as not registered until it asks again", async () => {
  const kubeletDir = await mkdtemp(join(tmpdir(), "famfs-kubelet-"));
  const registry = join(kubeletDir, "plugins_registry");
  const socket = join(registry, "famfs.csi.dev-reg.sock");
  const notify = async (error: string) => {
    using client = CsiClient.open(socket);
    await client.call("registration", "NotifyRegistrationStatus", { pluginRegistered: error === "", error });
  };
  try {
    const endpoint = `unix://${kubeletDir}/plugins/famfs.csi.dev/csi.sock`;
    const options = { kubeletDir, endpoint, logger: silentLogger, checkMs: 20 };
    await using registration = await KubeletRegistration.open(options);
    assert.equal((await stat(socket)).mode & 0o777, 0o600);
    assert.match(registration.problem ?? "", /has not asked/);
    await notify("topology value changed");
    assert.match(registration.problem ?? "", /refuses the driver: topology value changed/);
    await notify("");
    assert.equal(registration.problem, undefined);
    await rm(registry, { recursive: true });
    for (let tries = 0; tries < 100 && !(await readdir(registry).catch(() => [])).length; tries++) await sleep(20);
    assert.match(registration.problem ?? "", /has not asked/);
    await notify("");
    assert.equal(registration.problem, undefined);
  } finally {
    await rm(kubeletDir, { recursive: true, force: true });
  }
});
