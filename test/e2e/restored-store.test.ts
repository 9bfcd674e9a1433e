/** etcd is restored from a backup under running mounts: nothing of what came after the backup is lost. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openDevice, rememberedRevision } from "../../src/media/index.ts";
import type { KubernetesStore } from "../../src/state/kubernetes/kubernetes-store.ts";
import { skipWithoutMounts } from "../support/kernel.ts";
import { eventually, Plugins } from "../support/plugins.ts";
import { firstMissing } from "../support/prerequisites.ts";
import { runProgram } from "../support/program.ts";
import { ApiServer, NODE_NAMESPACE } from "./api-server.ts";
import { missingApiServer } from "./support/programs.ts";

const skip = firstMissing(missingApiServer(), skipWithoutMounts());
/** Longer than a lease, as any outage is in which etcd is restored. */
const OUTAGE_MS = 20_000;

describe("etcd that was restored from a backup", { skip, timeout: 400_000 }, () => {
  let server: ApiServer;
  let store: KubernetesStore;

  before(async () => {
    server = await ApiServer.startWithRecords();
    store = await server.openStore();
    const nodes = ["lost-a", "lost-b"].map((name) => ({ apiVersion: "v1", kind: "Node", metadata: { name } }));
    await server.create(...nodes);
  });

  after(async () => {
    await store?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  test("erases nothing, takes no mount away, and freezes that until the records were made again", async () => {
    const flags = [`--kubeconfig=${server.plane.kubeconfig()}`, `--node-namespace=${NODE_NAMESPACE}`];
    await using plugins = await Plugins.start(() => flags);
    const { device, controller } = plugins;
    const record = async () => (await store.list("devices"))[0];
    const remembered = async () => {
      await using opened = await openDevice(device.path, { writable: false });
      return rememberedRevision(opened);
    };
    const remove = (volumeId: string) => controller.call("controller", "DeleteVolume", { volumeId });

    const deleted = await plugins.create("pvc-deleted");
    const region = (await store.get("volumes", deleted))?.regions;
    const kept = await plugins.create("pvc-kept");
    const keptOnB = await plugins.attach("b", kept);
    writeFileSync(join(keptOnB, "before"), "before the backup", { flush: true });

    // The backup has a volume that is about to be erased.
    const backup = join(server.directory, "backup");
    plugins.signal("SIGSTOP", "lost-a", "lost-b");
    await remove(deleted);
    await server.plane.backUp(backup);
    plugins.signal("SIGCONT", "lost-a", "lost-b");
    const revision = (await record())?.revision ?? 0;

    // What it does not have: the volume that gets this memory, and a mount.
    await eventually("it is erased", async () => (await store.get("volumes", deleted)) === undefined);
    const late = await plugins.create("pvc-late");
    assert.deepEqual((await store.get("volumes", late))?.regions, region);
    const lateOnA = await plugins.attach("a", late);
    writeFileSync(join(lateOnA, "weights"), "x".repeat(2 ** 20), { flush: true });
    const keptOnA = await plugins.attach("a", kept);
    // A second after its last close it is in the log.
    await eventually("the other node has it", async () => existsSync(join(keptOnA, "before")));
    assert.equal(readFileSync(join(keptOnA, "before"), "utf8"), "before the backup");
    await eventually("the memory remembers more than the backup", async () => (await remembered()) > revision);

    await server.plane.stopApiServer();
    await sleep(OUTAGE_MS);
    await server.plane.restore(backup);

    const frozen = await eventually("it is noticed", async () => (await record())?.frozen);
    assert.match(frozen.reason, /restored from a backup/);
    assert.match(await server.kubectl(["get", "famfsdevices"]), /FROZEN.*\n.*lost-a,lost-b +[0-9]+[a-z]/);
    const said = await eventually("it is said why nothing is erased", async () => {
      const { conditions = [] } = (await store.get("volumes", deleted)) ?? {};
      return conditions.find(({ reason }) => reason === "EraseFrozen");
    });
    assert.match(said.message, /device rebuild/);
    // Watches are not blind: who had asked from a version that is none any more formats all the same.
    await plugins.create("pvc-after");
    assert.equal(await store.get("volumes", late), undefined, "the backup does not have it");
    for (const [mount, file, content] of [
      [lateOnA, "weights", "x".repeat(2 ** 20)],
      [keptOnA, "before", "before the backup"],
      [keptOnB, "before", "before the backup"],
    ] as const) {
      assert.equal(readFileSync(join(mount, file), "utf8"), content);
    }

    const rebuilt = await runProgram("device", "rebuild", device.path, "--output", "json", ...flags);
    assert.equal(rebuilt.status, 0, rebuilt.stdout + rebuilt.stderr);
    type Named = readonly { readonly name: string }[];
    const plan = JSON.parse(rebuilt.stdout) as { volumes: Named; refreshed: Named; displaced: Named };
    const names = (list: Named) => list.map(({ name }) => name).toSorted();
    assert.deepEqual(
      [names(plan.volumes), names(plan.refreshed), names(plan.displaced)],
      [[late], [kept, "pvc-after"].toSorted(), [deleted]],
    );
    assert.equal((await record())?.frozen, undefined);

    // Everything goes on: what was deleted is gone, what was forgotten is used, and deleted in good order.
    await eventually("nothing is left of it", async () => (await store.get("volumes", deleted)) === undefined);
    await plugins.publish("a", late);
    await plugins.publish("a", kept);
    writeFileSync(join(lateOnA, "more"), "written after", { flush: true });
    assert.equal(readFileSync(join(lateOnA, "weights"), "utf8"), "x".repeat(2 ** 20));
    assert.equal(readFileSync(join(keptOnA, "before"), "utf8"), "before the backup");
    await plugins.detach("a", late);
    await plugins.detach("a", kept);
    await plugins.detach("b", kept);
    await remove(late);
    await eventually("it is erased", async () => (await store.get("volumes", late)) === undefined);
    await eventually("the memory remembers on", async () => (await remembered()) === (await record())?.revision);
  });
});
