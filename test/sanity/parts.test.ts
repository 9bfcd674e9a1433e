/** The services in processes of their own, as a container orchestrator meets them, beyond what csi-sanity asks. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { open, rename } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { type AccessMode, CsiClient, RpcError } from "../../src/csi/index.ts";
import { EntryDecoder, entryOffset, LOG_OFFSET } from "../../src/format/index.ts";
import { EmbeddedStore } from "../../src/state/index.ts";
import { skipWithoutMounts } from "../support/kernel.ts";
import { mountsBelow } from "../support/leftovers.ts";
import { type Running, runProgram, simulatedDevice, startProgram } from "../support/program.ts";
import { startStandalone } from "../support/standalone.ts";

const skip = skipWithoutMounts();
const START_MS = 30_000;

const mountCapability = (mode: AccessMode) => ({ mount: {}, accessType: "mount" as const, accessMode: { mode } });

/** One node of a pretended cluster: its plugin's client and its directories. */
class Node {
  readonly id: string;
  readonly client: CsiClient;
  readonly #controller: CsiClient;
  readonly #directory: string;

  constructor(
    id: string,
    { client, controller, directory }: { client: CsiClient; controller: CsiClient; directory: string },
  ) {
    this.id = id;
    this.client = client;
    this.#controller = controller;
    this.#directory = join(directory, `kubelet-${id}`);
    mkdirSync(join(this.#directory, "pods"), { recursive: true });
  }

  get target(): string {
    return join(this.#directory, "pods", "volume");
  }

  get #staging(): string {
    return join(this.#directory, "staging");
  }

  async attach(volumeId: string, mode: AccessMode, readonly = false): Promise<void> {
    const volumeCapability = mountCapability(mode);
    const request = { volumeId, volumeCapability, readonly, stagingTargetPath: this.#staging };
    await this.#controller.call("controller", "ControllerPublishVolume", { ...request, nodeId: this.id });
    await this.client.call("node", "NodeStageVolume", request);
    await this.client.call("node", "NodePublishVolume", { ...request, targetPath: this.target });
  }

  async detach(volumeId: string): Promise<void> {
    await this.client.call("node", "NodeUnpublishVolume", { volumeId, targetPath: this.target });
    await this.client.call("node", "NodeUnstageVolume", { volumeId, stagingTargetPath: this.#staging });
    await this.#controller.call("controller", "ControllerUnpublishVolume", { volumeId, nodeId: this.id });
  }
}

async function serving(server: Running, client: CsiClient, service: "controller" | "node"): Promise<void> {
  const deadline = performance.now() + START_MS;
  for (;;) {
    try {
      if (service === "controller") await client.call("controller", "ControllerGetCapabilities", {});
      else await client.call("node", "NodeGetInfo", {});
      return;
    } catch (error) {
      if (server.child.exitCode !== null || performance.now() > deadline)
        throw new Error(server.said(), { cause: error });
      await setTimeout(50);
    }
  }
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`after 20 s it does not hold that ${what}`);
    await setTimeout(20);
  }
}

/** A controller and nodes a and b over one device, each a process of its own. */
async function startParts({ deviceSize = "256Mi" } = {}) {
  await using stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "famfs-parts-"));
  stack.defer(() => {
    // Only what a failed test left.
    for (const mount of mountsBelow(directory)) spawnSync("umount", ["--lazy", mount], { timeout: 10_000 });
    rmSync(directory, { recursive: true, force: true });
  });
  const device = stack.use(simulatedDevice(deviceSize));
  const stateDir = join(directory, "state");
  const start = async (service: "controller" | "node", name: string, ...flags: string[]) => {
    const endpoint = `unix://${join(directory, `${name}.sock`)}`;
    const server = startProgram(service, `--endpoint=${endpoint}`, `--state-dir=${stateDir}`, ...flags);
    stack.defer(async () => {
      await server.stop();
    });
    const client = stack.use(CsiClient.open(endpoint));
    await serving(server, client, service);
    return client;
  };
  const controller = await start("controller", "controller");
  const node = async (id: string) => {
    const client = await start("node", id, `--node-id=${id}`, `--device=${device.url}`);
    return new Node(id, { client, controller, directory });
  };
  const [a, b] = [await node("a"), await node("b")];
  const create = async (
    name: string,
    mode: AccessMode,
    { requiredBytes = 64n << 20n, parameters = {} }: { requiredBytes?: bigint; parameters?: object } = {},
  ): Promise<string> => {
    const { volume } = await controller.call("controller", "CreateVolume", {
      name,
      capacityRange: { requiredBytes },
      volumeCapabilities: [mountCapability(mode)],
      parameters: { sealDelay: "100ms", mode: "0777", writerTimeout: "1s", ...parameters },
    });
    return volume?.volumeId ?? "";
  };
  const started = stack.move();
  return {
    directory,
    stateDir,
    device,
    controller,
    a,
    b,
    create,
    [Symbol.asyncDispose]: () => started.disposeAsync(),
  };
}

test("controller and two nodes apart share one volume; the writer moves on demand; deleting leaves zeroes", {
  skip,
}, async () => {
  await using parts = await startParts();
  const mode = "MULTI_NODE_MULTI_WRITER";
  const volumeId = await parts.create("shared", mode);
  const { a, b, controller, device, directory, stateDir } = parts;
  const nodes = [a, b];
  for (const node of nodes) await node.attach(volumeId, mode);

  const secret = "left by the former tenant ".repeat(1000);
  writeFileSync(join(a.target, "from-a"), secret);
  await until("b reads what a wrote", () => reads(join(b.target, "from-a")) === secret);
  // b asks, a gives way: nobody is told to.
  writeFileSync(join(b.target, "from-b"), "written by b");
  await rename(join(b.target, "from-a"), join(b.target, "renamed-by-b"));
  await until("a reads what b wrote", () => reads(join(a.target, "from-b")) === "written by b");
  await until("a sees the new name", () => readdirSync(a.target).toSorted().join() === "from-b,renamed-by-b");

  assert.ok(readFileSync(device.path).includes("left by the former tenant"));
  for (const node of nodes) await node.detach(volumeId);
  await controller.call("controller", "DeleteVolume", { volumeId });
  await using store = await EmbeddedStore.open({ stateDir });
  await until("the volume is erased", async () => (await store.get("volumes", volumeId)) === undefined);
  assert.ok(!readFileSync(device.path).includes("left by the former tenant"), "nothing is left for the next one");
  assert.deepEqual(mountsBelow(directory), []);
});

test("a writer that was detached by force is refused as soon as its successor has written", { skip }, async () => {
  await using parts = await startParts();
  const { a, b, controller } = parts;
  const mode = "MULTI_NODE_SINGLE_WRITER";
  const volumeId = await parts.create("forced", mode);
  await a.attach(volumeId, mode);
  writeFileSync(join(a.target, "before"), "a");
  const directory = openSync(a.target, "r");
  fsyncSync(directory); // what is not sealed goes with the node
  closeSync(directory);
  // What a CO does when it has given a node up: nobody tells the node.
  await controller.call("controller", "ControllerUnpublishVolume", { volumeId, nodeId: "a" });
  await b.attach(volumeId, mode);
  await until("b reads what a wrote", () => reads(join(b.target, "before")) === "a");
  writeFileSync(join(b.target, "after"), "b");
  assert.throws(
    () => writeFileSync(join(a.target, "too-late"), "a"),
    (error: NodeJS.ErrnoException) => {
      // ESTALE, which Node has no name for, EAGAIN when it asked the store first; ENOTCONN once it has given up.
      assert.match(error.code ?? "", /^(Unknown system error -116|EROFS|EAGAIN|ENOTCONN)$/);
      return true;
    },
  );
  await setTimeout(300); // the seal delay of what must not be sealed
  assert.deepEqual(readdirSync(b.target).toSorted(), ["after", "before"]);
  await b.detach(volumeId);
  await a.detach(volumeId);
});

test("a striped class: a file that is declared on one node is interleaved in the log, and the same on the other", {
  skip,
}, async () => {
  await using parts = await startParts({ deviceSize: "8Gi" }); // buckets have 1 GiB; nothing is taken but what is used
  const { a, b, controller, device, stateDir } = parts;
  const mode = "MULTI_NODE_MULTI_WRITER";
  const striped = { "stripe.buckets": "4", "stripe.strips": "3", "stripe.chunkSize": "2Mi" };
  await assert.rejects(
    parts.create("wrong", mode, { parameters: { ...striped, "stripe.strips": "5" } }),
    (error) => error instanceof RpcError && error.code === "INVALID_ARGUMENT" && /stripe\.strips/.test(error.message),
  );
  const volumeId = await parts.create("striped", mode, { requiredBytes: 5n << 30n, parameters: striped });
  for (const node of [a, b]) await node.attach(volumeId, mode);

  const content = randomBytes(7 * 2 ** 21 + 777);
  const file = await open(join(a.target, "arena"), "w");
  await file.truncate(content.byteLength); // its size is known before its data
  await file.writeFile(content);
  await file.close();
  const onB = join(b.target, "arena");
  await until("b sees the file", () => reads(onB) !== undefined);
  assert.ok(readFileSync(onB).equals(content));

  await using store = await EmbeddedStore.open({ stateDir });
  const region = (await store.get("volumes", volumeId))?.regions[0];
  const log = Buffer.alloc(entryOffset(8));
  await using memory = await open(device.path);
  await memory.read(log, 0, log.byteLength, (region?.offset ?? 0) + LOG_OFFSET);
  const decoder = new EntryDecoder(log, true);
  const entries = Array.from({ length: 8 }, (_, index) => decoder.decode(entryOffset(index), index).entry);
  const entry = entries.find((one) => one?.type === "file" && one.path === "arena");
  assert.ok(entry?.type === "file" && entry.layout.type === "interleaved");
  assert.deepEqual([entry.layout.strips.length, entry.layout.chunkSize], [3, 2 ** 21]);
  for (const node of [a, b]) await node.detach(volumeId);
  await controller.call("controller", "DeleteVolume", { volumeId });
});

function reads(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

test("a device that the stock tools formatted is published read-only under its static volume id", {
  skip,
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "famfs-adopted-"));
  using device = simulatedDevice("4Gi");
  await using stack = new AsyncDisposableStack();
  stack.defer(() => {
    // Only what a failed test left.
    for (const mount of mountsBelow(directory)) spawnSync("umount", ["--lazy", mount], { timeout: 10_000 });
    rmSync(directory, { recursive: true, force: true });
  });
  const made = await runProgram("--output=json", "mkfs", "--stock", device.url);
  assert.equal(made.status, 0, made.stderr);
  await using standalone = await startStandalone(directory, device.url);
  const { client } = standalone;
  const listed = (await client.call("controller", "ListVolumes", {})).entries.map((entry) => entry.volume?.volumeId);
  const volumeId = listed[0] ?? "";
  assert.match(volumeId, /^adopted-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  const node = new Node("test-node", { client, controller: client, directory });
  await assert.rejects(
    node.attach(volumeId, "MULTI_NODE_MULTI_WRITER"),
    refused(/stock/),
    "only its owner writes, by the stock tools' file",
  );
  await client.call("controller", "ControllerUnpublishVolume", { volumeId, nodeId: node.id });
  await node.attach(volumeId, "MULTI_NODE_READER_ONLY");
  assert.throws(() => writeFileSync(join(node.target, "new"), "x"), { code: "EROFS" });
  const { usage, volumeCondition } = await client.call("node", "NodeGetVolumeStats", {
    volumeId,
    volumePath: node.target,
  });
  assert.equal(volumeCondition?.abnormal, false);
  // Slots of an 8 MiB log, less what is kept for take-over.
  assert.ok((usage.find(({ unit }) => unit === "INODES")?.total ?? 0n) > 15_000n);
  await node.detach(volumeId);
  await assert.rejects(client.call("controller", "DeleteVolume", { volumeId }), refused(/not ours to erase/));
  assert.deepEqual(mountsBelow(directory), []);
});

const refused = (message: RegExp) => (error: unknown) =>
  error instanceof RpcError && error.code === "FAILED_PRECONDITION" && message.test(error.message);
