/** Memory: how much there is, what happens when it is not enough, and that it comes back empty. */
import assert from "node:assert/strict";
import { closeSync, openSync, readSync } from "node:fs";
import { test } from "node:test";
import { MIB, parseSize } from "../../../src/base/index.ts";
import { pathOf } from "../support/api.ts";
import { poolFile } from "../support/driver.ts";
import { describeDriver, limits } from "../support/driver-suite.ts";
import { claim, FABRIC, pod, storageClass, VOLUMES } from "../support/objects.ts";
import { until } from "../support/until.ts";

interface Capacity {
  readonly storageClassName: string;
  readonly maximumVolumeSize?: string;
  readonly capacity?: string;
  readonly nodeTopology?: { readonly matchLabels?: Readonly<Record<string, string>> };
}

interface Volume {
  readonly status: { readonly regions: readonly { readonly offset: number; readonly length: number }[] };
}

describeDriver("capacity", (group) => {
  const capacities = async (storageClassName: string) => {
    const objects = await group.cluster.api.list<Capacity>(pathOf("storage.k8s.io/v1", "CSIStorageCapacity"));
    return objects.filter((each) => each.storageClassName === storageClassName);
  };
  const largest = async () => {
    const [object] = await capacities("famfs");
    return parseSize(object?.maximumVolumeSize ?? "0");
  };

  test("a deleted volume's memory is erased, then free again", limits, async () => {
    const { space, cluster } = group;
    await space.create(claim("secret"), pod("keeper", "secret"));
    await space.ready("keeper");
    const name = await space.bound("secret");
    const { status } = await cluster.api.get<Volume>(`${VOLUMES}/${name}`);
    const [region] = status.regions;
    assert.ok(region !== undefined);
    const word = "the old tenant's secret ";
    // Other words in the command line than in the file, so that only the file can hold it.
    await space.sh(
      "keeper",
      `yes "$(printf 'the old tenant%ss secret ' "'")" | head -c 20000000 > /data/file; sync /data`,
    );
    assert.ok(memory(poolFile(cluster), region).includes(word), "the bytes are in the pool as they are");
    await space.deletePods("keeper");
    await space.deleteClaim("secret");
    await until("the volume is gone", async () => !(await cluster.api.exists(`${VOLUMES}/${name}`)), {
      timeoutMs: 60_000,
    });
    assert.ok(
      memory(poolFile(cluster), region).every((byte) => byte === 0),
      "superblock, log and data are zeroes",
    );

    await space.create(claim("next"), pod("tenant", "next"));
    await space.ready("tenant");
    const next = await cluster.api.get<Volume>(`${VOLUMES}/${await space.bound("next")}`);
    assert.deepEqual(next.status.regions, status.regions, "the same region is given out again");
  });

  test("capacity objects say how much one volume can have, per fabric, and follow", limits, async () => {
    const { space } = group;
    await until("one object for the class", async () => (await capacities("famfs")).length === 1);
    const [object] = await capacities("famfs");
    assert.deepEqual(object?.nodeTopology?.matchLabels, { "famfs.csi.dev/fabric": FABRIC });
    const before = await largest();
    await space.create(claim("huge", { size: "1Ti" }), pod("user", "huge"));
    await space.ready("user");
    const after = await until("the object shows less", async () => {
      const now = await largest();
      return now < before && now;
    });
    assert.ok(before - after >= parseSize("1Ti") && before - after < parseSize("1Ti") + 64 * MIB, `${before} ${after}`);
  });

  test("the scheduler keeps a pod pending when its claim is larger than what is free", limits, async () => {
    const { space } = group;
    await space.create(claim("larger", { size: "1Ti" }), pod("hopeful", "larger"));
    await space.event("Pod", "hopeful", /did not have enough free storage/);
    assert.equal((await space.claim("larger")).status.phase, "Pending");
    // It runs as soon as there is room.
    await space.deletePods("user");
    await space.deleteClaim("huge");
    await space.bound("larger", 100_000);
    await space.ready("hopeful");
    await space.deletePods("hopeful");
    await space.deleteClaim("larger");
  });

  test("a claim that is too large and cannot wait gets an event with the largest size", limits, async () => {
    const { space, cluster } = group;
    await cluster.api.create(storageClass("at-once", { bindingMode: "Immediate" }));
    await space.create(claim("impossible", { size: "2Ti", storageClassName: "at-once" }));
    const event = await space.event("PersistentVolumeClaim", "impossible", /ProvisioningFailed.*largest/);
    const size = /largest free region is [^0-9]*([0-9.]+ ?[KMGT]iB)/.exec(event)?.[1];
    assert.ok(size !== undefined, event);
    await space.deleteClaim("impossible");
  });

  test("an unknown parameter gets an event that names it and the known ones", limits, async () => {
    const { space, cluster } = group;
    const parameters = { dataWriter: "any" };
    await cluster.api.create(storageClass("misspelt", { bindingMode: "Immediate", parameters }));
    await space.create(claim("misspelt", { storageClassName: "misspelt" }));
    await space.event("PersistentVolumeClaim", "misspelt", /dataWriter.*dataWriters/s);
    await space.deleteClaim("misspelt");
  });
});

/** What a host would see at this place of the shared memory. */
function memory(path: string, { offset, length }: { readonly offset: number; readonly length: number }): Buffer {
  const bytes = Buffer.alloc(length);
  const file = openSync(path, "r");
  try {
    readSync(file, bytes, 0, length, offset);
  } finally {
    closeSync(file);
  }
  return bytes;
}
