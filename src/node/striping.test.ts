import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { open, readFile, statfs, truncate, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { MIB } from "../base/index.ts";
import { fsck } from "../format/index.ts";
import { eventually } from "./testing/fixtures.ts";
import { testCluster } from "./testing/test-node.ts";

const CHUNK = 2 * MIB;
const REGION = { offset: 2 * MIB, length: 64 * MIB };
const run = promisify(execFile);
const skip = skipWithoutMounts();

/** Writes through a shared mapping at the chunk boundaries and checks what is there. */
const MAPPED = `
import mmap, sys
with open(sys.argv[1], "r+b") as f:
    m = mmap.mmap(f.fileno(), 0)
    size, chunk = len(m), ${CHUNK}
    for at in range(0, size, chunk):
        assert m[at:at + 5] == b"chunk", at
    m[chunk - 4:chunk + 4] = b"crossing"
    m[size - 3:size] = b"end"
    m.flush()
`;

test("a volume of a class with stripe.*: declared files are interleaved, on both nodes and after a remount", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  const [a, b] = [await cluster.node("a"), await cluster.node("b")];
  const parameters = { "stripe.buckets": "4", "stripe.strips": "3", "stripe.chunkSize": "2Mi", sealDelay: "100ms" };
  await cluster.volume("v1", { parameters, regions: await regions(cluster.store) });
  await a.stage("v1");
  await b.stage("v1");
  const [onA, onB] = [a.stagingPath("v1"), b.stagingPath("v1")];
  const before = (await statfs(onA)).bfree;

  const path = join(onA, "arena");
  const size = 7 * CHUNK + 777;
  const expected = Buffer.alloc(size);
  const file = await open(path, "w+");
  await file.truncate(size);
  for (let at = 0; at < size; at += CHUNK) expected.write("chunk", at);
  await file.write(expected, 0, 5 * CHUNK - 100, 0); // ends inside a chunk
  await file.write(expected, 5 * CHUNK - 100, size - (5 * CHUNK - 100), 5 * CHUNK - 100);
  await file.close();
  await run("python3", ["-c", MAPPED, path]);
  expected.write("crossing", CHUNK - 4);
  expected.write("end", size - 3);
  assert.ok((await readFile(path)).equals(expected));

  await writeFile(join(onA, "small"), "simple");
  await a.unstage("v1");
  const report = fsck((await readFile(cluster.devicePath)).subarray(REGION.offset, REGION.offset + REGION.length));
  assert.deepEqual(report.findings, []);
  const { layout } = [...(report.tree?.byIndex.values() ?? [])].find(({ name }) => name === "arena") ?? {};
  assert.equal(layout?.type === "interleaved" && layout.strips.length, 3);
  assert.ok((await readFile(join(onB, "arena"))).equals(expected), "the other node");
  await b.unstage("v1");

  await a.stage("v1");
  assert.ok((await readFile(path)).equals(expected), "a second mount");
  await assert.rejects(truncate(path, size + 1), { code: "EPERM" });
  await unlink(path);
  await unlink(join(onA, "small"));
  // The kernel forgets what was removed a moment after the call has returned.
  await eventually("the strips are free again", async () => (await statfs(onA)).bfree === before);
});

/** The region that `fsck` above looks at. */
async function regions(store: { list(kind: "devices"): Promise<readonly { uuid: string }[]> }) {
  const [device] = await store.list("devices");
  return [{ deviceUuid: device?.uuid ?? "", ...REGION }];
}
