import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { GIB, MIB } from "../base/index.ts";
import { parseSuperblock } from "../format/index.ts";
import { EmbeddedStore, updateRecord } from "../state/index.ts";
import {
  answers,
  claim,
  mountCapability,
  regionsAreDisjoint,
  registerNode,
  TestAgent,
  TestController,
  testCluster,
  unevenStore,
} from "./testing/fixture.ts";

test("CreateVolume answers when the volume is really formatted; the same call again finds it", async () => {
  await using at = await testCluster();
  const first = await at.client.call("controller", "CreateVolume", claim("pvc-1"));
  assert.deepEqual(first.volume, {
    volumeId: "pvc-1",
    capacityBytes: 4n << 20n,
    volumeContext: {},
    contentSource: null,
    accessibleTopology: [{ segments: { "famfs.csi.dev/fabric": "rack-1" } }],
  });
  const record = await at.store.get("volumes", "pvc-1");
  assert.equal(record?.phase, "Ready");
  const [region] = record.regions;
  assert.ok(region !== undefined && region.offset === 2 * MIB && region.length === (2 + 8 + 4) * MIB);
  // Not a word of the record is needed to see a file system there.
  parseSuperblock(await at.agent.device.read(region.offset, 4096));
  assert.deepEqual(await at.client.call("controller", "CreateVolume", claim("pvc-1")), first);
  assert.equal((await at.store.list("devices"))[0]?.intent, undefined);
});

test("the volume remembers the claim that the provisioner names", async () => {
  await using at = await testCluster();
  const parameters = { "csi.storage.k8s.io/pvc/namespace": "team", "csi.storage.k8s.io/pvc/name": "weights" };
  await at.client.call("controller", "CreateVolume", claim("pvc-1", { parameters }));
  const record = await at.store.get("volumes", "pvc-1");
  assert.deepEqual(record?.claim, { namespace: "team", name: "weights" });
  assert.deepEqual(record.parameters, {});
});

test("a name that cannot be an id is hashed, always to the same id", async () => {
  await using at = await testCluster();
  const create = async (name: string) =>
    (await at.client.call("controller", "CreateVolume", claim(name))).volume?.volumeId;
  const long = await create("Ä name with spaces / and more".padEnd(100, "x"));
  assert.match(long ?? "", /^vol-[0-9a-f]{40}$/);
  assert.equal(await create("Ä name with spaces / and more".padEnd(100, "x")), long);
  assert.notEqual(await create(long ?? ""), long, "an id used as a name is another name");
  assert.match((await create("adopted-1")) ?? "", /^vol-/);
});

test("a name that exists with other arguments is ALREADY_EXISTS and says what differs", async () => {
  await using at = await testCluster();
  const create = (more: object) => at.client.call("controller", "CreateVolume", claim("pvc-1", more));
  await create({ parameters: { sealDelay: "2s", "csi.storage.k8s.io/pvc/name": "a" } });
  await create({ parameters: { sealDelay: "2s", "csi.storage.k8s.io/pvc/name": "b" } });
  await assert.rejects(create({ parameters: { sealDelay: "3s" } }), answers("ALREADY_EXISTS", /sealDelay: it is 2s/));
  await assert.rejects(create({}), answers("ALREADY_EXISTS", /sealDelay: it is 2s, asked for is not set/));
  const parameters = { sealDelay: "2s" };
  for (const capacityRange of [{ requiredBytes: (4n << 20n) + 1n }, { limitBytes: (4n << 20n) - 1n }]) {
    await assert.rejects(create({ parameters, capacityRange }), answers("ALREADY_EXISTS", /4194304 bytes/));
  }
  const tooLarge = create({ parameters, capacityRange: { requiredBytes: 5n << 20n } });
  await assert.rejects(tooLarge, answers("ALREADY_EXISTS", /asked for are 5242880 to any number$/));
  await create({ parameters, capacityRange: { requiredBytes: 1n, limitBytes: 4n << 20n } });
});

