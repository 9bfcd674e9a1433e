import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { FamfsError } from "../base/index.ts";
import { Device, formatVolume, initDevice } from "../media/index.ts";
import { Devices } from "./devices.ts";
import { planRebuild, rebuild } from "./rebuild.ts";
import {
  cleanup,
  eventually,
  intercepted,
  openDevices,
  openStore,
  scratchDirectory,
  testLogger,
} from "./testing/fixtures.ts";

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
    code: "FABRIC_CONFLICT",
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
  assert.equal((await (await devices.require(uuid)).inspect()).type, "famfs", "it was not written to");
});

test("while a node has a device, nobody gets it for itself", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "pool0");
  await openDevices(t, store, `file://${path}?size=64Mi`);
  await using device = await Device.open({ type: "path", path, sizeBytes: undefined }, { writable: true });
  await assert.rejects(device.lock(), { code: "DEVICE_IN_USE" });
});

const LABEL = { pool: "default", incarnation: 1, createdSeconds: 1, force: true };
const context = { nodeId: "a", fabric: "rack1", pool: "default", logger: testLogger, rescanMs: 20 };

async function labelled(path: string, uuid: string, pool = "default"): Promise<void> {
  await using device = await Device.open({ type: "path", path, sizeBytes: 64 * 2 ** 20 }, { writable: true });
  await initDevice(device, { ...LABEL, uuid, pool });
}

test("auto takes devices that carry a label of the pool, also those that appear later, and nothing else", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const at = (name: string) => join(directory, name);
  await labelled(at("first"), "aaaaaaaa-0000-4000-8000-000000000001");
  await labelled(at("foreign"), "aaaaaaaa-0000-4000-8000-000000000002", "another");
  await writeFile(at("blank"), Buffer.alloc(2 ** 22));
  const present = [at("first"), at("foreign"), at("blank")];
  const candidates = () => Promise.resolve(present);
  const devices = cleanup(t).use(
    await Devices.open([{ device: "auto", force: true }], { ...context, store, candidates }),
  );
  assert.deepEqual(
    (await store.list("devices")).map(({ uuid }) => uuid),
    ["aaaaaaaa-0000-4000-8000-000000000001"],
  );
  await labelled(at("second"), "aaaaaaaa-0000-4000-8000-000000000003");
  present.push(at("second"));
  await eventually("it is found", () => devices.place("aaaaaaaa-0000-4000-8000-000000000003"));
  await using blank = await Device.open({ type: "path", path: at("blank"), sizeBytes: undefined }, { writable: false });
  assert.deepEqual(await blank.inspect(), { type: "blank" });
});

test("a device that cannot be had is a problem of its own, until it can", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const [good, late, foreign] = [join(directory, "good"), join(directory, "late"), join(directory, "foreign")];
  await writeFile(foreign, Buffer.concat([Buffer.from("XFSB"), Buffer.alloc(2 ** 22)]));
  const wanted = [{ device: late }, { device: foreign }, { device: `file://${good}?size=64Mi` }];
  await assert.rejects(Devices.open(wanted, { ...context, store, strict: true }), { code: "DEVICE_NOT_FOUND" });
  const devices = cleanup(t).use(await Devices.open(wanted, { ...context, store }));
  assert.equal((await store.list("devices")).length, 1, "the others work");
  assert.match(devices.problems.join("\n"), /there is no .*late.*\n.*foreign holds an XFS file system/);
  await labelled(late, "aaaaaaaa-0000-4000-8000-000000000001");
  await eventually("it is found", () => devices.place("aaaaaaaa-0000-4000-8000-000000000001"));
  await eventually("its problem is over", () => devices.problems.length === 1);
  await assert.rejects(Devices.open([{ device: "nfs://x" }], { ...context, store }), { code: "INVALID_ARGUMENT" });
});

test("a label that changes below a running node is noticed before the device is used again", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "pool0");
  const [before, after] = ["aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"];
  await labelled(path, before);
  const devices = cleanup(t).use(await Devices.open([{ device: path }], { ...context, store }));
  await devices.require(before);
  await labelled(path, after);
  const both = new RegExp(`was device ${before}.* is now device ${after}`);
  await assert.rejects(devices.require(before), { code: "LABEL_CHANGED", message: both });
  await eventually("it is said", () => both.test(devices.problems.join()));
  await eventually("nothing is scheduled here for it", async () => {
    return (await store.get("devices", before))?.nodes["a"] === undefined;
  });
});

