/** All records are lost, and made again from the memory: with the embedded store. test/e2e has it with Kubernetes'. */
import { join } from "node:path";
import { test } from "node:test";
import { EmbeddedStore } from "../../src/state/index.ts";
import { skipWithoutMounts } from "../support/kernel.ts";
import { checkLostRecords } from "../support/lost-records.ts";

test("volumes whose records are lost come back from the memory", { skip: skipWithoutMounts() }, async () => {
  await checkLostRecords({
    storeFlags: (directory) => ["--store=embedded", `--state-dir=${join(directory, "state")}`],
    async loseRecords(directory) {
      await using store = await EmbeddedStore.open({ stateDir: join(directory, "state") });
      for (const kind of ["volumes", "devices"] as const) {
        for (const { name, resourceVersion } of await store.list(kind)) await store.delete(kind, name, resourceVersion);
      }
    },
  });
});