test("sizes are exact: what is asked for is what is reported", async () => {
  await using at = await testCluster({ size: "3Gi" });
  const size = async (name: string, capacityRange: object | null) =>
    (await at.client.call("controller", "CreateVolume", claim(name, { capacityRange }))).volume?.capacityBytes;
  assert.equal(await size("a", { requiredBytes: 5_000_001n }), 5_000_001n);
  assert.equal(await size("b", null), BigInt(GIB), "a claim without a size");
  assert.equal(await size("c", { limitBytes: 10_000_000n }), 10_000_000n);
  assert.equal(await size("d", { requiredBytes: 1n }), 2n << 20n);
  await assert.rejects(size("e", { requiredBytes: 2n, limitBytes: 1n }), answers("OUT_OF_RANGE"));
  await assert.rejects(size("e", { limitBytes: 1n }), answers("OUT_OF_RANGE"));
  await assert.rejects(size("e", { requiredBytes: 2n ** 62n }), answers("INVALID_ARGUMENT"));
  await assert.rejects(size("e", { requiredBytes: 2n ** 52n }), answers("OUT_OF_RANGE"));
  await assert.rejects(size("e", { requiredBytes: -1n }), answers("INVALID_ARGUMENT", /required_bytes is -1/));
  assert.equal(await at.store.get("volumes", "e"), undefined, "a refused claim leaves nothing");
});

test("a full pool is RESOURCE_EXHAUSTED, names the largest free region and what fits", async () => {
  await using at = await testCluster({ size: "64Mi" });
  const create = (name: string, mib: number) =>
    at.client.call("controller", "CreateVolume", claim(name, { capacityRange: { requiredBytes: BigInt(mib * MIB) } }));
  await create("a", 10);
  // 64 less the label and (10 + 10) of the first volume.
  await assert.rejects(
    create("b", 40),
    answers(
      "RESOURCE_EXHAUSTED",
      /largest free region is 42 MiB \(44040192 bytes\), room for a volume of 32 MiB \(33554432 bytes\), .*; claim less/,
    ),
  );
  assert.equal(await at.store.get("volumes", "b"), undefined);
  const odd = claim("b", { capacityRange: { requiredBytes: BigInt(39 * MIB) } });
  await assert.rejects(at.client.call("controller", "CreateVolume", odd), answers("RESOURCE_EXHAUSTED", /of 32 MiB/));
  await create("b", 32);
  const capacity = await at.client.call("controller", "GetCapacity", {});
  assert.equal(capacity.availableCapacity, 0n);
  await assert.rejects(create("c", 2), answers("RESOURCE_EXHAUSTED", /is 0 B \(0 bytes\), room for no volume/));
});

test("malformed claims are INVALID_ARGUMENT with the reason", async () => {
  await using at = await testCluster();
  const cases: [object, RegExp][] = [
    [{ name: "" }, /name is missing/],
    [{ name: "a\u0007b" }, /control characters/],
    [{ volumeCapabilities: [] }, /volume_capabilities is missing/],
    [{ volumeCapabilities: [{ mount: {} }] }, /access_mode UNKNOWN is missing/],
    [{ volumeCapabilities: [{ accessMode: { mode: "SINGLE_NODE_WRITER" } }] }, /access_type is missing/],
    [{ volumeCapabilities: [{ block: {}, accessMode: { mode: "SINGLE_NODE_WRITER" } }] }, /block volumes/],
    [{ volumeCapabilities: [{ ...mountCapability(), mount: { fsType: "ext4" } }] }, /fs_type "ext4"/],
    [{ volumeCapabilities: [{ ...mountCapability(), mount: { mountFlags: ["suid"] } }] }, /mount flag "suid"/],
    [{ volumeCapabilities: [{ ...mountCapability(), mount: { volumeMountGroup: "-1" } }] }, /volume_mount_group/],
    [{ volumeCapabilities: [{ mount: {}, accessMode: { mode: 99 } }] }, /access_mode 99/],
    [
      { volumeCapabilities: [mountCapability("MULTI_NODE_READER_ONLY")] },
      /claim ReadWriteMany and mount it with readOnly/,
    ],
    [{ volumeContentSource: { volume: { volumeId: "other" } } }, /volume_content_source/],
    [{ mutableParameters: { a: "b" } }, /mutable parameter "a"/],
    [{ parameters: { sealdelay: "1s" } }, /"sealdelay" is unknown; known: pool, dataWriters, /],
    [{ parameters: { pool: "other" } }, /no pool "other"; known: default/],
    [{ parameters: { "stripe.buckets": "4", "stripe.strips": "4", "stripe.chunkSize": "2Mi" } }, /at least 1 GiB/],
  ];
  for (const [more, message] of cases) {
    await assert.rejects(
      at.client.call("controller", "CreateVolume", claim("x", more)),
      answers("INVALID_ARGUMENT", message),
    );
  }
  assert.deepEqual(await at.store.list("volumes"), []);
});

