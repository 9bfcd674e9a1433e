import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cases } from "../../test/support/cases.ts";
import { type MethodsOf, RpcError, type ServiceDefinitions } from "../csi/index.ts";
import { regionsAreDisjoint, testCluster } from "./testing/fixture.ts";

/** Text as an attacker or a mistaken orchestrator sends it. */
const text = fc.oneof(
  fc.constantFrom(
    "",
    "pvc-1",
    "node-a",
    "..",
    "/",
    "a\0b",
    "__proto__",
    "constructor",
    "ü".repeat(64),
    "x".repeat(5000),
  ),
  fc.string({ unit: "binary", maxLength: 200 }),
);
const int64 = fc.oneof(
  fc.constantFrom(0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n),
  fc.bigInt({ min: 0n, max: 2n ** 26n }),
);
const map = fc.dictionary(
  fc.oneof(text, fc.constantFrom("pool", "mode", "sealDelay", "logLength", "stripe.buckets", "csi.storage.k8s.io/x")),
  fc.oneof(text, fc.constantFrom("default", "0755", "1s", "8Mi", "-1", "9".repeat(40))),
  { maxKeys: 4 },
);
const capability = fc.record(
  {
    mount: fc.record({ fsType: text, mountFlags: fc.array(text, { maxLength: 3 }), volumeMountGroup: text }),
    block: fc.constant({}),
    accessMode: fc.record({ mode: fc.integer({ min: -1, max: 12 }) }),
  },
  { requiredKeys: [] },
);
const good = fc.constant({ mount: {}, accessMode: { mode: 5 } });
const topology = fc.record({ segments: fc.oneof(map, fc.constant({ "famfs.csi.dev/fabric": "rack-1" })) });
const request = fc.record(
  {
    name: text,
    volumeId: text,
    nodeId: text,
    startingToken: text,
    maxEntries: fc.integer(),
    readonly: fc.boolean(),
    capacityRange: fc.record({ requiredBytes: int64, limitBytes: int64 }, { requiredKeys: [] }),
    volumeCapabilities: fc.array(fc.oneof(good, capability), { maxLength: 3 }),
    volumeCapability: fc.oneof(good, capability),
    parameters: map,
    secrets: map,
    volumeContext: map,
    accessibilityRequirements: fc.record({ requisite: fc.array(topology, { maxLength: 2 }) }, { requiredKeys: [] }),
    accessibleTopology: topology,
  },
  { requiredKeys: [] },
);
const METHODS = [
  "CreateVolume",
  "DeleteVolume",
  "ControllerPublishVolume",
  "ControllerUnpublishVolume",
  "ValidateVolumeCapabilities",
  "ListVolumes",
  "ControllerGetVolume",
  "GetCapacity",
] as const satisfies MethodsOf<ServiceDefinitions["controller"]>[];

/** Answers that say whose fault it was. */
const CLEAR = new Set([
  "INVALID_ARGUMENT",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "FAILED_PRECONDITION",
  "RESOURCE_EXHAUSTED",
  "OUT_OF_RANGE",
  "ABORTED",
]);

test("whatever is asked, the controller answers clearly and goes on", async () => {
  await using at = await testCluster({ size: "256Mi" });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...METHODS), request, async (method, asked) => {
      try {
        await at.client.call("controller", method, asked);
      } catch (error) {
        assert.ok(error instanceof RpcError);
        assert.ok(CLEAR.has(error.code), error.message);
      }
    }),
    cases(400),
  );
  const volumes = await at.store.list("volumes");
  assert.ok(regionsAreDisjoint(volumes));
  assert.equal((await at.store.list("devices")).length, 1);
});
