import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Device, formatVolume } from "../media/index.ts";
import { openDevices, openStore, scratchDirectory } from "./testing/fixtures.ts";

test("a blank device is initialised and registered once, by every node that reaches it", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "pool0");
  await openDevices(t, store, `file://${path}?size=64Mi`);
  await openDevices(t, store, path, { nodeId: "b" });
  const [record, ...more] = await store.list("devices");
  assert.equal(more.length, 0);
  assert.equal(record?.pool, "default");
  assert.equal(record?.coherency, "single-host");
  assert.deepEqual(record?.nodes, { a: { path }, b: { path } });
  assert.equal(record?.sizeBytes, 64 * 2 ** 20);
});

test("a device that holds something else is refused, saying what, unless forced", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "disk");
  await writeFile(path, Buffer.concat([Buffer.from("XFSB"), Buffer.alloc(64 * 2 ** 20 - 4)]));
  await assert.rejects(openDevices(t, store, path), {
    code: "DEVICE_NOT_BLANK",
    message: /disk holds an XFS file system; .*--force/,
  });
  assert.deepEqual(await store.list("devices"), []);
  await openDevices(t, store, path, { force: true });
  await openDevices(t, store, path, { force: true, nodeId: "b" });
  assert.equal((await store.list("devices")).length, 1, "a device of ours is never initialised again");
});

test("nodes that start at the same time agree on one label", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const spec = `file://${join(directory, "pool0")}?size=64Mi`;
  await Promise.all(["a", "b", "c"].map((nodeId) => openDevices(t, store, spec, { nodeId })));
  const records = await store.list("devices");
  assert.equal(records.length, 1);
  assert.deepEqual(Object.keys(records[0]?.nodes ?? {}).toSorted(), ["a", "b", "c"]);
});

test("a node that no longer has a device is no longer among those that reach it", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const [first, second] = [join(directory, "pool0"), join(directory, "pool1")];
  await openDevices(t, store, `file://${first}?size=64Mi`);
  await openDevices(t, store, first, { nodeId: "b" });
  await openDevices(t, store, `file://${second}?size=64Mi`);
  const reached = (await store.list("devices")).map(({ nodes }) => nodes);
  assert.ok(reached.some((nodes) => nodes["a"]?.path === second));
  assert.ok(reached.some((nodes) => nodes["a"] === undefined && nodes["b"]?.path === first));
});

test("a device of another fabric is refused", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "pool0");
  await openDevices(t, store, `file://${path}?size=64Mi`);
  await assert.rejects(openDevices(t, store, path, { nodeId: "b", fabric: "rack2" }), {
    code: "INVALID_ARGUMENT",
    message: /of fabric "rack1", this node is in "rack2"/,
  });
});

test("a device that the stock tools formatted becomes a read-only volume that covers it whole", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "stock");
  const uuid = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
  {
    await using device = await Device.open({ type: "path", path, sizeBytes: 64 * 2 ** 20 }, { writable: true });
    const format = { uuid, name: "", uid: 0, gid: 0, mode: 0o755, generation: 0, createdSeconds: 0, stock: true };
    await formatVolume(device, device.whole, format);
  }
  const devices = await openDevices(t, store, path);
  const [volume] = await store.list("volumes");
  assert.equal(volume?.name, `adopted-${uuid}`);
  assert.equal(volume?.adopted, true);
  assert.equal(volume?.phase, "Ready");
  assert.equal(volume?.pool, "");
  assert.deepEqual(volume?.regions, [{ deviceUuid: uuid, offset: 0, length: 64 * 2 ** 20 }]);
  assert.ok(devices.get(uuid));
  assert.equal((await devices.get(uuid)?.inspect())?.type, "famfs", "it was not written to");
});

test("while a node has a device, nobody gets it for itself", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "pool0");
  await openDevices(t, store, `file://${path}?size=64Mi`);
  await using device = await Device.open({ type: "path", path, sizeBytes: undefined }, { writable: true });
  await assert.rejects(device.lock(), { code: "DEVICE_IN_USE" });
});
