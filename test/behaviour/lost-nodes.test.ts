/** Nodes that hang or die while they have a volume: what others get, and what the lost node finds when it is back. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { hasCode } from "../../src/base/index.ts";
import { RpcError } from "../../src/csi/index.ts";
import { skipWithoutMounts } from "../support/kernel.ts";
import { eventually, type NodeProcess, Nodes } from "../support/nodes.ts";

const MIB = 2 ** 20;
const skip = skipWithoutMounts();
const codeIs = (code: string) => (error: unknown) => error instanceof RpcError && error.code === code;

const { ENOTCONN, ECONNABORTED, ESTALE, EIO } = constants.errno;
const REFUSALS = [ENOTCONN, ECONNABORTED, ESTALE, EIO];

/**
 * In place into a sealed file and into a new one, until it is refused; prints why. Pauses, so that it is rarely in the
 * middle of a store.
 */
const WRITER = `
  const { openSync, writeSync } = require("node:fs");
  const [, directory] = process.argv;
  const old = openSync(directory + "/shared", "r+"), draft = openSync(directory + "/draft", "w");
  const nap = new Int32Array(new SharedArrayBuffer(4));
  try {
    for (let i = 0; ; i++) {
      writeSync(old, "a".repeat(512), (i % 2048) * 512);
      writeSync(draft, "a".repeat(512));
      if (i === 20) console.log("writing");
      Atomics.wait(nap, 0, 0, 5);
    }
  } catch (error) {
    console.log(error.errno);
  }`;

function fill(directory: string, letter: string): void {
  writeFileSync(join(directory, "shared"), letter.repeat(MIB));
  sync(directory);
}

/** Seals what is there. */
function sync(directory: string): void {
  const fd = openSync(directory, "r");
  fsyncSync(fd);
  closeSync(fd);
}

