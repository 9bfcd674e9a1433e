/** What docs/operations.md tells an administrator to type, against a real API server. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { FamfsDevice } from "../../src/state/records.ts";
import { exampleVolume } from "../../src/state/store-conformance.ts";
import { ApiServer, NODE_NAMESPACE } from "./api-server.ts";
import { missingApiServer } from "./support/programs.ts";

const exampleDevice: FamfsDevice = {
  uuid: "d1",
  pool: "default",
  fabric: "x",
  sizeBytes: 2 ** 30,
  incarnation: 1,
  coherency: "flush",
  nodes: {},
  generation: 0,
  intent: undefined,
  revision: undefined,
  frozen: undefined,
};

describe("docs/operations.md", { skip: missingApiServer() }, () => {
  let server: ApiServer;

  before(async () => {
    server = await ApiServer.startWithRecords();
  });

  after(async () => {
    await server?.[Symbol.asyncDispose]();
  });

  test("every kubectl command works, and ends what hung", async () => {
    const page = readFileSync(new URL("../../docs/operations.md", import.meta.url), "utf8");
    const commands = [...page.matchAll(/^ {4}kubectl (.*)$/gm)].map(([, line = ""]) => line);
    assert.equal(commands.length, 12);
    await server.kubectl(["create", "serviceaccount", "release-rebuild"]);
    const node = { apiVersion: "v1", kind: "Node", metadata: { name: "n1", labels: { "famfs.csi.dev/fabric": "x" } } };
    const lease = {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "n1", namespace: NODE_NAMESPACE },
    };
    await server.create(node, lease);
    await using store = await server.openStore();
    await store.create("volumes", "v1", exampleVolume);
    await store.create("devices", "d1", exampleDevice);
    // A driver that is gone: nobody takes the finalizers off.
    await server.kubectl(["delete", "crd", "famfsvolumes.famfs.csi.dev", "--wait=false"]);
    await server.kubectl(["delete", "famfsdevice", "d1", "--wait=false"]);
    for (const command of commands) {
      const words = command
        .replaceAll("VOLUME", "v1")
        .replaceAll("DEVICE", "d1")
        .replaceAll("NODE", "n1")
        .replaceAll("RELEASE", "release")
        .split(" ");
      await server.kubectl(words.map((word) => word.replaceAll("'", "")));
      // The page deletes a device a second time, below.
      if (command.startsWith("patch famfsdevice")) await store.create("devices", "d1", exampleDevice);
    }
    await server.kubectl(["wait", "--for=delete", "crd/famfsvolumes.famfs.csi.dev", "--timeout=30s"]);
    assert.match(await server.kubectl(["get", "node", "n1", "-o", "yaml"]), /out-of-service/);
    assert.equal((await server.kubectl(["get", "leases", "-n", NODE_NAMESPACE, "-o", "name"])).includes("/n1"), false);
  });
});
