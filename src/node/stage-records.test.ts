import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type StageRecord, StageRecords } from "./stage-records.ts";

async function scratch(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "famfs-records-"));
  t.after(() => rm(directory, { recursive: true }));
  return join(directory, "volumes");
}

const RECORD: StageRecord = {
  volumeId: "v/../1",
  stagingPath: "/staging",
  accessMode: "MULTI_NODE_MULTI_WRITER",
  readOnly: false,
  mountGroup: undefined,
  seLinuxContext: undefined,
  targets: ["/pods/1"],
  pods: { "/pods/1": { namespace: "team", name: "server-0", uid: "1-2-3" } },
};

test("records survive a restart, whatever the volume id looks like", async (t) => {
  const directory = await scratch(t);
  const records = await StageRecords.open(directory);
  await records.put({ ...RECORD, device: "0:57" });
  assert.equal((await StageRecords.open(directory)).get(RECORD.volumeId)?.device, "0:57");
  await records.put(RECORD);
  await records.put({ ...RECORD, volumeId: "other", mountGroup: 42 });
  await records.delete("other");
  const again = await StageRecords.open(directory);
  assert.deepEqual(again.all(), [RECORD]);
  assert.deepEqual(await readdir(join(directory, "..")), ["volumes"]);
});

test("the label of a mount survives a restart; records of before there was one have none", async (t) => {
  const directory = await scratch(t);
  const label = "system_u:object_r:container_file_t:s0:c1,c2";
  await (await StageRecords.open(directory)).put({ ...RECORD, seLinuxContext: label });
  assert.equal((await StageRecords.open(directory)).get(RECORD.volumeId)?.seLinuxContext, label);
  const { seLinuxContext: _, ...old } = RECORD;
  await writeFile(join(directory, "x.json"), JSON.stringify({ ...old, volumeId: "old" }));
  assert.deepEqual((await StageRecords.open(directory)).get("old"), { ...RECORD, volumeId: "old" });
});

test("what a volume was served with survives a restart; what another version wrote there is left out", async (t) => {
  const directory = await scratch(t);
  const attachment = {
    volumeId: RECORD.volumeId,
    devicePath: "/dev/dax0.0",
    coherent: true,
    region: { offset: 0, length: 4096 },
    expect: { volumeUuid: "11111111-2222-3333-4444-555555555555", regionGeneration: 1 },
    node: { nodeId: "a", bootId: "b", slot: 0 },
    readOnly: false,
    shared: true,
    exclusive: false,
    parameters: {},
    mountGroup: undefined,
  };
  await (await StageRecords.open(directory)).put({ ...RECORD, attachment });
  assert.deepEqual((await StageRecords.open(directory)).get(RECORD.volumeId), {
    ...RECORD,
    attachment: { ...attachment, mountGroup: undefined },
  });
  const { region: _, ...other } = attachment;
  await writeFile(join(directory, "x.json"), JSON.stringify({ ...RECORD, volumeId: "x", attachment: other }));
  assert.deepEqual((await StageRecords.open(directory)).get("x"), { ...RECORD, volumeId: "x" });
});

test("a record of before targets were kept knows those of its pods", async (t) => {
  const directory = await scratch(t);
  await StageRecords.open(directory);
  const { targets: _, ...old } = RECORD;
  await writeFile(join(directory, "x.json"), JSON.stringify(old));
  assert.deepEqual((await StageRecords.open(directory)).get(RECORD.volumeId), RECORD);
});

test("a file that is not a record is refused with its path", async (t) => {
  const directory = await scratch(t);
  await StageRecords.open(directory);
  for (const text of [
    "{",
    "null",
    "{}",
    JSON.stringify({ ...RECORD, mountGroup: "0" }),
    JSON.stringify({ ...RECORD, seLinuxContext: 'u:r:t:s0",suid' }),
    JSON.stringify({ ...RECORD, seLinuxContext: ["u:r:t"] }),
    JSON.stringify({ ...RECORD, pods: { "/a": 1 } }),
    JSON.stringify({ ...RECORD, targets: "/a" }),
    JSON.stringify({ ...RECORD, former: [57] }),
  ]) {
    await writeFile(join(directory, "x.json"), text);
    await assert.rejects(StageRecords.open(directory), { code: "INTERNAL", message: /x\.json is not a record/ });
  }
});
