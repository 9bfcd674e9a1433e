import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { silentLogger } from "../base/index.ts";
import { EmbeddedStore } from "./embedded-store.ts";
import { Heartbeat } from "./heartbeat.ts";
import type { Store } from "./store.ts";
import { exampleNode } from "./store-conformance.ts";

test("a renewal that the store answers after the lease had run out is a lapse: others may have taken over", async () => {
  await using resources = new AsyncDisposableStack();
  const stateDir = await mkdtemp(join(tmpdir(), "famfs-heartbeat-"));
  resources.defer(() => rm(stateDir, { recursive: true }));
  const store = resources.use(await EmbeddedStore.open({ stateDir }));
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  const late: Pick<Store, "get" | "create" | "replace"> = {
    get: (...args) => store.get(...args),
    create: (...args) => store.create(...args),
    replace: async (...args) => {
      asked.resolve();
      await answer.promise;
      return await store.replace(...args);
    },
  };
  const lapse = Promise.withResolvers<void>();
  const givenUp = Promise.withResolvers<void>();
  const { renewedAt: _, ...node } = { ...exampleNode, leaseSeconds: 2 };
  const heartbeat = resources.use(
    await Heartbeat.open(Object.assign(Object.create(store) as Store, late), {
      node,
      logger: silentLogger,
      onLapse: async () => {
        lapse.resolve();
        await givenUp.promise;
      },
    }),
  );
  // Well within the lease.
  await asked.promise;
  assert.ok(heartbeat.remainingMs() > 0);
  while (heartbeat.remainingMs() > 0) await sleep(10);
  const before = await store.get("nodes", node.nodeId);
  answer.resolve();
  while ((await store.get("nodes", node.nodeId))?.resourceVersion === before?.resourceVersion) await nextTurn();
  await nextTurn();
  assert.equal(heartbeat.remainingMs(), 0, "what is no longer this node's has not been given up yet");
  await lapse.promise;
  assert.equal(heartbeat.remainingMs(), 0);
  givenUp.resolve();
  while (heartbeat.remainingMs() === 0) await sleep(10);
  assert.equal(heartbeat.failures, 0, "renewals that waited together are no failures, nor another process");
});
