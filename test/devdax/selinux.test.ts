/**
 * Labels of volumes on a kernel that has SELinux, which those of most build machines have not: what the kubelet asks
 * for with `context=` (seLinuxMount of the CSIDriver) is what files have. Permissive, under a policy of our own.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { compileCheckout } from "../support/compiled.ts";
import { Guest, missingGuest } from "./support/guest.ts";
import { standalone } from "./support/standalone.ts";

const POLICY = fileURLToPath(new URL("support/selinux-policy.cil", import.meta.url));
const POD = "system_u:object_r:container_file_t:s0:c1,c2";
const OTHER_POD = "system_u:object_r:container_file_t:s0:c3";
/** What the policy gives FUSE. */
const NO_FLAG = "system_u:object_r:fusefs_t:s0";
const DEVICE = "--device 'file:///run/pool?size=256Mi'";

describe("SELinux", { skip: missingGuest(), timeout: 10 * 60_000 }, () => {
  let directory: string;
  let guest: Guest;

  before(async () => {
    directory = mkdtempSync(join(process.env["TMPDIR"] ?? "/var/tmp", "selinux-"));
    try {
      const policy = join(directory, "policy");
      const compiled = spawnSync("secilc", [POLICY, "-o", policy, "-f", join(directory, "contexts")], {
        encoding: "utf8",
      });
      if (compiled.status !== 0) throw new Error(`secilc: ${compiled.stdout}${compiled.stderr}`);
      const programs = join(directory, "programs");
      compileCheckout(programs);
      guest = await Guest.boot({ name: "selinux", directory: join(directory, "guest"), programs, seLinux: true });
      await guest.sh(`set -e; mount -t selinuxfs selinuxfs /sys/fs/selinux; cat ${policy} >/sys/fs/selinux/load`);
    } catch (error) {
      await guest?.[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  });

  after(async () => {
    await guest?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  /** The attribute as the kernel gives it, and what `ls -Z` prints. */
  const label = async (path: string) => {
    const read = `import os, sys; sys.stdout.write(os.getxattr("${path}", "security.selinux").decode().rstrip("\\0"))`;
    const attribute = await guest.sh(`python3 -c '${read}'`);
    const [listed] = (await guest.sh(`ls -dZ ${path}`)).split(" ");
    assert.equal(listed, attribute);
    return attribute;
  };

  test("what a volume is labelled with is what its mount was asked for", async (t) => {
    assert.equal((await guest.sh("cat /proc/self/attr/current")).split(":")[2], "kernel_t");
    let plugin = await standalone(guest, DEVICE, t);
    t.after(() => plugin.stop());
    const capability = (...mountFlags: string[]) => ({
      mount: { fsType: "famfs", mountFlags },
      accessType: "mount",
      accessMode: { mode: "SINGLE_NODE_SINGLE_WRITER" },
    });
    const { volume } = await plugin.call("controller", "CreateVolume", {
      name: "claim",
      capacityRange: { requiredBytes: String(64 * 2 ** 20) },
      volumeCapabilities: [capability()],
    });
    const volumeId = volume?.volumeId ?? "";
    const { publishContext } = await plugin.call("controller", "ControllerPublishVolume", {
      volumeId,
      nodeId: "a",
      volumeCapability: capability(),
    });
    const staging = "/mnt/staging";
    const target = "/mnt/target";
    await guest.sh(`mkdir -p ${staging}`);
    const staged = (...flags: string[]) => ({
      volumeId,
      publishContext,
      stagingTargetPath: staging,
      volumeCapability: capability(...flags),
    });
    const published = (...flags: string[]) => ({ ...staged(...flags), targetPath: target });
    /** As the kubelet writes it. */
    const flag = (context: string) => `context="${context}"`;

    // A label that the policy does not have: refused, nothing mounted.
    const unknown = await plugin.try("node", "NodeStageVolume", staged(flag("system_u:object_r:nothing_t:s0")));
    assert.notEqual(unknown.status, 0);
    assert.match(unknown.stderr, /FAILED_PRECONDITION.*nothing_t.*policy of this node has no such label/);
    assert.notEqual((await guest.try(`mountpoint -q ${staging}`)).status, 0);

    await plugin.call("node", "NodeStageVolume", staged(flag(POD)));
    await plugin.call("node", "NodePublishVolume", published(flag(POD)));
    await guest.sh(`mkdir ${target}/directory && echo text >${target}/directory/file`);
    for (const path of ["", "/directory", "/directory/file"]) {
      assert.equal(await label(`${target}${path}`), POD);
      assert.equal(await label(`${staging}${path}`), POD);
    }
    // Where the kubelet looks whether a driver kept its promise.
    const shown = await guest.sh(`grep ' ${target} ' /proc/self/mountinfo`);
    assert.ok(shown.includes(`context="${POD}"`), shown);
    t.diagnostic(shown.trim());
    t.diagnostic((await guest.sh(`ls -lZ ${target}/directory`)).trim());

    // The same again is the same; another label is none that this mount can have.
    await plugin.call("node", "NodeStageVolume", staged(flag(POD)));
    for (const flags of [[], [flag(OTHER_POD)]]) {
      const other = await plugin.try("node", "NodeStageVolume", staged(...flags));
      assert.match(other.stderr, /ALREADY_EXISTS.*is staged with SELinux label .*c1,c2/);
    }
    const other = await plugin.try("node", "NodePublishVolume", published(flag(OTHER_POD)));
    assert.match(other.stderr, /ALREADY_EXISTS.*is staged with SELinux label .*c1,c2/);

    // A new process mounts anew, with the label of its record.
    await plugin.stop();
    assert.notEqual((await guest.try(`cat ${staging}/directory/file`)).status, 0, "nobody serves the old mount");
    plugin = await standalone(guest, DEVICE, t);
    assert.equal(await label(`${staging}/directory/file`), POD);
    assert.equal(await label(`${target}/directory/file`), POD);

    // The next pod has another label, or none: no file is touched for that.
    for (const [flags, expected] of [
      [[flag(OTHER_POD)], OTHER_POD],
      [[], NO_FLAG],
    ] as const) {
      await plugin.call("node", "NodeUnpublishVolume", { volumeId, targetPath: target });
      await plugin.call("node", "NodeUnstageVolume", { volumeId, stagingTargetPath: staging });
      await plugin.call("node", "NodeStageVolume", staged(...flags));
      await plugin.call("node", "NodePublishVolume", published(...flags));
      assert.equal(await label(`${target}/directory/file`), expected);
    }
    assert.equal(await guest.sh(`cat ${target}/directory/file`), "text\n");
  });
});