test("a strict node that has started goes on looking, and takes back what is not in order, until the store knows", async (t) => {
  const directory = await scratchDirectory(t);
  const real = await openStore(t, directory);
  const path = join(directory, "pool0");
  const [before, after] = ["aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"];
  await labelled(path, before);
  let refusals = 0;
  const store = intercepted(real, (call) => {
    if (call === "replace" && refusals-- > 0) throw new FamfsError("STORE_UNAVAILABLE", "no answer");
  });
  const devices = cleanup(t).use(await Devices.open([{ device: path }], { ...context, store, strict: true }));
  refusals = 2;
  await labelled(path, after);
  await eventually("nothing is scheduled here for it", async () => {
    return (await real.get("devices", before))?.nodes["a"] === undefined;
  });
  assert.match(devices.problems.join(), new RegExp(`was device ${before}.* is now device ${after}`));
  assert.ok(refusals < 0);
});

test("a store that does not answer is no device's problem", async (t) => {
  const directory = await scratchDirectory(t);
  const real = await openStore(t, directory);
  const path = join(directory, "pool0");
  await labelled(path, "aaaaaaaa-0000-4000-8000-000000000001");
  let asked = 0;
  let away = false;
  const store = intercepted(real, (call) => {
    if (call !== "get" || !away) return;
    asked++;
    throw new FamfsError("STORE_UNAVAILABLE", "no answer");
  });
  const devices = cleanup(t).use(await Devices.open([{ device: path }], { ...context, store }));
  away = true;
  await eventually("it looked twice", () => asked >= 2 || undefined);
  assert.deepEqual(devices.problems, []);
});

test("what auto cannot have stops nothing else, and is no problem once it is gone", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const [foreign, late] = [join(directory, "foreign"), join(directory, "late")];
  await labelled(foreign, "aaaaaaaa-0000-4000-8000-000000000001");
  await openDevices(t, store, foreign, { nodeId: "b", fabric: "rack2" });
  let present: string[] = [];
  const candidates = () => Promise.resolve(present);
  const devices = cleanup(t).use(await Devices.open([{ device: "auto" }], { ...context, store, candidates }));
  await labelled(late, "aaaaaaaa-0000-4000-8000-000000000002");
  present = [foreign, late];
  await eventually("the other one is found", () => devices.place("aaaaaaaa-0000-4000-8000-000000000002"));
  assert.match(devices.problems.join(), /of fabric "rack2", this node is in "rack1"/);
  present = [late];
  await eventually("it is no problem any more", () => devices.problems.length === 0 || undefined);
});

test("a device whose records are lost is not registered before they are made again", async (t) => {
  const directory = await scratchDirectory(t);
  const store = await openStore(t, directory);
  const path = join(directory, "pool0");
  const uuid = "aaaaaaaa-0000-4000-8000-000000000001";
  await labelled(path, uuid);
  {
    await using device = await Device.open({ type: "path", path, sizeBytes: undefined }, { writable: true });
    const format = { uuid, name: "pvc-1", uid: 0, gid: 0, mode: 0o755, generation: 7, createdSeconds: 2 };
    await formatVolume(device, { offset: 2 ** 22, length: 2 ** 25 }, format);
  }
  const devices = cleanup(t).use(await Devices.open([{ device: path }], { ...context, store }));
  assert.match(devices.problems.join(), /1 volumes without records \(pvc-1\).*device rebuild --fabric=rack1/);
  assert.deepEqual(await store.list("devices"), []);
  const label = { ...LABEL, uuid, sizeBytes: 2 ** 26 };
  await assert.rejects(planRebuild({ store, devices: [{ path, label }] }), {
    code: "INVALID_ARGUMENT",
    message: /--fabric/,
  });
  await rebuild(store, await planRebuild({ store, devices: [{ path, label }], fabric: "rack1" }));
  await eventually("it is registered", async () => (await store.get("devices", uuid))?.nodes["a"]);
  assert.ok(((await store.get("devices", uuid))?.generation ?? 0) >= 7);
  assert.deepEqual(devices.problems, []);
});