test("a volume is made where it is wanted: preferred fabrics first, RESOURCE_EXHAUSTED where there is no pool", async () => {
  await using at = await testCluster();
  await using _other = await TestAgent.open(at.store, at.directory, { nodeId: "node-b", fabric: "rack-2" });
  const in_ = (...fabrics: string[]) => fabrics.map((fabric) => ({ segments: { "famfs.csi.dev/fabric": fabric } }));
  const create = async (name: string, accessibilityRequirements: object) =>
    (await at.client.call("controller", "CreateVolume", claim(name, { accessibilityRequirements }))).volume
      ?.accessibleTopology;
  assert.deepEqual(await create("a", { requisite: in_("rack-1", "rack-2"), preferred: in_("rack-2") }), in_("rack-2"));
  assert.deepEqual(await create("b", { requisite: in_("rack-1") }), in_("rack-1"));
  assert.deepEqual(await create("c", { requisite: in_("rack-9", "rack-2") }), in_("rack-2"));
  await assert.rejects(
    create("d", { requisite: in_("rack-9") }),
    answers("RESOURCE_EXHAUSTED", /in fabric rack-9; there is memory in rack-1.* or add a device/),
  );
  const foreign = [{ segments: { "famfs.csi.dev/fabric": "rack-1", zone: "z" } }];
  await assert.rejects(create("d", { requisite: foreign }), answers("RESOURCE_EXHAUSTED"));
  await assert.rejects(create("a", { requisite: in_("rack-1") }), answers("ALREADY_EXISTS", /rack-2/));
});

test("while a node still formats the answer is ABORTED, and a later call finds the finished volume", async () => {
  await using at = await testCluster({ formatWaitMs: 50 });
  at.agent.hold = true;
  const create = () => at.client.call("controller", "CreateVolume", claim("pvc-1"));
  await assert.rejects(create(), answers("ABORTED", /still being formatted by node node-a/));
  await assert.rejects(
    at.client.call("controller", "DeleteVolume", { volumeId: "pvc-1" }),
    answers("ABORTED", /being formatted/),
  );
  await at.agent.resume();
  assert.equal((await create()).volume?.volumeId, "pvc-1");
});

test("a second call on a volume does not wait for the first: ABORTED", async () => {
  await using at = await testCluster();
  at.agent.hold = true;
  const first = at.client.call("controller", "CreateVolume", claim("pvc-1"));
  while ((await at.store.get("volumes", "pvc-1"))?.phase !== "Formatting") await tick();
  for (const method of ["DeleteVolume", "ControllerUnpublishVolume"] as const) {
    await assert.rejects(
      at.client.call("controller", method, { volumeId: "pvc-1" }),
      answers("ABORTED", /in progress/),
    );
  }
  await at.agent.resume();
  await first;
});

test("without a node that could format it the answer is UNAVAILABLE", async () => {
  await using at = await testCluster();
  const [node] = await at.store.list("nodes");
  assert.ok(node);
  await at.store.delete("nodes", node.name, node.resourceVersion);
  // A controller that starts now has never seen the node.
  await using late = await TestController.open(at.store, at.directory);
  await assert.rejects(late.client.call("controller", "CreateVolume", claim("x")), answers("UNAVAILABLE"));
});

