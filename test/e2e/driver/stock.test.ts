/** A device that the stock tools formatted, as a static PersistentVolume. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { pathOf } from "../support/api.ts";
import { missingStockImage, stockImageContent } from "../support/driver.ts";
import { describeDriver, limits } from "../support/driver-suite.ts";
import { claim, pod, staticVolume, VOLUMES } from "../support/objects.ts";
import { until } from "../support/until.ts";

interface Volume {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly adopted: boolean };
}

describeDriver("stock", (group) => {
  test("its files are there on both nodes, and its owner makes more", {
    ...limits,
    skip: missingStockImage,
  }, async () => {
    const { api } = group.cluster;
    const { space } = group;
    const adopted = await until("the nodes made it known", async () => {
      return (await api.list<Volume>(VOLUMES)).find(({ spec }) => spec.adopted);
    });
    await api.create(staticVolume("stock", { volumeHandle: adopted.metadata.name, mode: "ReadOnlyMany", size: "4Gi" }));
    await space.create(
      claim("stock", { mode: "ReadOnlyMany", storageClassName: "", volumeName: "stock", size: "4Gi" }),
      pod("a", "stock", { node: "node-a" }),
      pod("b", "stock", { node: "node-b" }),
    );
    await space.ready("a", "b");
    const { entries } = stockImageContent();
    for (const name of ["a", "b"]) {
      const listing = await space.sh(name, "cd /data && find . -mindepth 1 -exec stat -c '%n %s %a' {} +");
      const found = new Map(
        listing
          .trim()
          .split("\n")
          .map((line) => {
            const [path = "", size, mode] = line.split(" ");
            return [path, { size: Number(size), mode }] as const;
          }),
      );
      assert.equal(found.size, entries.length, listing);
      for (const { path, type, size, mode } of entries) {
        const seen = found.get(`./${path}`);
        assert.equal(seen?.mode, mode.toString(8), path);
        if (type === "file") assert.equal(seen?.size, size, path);
      }
      await assert.rejects(space.sh(name, "touch /data/new"), /Read-only file system/);
    }
    await space.deletePods("a", "b");
    await space.deleteClaim("stock");
    await api.remove(pathOf("v1", "PersistentVolume", { name: "stock" }));

    const volumeHandle = adopted.metadata.name;
    await api.create(staticVolume("stock-owner", { volumeHandle, mode: "ReadWriteMany", size: "4Gi" }));
    await space.create(
      claim("owner", { mode: "ReadWriteMany", storageClassName: "", volumeName: "stock-owner", size: "4Gi" }),
      pod("writer", "owner", { node: "node-a" }),
      pod("reader", "owner", { node: "node-b" }),
    );
    await space.ready("writer", "reader");
    await space.sh(
      "writer",
      "mkdir /data/made && echo by its owner > /data/made/tmp && mv /data/made/tmp /data/made/new",
    );
    await space.sh("writer", "sync /data/made /data");
    await until("the other node has it", () => space.sh("reader", "cat /data/made/new").catch(() => undefined));
    assert.equal(await space.sh("reader", "cat /data/made/new"), "by its owner\n");
    await assert.rejects(space.sh("writer", "rm /data/made/new"), /Operation not permitted/);
    await space.deletePods("writer", "reader");
    await space.deleteClaim("owner");
    await api.remove(pathOf("v1", "PersistentVolume", { name: "stock-owner" }));
  });
});
