/** Two controllers as processes of their own on one real API server, and no byte to spare. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { claim, regionsAreDisjoint, TestAgent, temporaryDirectory } from "../../src/controller/testing/fixture.ts";
import { CsiClient, RpcError } from "../../src/csi/index.ts";
import type { KubernetesStore } from "../../src/state/kubernetes/kubernetes-store.ts";
import { startProgram } from "../support/program.ts";
import { ApiServer } from "./api-server.ts";
import { missingApiServer } from "./support/programs.ts";
import { until } from "./support/until.ts";

const COUNT = 24;
const VOLUME_MIB = 4;
/** The label, then each volume with its superblock and log. */
const DEVICE_MIB = 2 + COUNT * (VOLUME_MIB + 10);

describe("two controllers at once", { skip: missingApiServer() }, () => {
  let server: ApiServer;
  let store: KubernetesStore;

  before(async () => {
    server = await ApiServer.startWithRecords();
    store = await server.openStore();
  });

  after(async () => {
    await store?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const controller = async (resources: AsyncDisposableStack, directory: string, identity: string) => {
    const socket = join(directory, `${identity}.sock`);
    const program = startProgram(
      "controller",
      "--store=kubernetes",
      `--kubeconfig=${server.plane.kubeconfig()}`,
      `--identity=${identity}`,
      `--endpoint=unix://${socket}`,
    );
    resources.defer(async () => {
      if (program.child.exitCode === null && program.child.signalCode === null) await program.stop();
    });
    await until("it serves", () => existsSync(socket) && program.said().includes("is serving"));
    return { program, client: resources.use(CsiClient.open(`unix://${socket}`)) };
  };

  for (const [title, kill] of [
    ["every volume is made once, whoever was asked, and none shares a byte", false],
    ["one of them is killed in the middle: the other finishes what it began", true],
  ] as const) {
    test(title, async () => {
      await using resources = new AsyncDisposableStack();
      const { path } = resources.use(await temporaryDirectory());
      resources.use(
        await TestAgent.open(store, path, { nodeId: `n-${kill}`, pool: `pool-${kill}`, size: `${DEVICE_MIB}Mi` }),
      );
      const parameters = { pool: `pool-${kill}` };
      const [one, two] = [await controller(resources, path, "one"), await controller(resources, path, "two")];
      const create = async (client: CsiClient, name: string) => {
        for (;;) {
          try {
            return await client.call("controller", "CreateVolume", claim(name, { parameters }));
          } catch (error) {
            if (!(error instanceof RpcError && ["ABORTED", "UNAVAILABLE"].includes(error.code))) throw error;
            if (kill && client === one.client) return undefined; // its sidecar is gone with it
            await delay(50);
          }
        }
      };
      const names = Array.from({ length: COUNT }, (_, index) => `race-${kill}-${index}`);
      const all = names.flatMap((name) => [create(one.client, name), create(two.client, name)]);
      if (kill) {
        await until("some are made", async () => (await store.list("volumes")).some(({ phase }) => phase === "Ready"));
        one.program.child.kill("SIGKILL");
      }
      await Promise.all(all);
      const volumes = (await store.list("volumes")).filter(({ name }) => names.includes(name));
      assert.deepEqual(
        volumes.map(({ name, phase }) => `${name} ${phase}`).toSorted(),
        names.map((name) => `${name} Ready`).toSorted(),
      );
      assert.ok(regionsAreDisjoint(volumes));
      const intents = (await store.list("devices")).filter(({ intent }) => intent !== undefined);
      assert.deepEqual(intents, []);
      await assert.rejects(
        two.client.call("controller", "CreateVolume", claim("one-more", { parameters })),
        /RESOURCE_EXHAUSTED/,
      );
    });
  }
});