test("a failed format is the failure's own status; what is left of it goes and the name can be used again", async () => {
  await using at = await testCluster();
  at.agent.hold = true;
  const failing = assert.rejects(
    at.client.call("controller", "CreateVolume", claim("pvc-1")),
    answers("DATA_LOSS", /poisoned/),
  );
  for (;;) {
    const volume = await at.store.get("volumes", "pvc-1");
    if (volume?.phase === "Formatting") {
      const failure = { code: "MEMORY_ERROR", message: "poisoned" };
      await at.store.replace("volumes", { ...volume, phase: "Failed", jobNode: undefined, failure });
      break;
    }
    await tick();
  }
  await failing;
  await assert.rejects(
    at.client.call("controller", "CreateVolume", claim("pvc-1")),
    answers("ABORTED", /being erased/),
  );
  at.agent.hold = false;
  while ((await at.store.get("volumes", "pvc-1")) !== undefined) {
    await at.agent.resume();
    await tick();
  }
  await at.client.call("controller", "CreateVolume", claim("pvc-1"));
});

test("two controllers on one store never give one region twice, nor one name two regions", async () => {
  await using at = await testCluster({ size: "2Gi" });
  await using _second = await TestAgent.open(at.store, at.directory, { nodeId: "node-b", size: "2Gi" });
  // Its own connection, as another process would have.
  await using otherStore = await EmbeddedStore.open({ stateDir: join(at.directory, "state"), pollMs: 5 });
  await using first = await TestController.open(unevenStore(at.store), at.directory);
  await using other = await TestController.open(unevenStore(otherStore), at.directory);
  const names = Array.from({ length: 24 }, (_, index) => `pvc-${index}`);
  const until = async (client: typeof at.client, name: string) => {
    for (;;) {
      try {
        return (await client.call("controller", "CreateVolume", claim(name))).volume;
      } catch (error) {
        answers("ABORTED")(error);
        await tick();
      }
    }
  };
  const results = await Promise.all(
    [first.client, other.client].flatMap((client) => names.map((name) => until(client, name))),
  );
  const volumes = await at.store.list("volumes");
  assert.deepEqual(volumes.map((volume) => volume.name).toSorted(), names.toSorted());
  assert.ok(volumes.every((volume) => volume.regions.length === 1 && volume.phase === "Ready"));
  assert.ok(regionsAreDisjoint(volumes));
  assert.equal(results.length, 2 * names.length);
  const generations = volumes.map((volume) => `${volume.regions[0]?.deviceUuid} ${volume.regionGeneration}`);
  assert.equal(new Set(generations).size, volumes.length);
  assert.ok((await at.store.list("devices")).every((device) => device.intent === undefined));
});

test("a node that joins later takes over the job of one that is gone for good, not of one that is silent", async () => {
  await using at = await testCluster({ formatWaitMs: 50 });
  at.agent.hold = true;
  const create = () => at.client.call("controller", "CreateVolume", claim("pvc-1"));
  await assert.rejects(create(), answers("ABORTED"));
  await registerNode(at.store, "node-b");
  const [device] = await at.store.list("devices");
  assert.ok(device);
  await at.store.replace("devices", { ...device, nodes: { ...device.nodes, "node-b": { path: "/x" } } });
  await assert.rejects(create(), answers("ABORTED"));
  const jobNode = async () => (await at.store.get("volumes", "pvc-1"))?.jobNode;
  assert.equal(await jobNode(), "node-a");
  await updateRecord(at.store, "nodes", "node-a", (node) => ({ ...node, leaseSeconds: 1, renewedAt: "the last time" }));
  const node = await at.store.get("nodes", "node-a");
  assert.ok(node);
  await at.store.delete("nodes", "node-a", node.resourceVersion);
  await assert.rejects(create(), answers("ABORTED"));
  assert.equal(await jobNode(), "node-a", "it may be at it still, and write its record anew");
  while ((await jobNode()) !== "node-b") await tick();
});

function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}