// Each waits most of its time for a lease to run out.
suite("lost nodes", { concurrency: true }, () => {
  test("a node that hangs while it writes is detached by force; its writes are refused when it goes on", {
    skip,
  }, async () => {
    await using nodes = await Nodes.open("256Mi");
    const [a, b] = [await nodes.node("a"), await nodes.node("b")];
    const mode = "SINGLE_NODE_MULTI_WRITER";
    const id = await nodes.create("v", 32 * MIB, mode);
    await nodes.attach(id, a, mode);
    await a.mount(id, mode);
    fill(a.target(id), "-");

    const writer = spawn(process.execPath, ["-e", WRITER, a.target(id)], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(writer.stdout, "data")) as [Buffer];
    assert.equal(String(line), "writing\n");
    const granted = (await nodes.store.get("volumes", id))?.writer;
    assert.equal(granted?.nodeId, a.nodeId);
    const refused = once(writer.stdout, "data") as Promise<[Buffer]>;
    {
      using _frozen = a.freeze();
      await assert.rejects(nodes.attach(id, b, mode), codeIs("FAILED_PRECONDITION"));
      await nodes.detach(id, a);
      await nodes.attach(id, b, mode);
      await b.mount(id, mode);
      // In place: in the very bytes that a was writing.
      const fd = openSync(join(b.target(id), "shared"), "r+");
      writeFileSync(fd, "b".repeat(MIB));
      fsyncSync(fd);
      closeSync(fd);
      const record = await nodes.store.get("volumes", id);
      assert.equal(record?.writer?.nodeId, b.nodeId);
      assert.ok((record?.writer?.epoch ?? 0) > granted.epoch + 1, "above the one that the detach raised");
      assert.ok(record?.staged[a.nodeId], "its region is kept for what a may still do");
    }
    const [reason] = await refused;
    assert.ok(REFUSALS.includes(-Number(reason)), String(reason));
    const record = await eventually("a gives the volume up, and says why", async () => {
      const found = await nodes.store.get("volumes", id);
      return found?.conditions.some(({ message }) => /detached from this node by force/.test(message))
        ? found
        : undefined;
    });
    assert.equal(record.staged[a.nodeId], undefined);
    assert.throws(() => readFileSync(join(a.target(id), "shared")), { code: "ENOTCONN" });
    assert.equal(readFileSync(join(b.target(id), "shared"), "utf8"), "b".repeat(MIB));
    assert.equal(existsSync(join(b.target(id), "draft")), false);
    writeFileSync(join(b.target(id), "after"), "b goes on");
    await a.unmount(id);
    assert.deepEqual((await nodes.store.get("volumes", id))?.conditions, []);
    await b.unmount(id);
    await nodes.detach(id, b);
  });

  test("a volume of a dead node is deleted, and its bytes are given to nobody before the node is gone", {
    skip,
  }, async () => {
    await using nodes = await Nodes.open("64Mi");
    const [a, b] = [await nodes.node("a"), await nodes.node("b")];
    const mode = "SINGLE_NODE_MULTI_WRITER";
    const id = await nodes.create("v", 32 * MIB, mode);
    await nodes.attach(id, a, mode);
    await a.mount(id, mode);
    fill(a.target(id), "a");
    await a.die();
    const remove = () => nodes.controller.call("controller", "DeleteVolume", { volumeId: id });
    await assert.rejects(remove(), codeIs("FAILED_PRECONDITION"));
    await nodes.detach(id, a);
    await remove();
    await assert.rejects(nodes.create("w", 32 * MIB, mode), codeIs("RESOURCE_EXHAUSTED"));
    await declareGone(nodes, a);
    await eventually("erased", async () => (await nodes.store.get("volumes", id)) === undefined);
    const next = await nodes.create("w", 32 * MIB, mode);
    await nodes.attach(next, b, mode);
    await b.mount(next, mode);
    await b.unmount(next);
  });

  test("a node that was declared gone and comes back gives up what it had before its writers go on", {
    skip,
  }, async () => {
    await using nodes = await Nodes.open("256Mi");
    const [a, b] = [await nodes.node("a"), await nodes.node("b")];
    const mode = "MULTI_NODE_MULTI_WRITER";
    const id = await nodes.create("v", 32 * MIB, mode);
    for (const node of [a, b]) {
      await nodes.attach(id, node, mode);
      await node.mount(id, mode);
    }
    fill(a.target(id), "a");
    {
      using _frozen = a.freeze();
      await declareGone(nodes, a);
      const left = async () => (await nodes.store.get("volumes", id))?.staged[a.nodeId] === undefined;
      await eventually("the quarantine ends", left);
    }
    await eventually("a gives it up, and says why", async () => {
      const conditions = (await nodes.store.get("volumes", id))?.conditions ?? [];
      return conditions.some(({ message }) => /declared gone/.test(message));
    });
    await eventually("it registers anew", () => nodes.store.get("nodes", a.nodeId));
    assert.throws(() => writeFileSync(join(a.target(id), "late"), "x"), { code: "ENOTCONN" });
    await a.mount(id, mode); // as for a new pod
    assert.equal(readFileSync(join(a.target(id), "shared"), "utf8"), "a".repeat(MIB));
    for (const node of [a, b]) await node.unmount(id);
  });

  test("a node whose record is deleted by mistake loses nothing", { skip }, async () => {
    await using nodes = await Nodes.open("128Mi");
    const a = await nodes.node("a");
    const mode = "SINGLE_NODE_MULTI_WRITER";
    const id = await nodes.create("v", 32 * MIB, mode);
    await nodes.attach(id, a, mode);
    await a.mount(id, mode);
    const draft = openSync(join(a.target(id), "draft"), "w");
    // For less than a lease: the controller may miss a record that is deleted as soon as it is written.
    for (let times = 0; times < 3; times++) {
      await declareGone(nodes, a);
      await eventually("it writes its record anew", () => nodes.store.get("nodes", a.nodeId));
      writeFileSync(draft, `${times}`);
    }
    closeSync(draft);
    sync(a.target(id));
    assert.equal(readFileSync(join(a.target(id), "draft"), "utf8"), "012");
    const { staged, conditions } = (await nodes.store.get("volumes", id)) ?? {};
    assert.deepEqual(Object.keys(staged ?? {}), [a.nodeId]);
    assert.deepEqual(conditions, []);
    await a.unmount(id);
    await nodes.detach(id, a);
  });
});

/** What the cluster's controller does when the Node object is gone. */
async function declareGone({ store }: Nodes, { nodeId }: NodeProcess): Promise<void> {
  await eventually("its record is deleted, whatever the node writes there meanwhile", async () => {
    const record = await store.get("nodes", nodeId);
    if (record === undefined) return true;
    return await store.delete("nodes", nodeId, record.resourceVersion).then(
      () => true,
      (error: unknown) => {
        if (hasCode(error, "CONFLICT")) return false;
        throw error;
      },
    );
  });
}
