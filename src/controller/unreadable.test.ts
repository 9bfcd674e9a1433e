import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { DriverEvent } from "../state/index.ts";
import { StoreCensus } from "./figures.ts";
import { claim, registerNode, testCluster } from "./testing/fixture.ts";

test("an object that cannot be read is named by an event and a figure until it can, and stops nothing else", async () => {
  const recorded: DriverEvent[] = [];
  await using at = await testCluster({ events: { record: (event) => void recorded.push(event) } });
  using census = await StoreCensus.open(at.store);
  await at.client.call("controller", "CreateVolume", claim("v1"));
  await registerNode(at.store, "node-b");
  const unreadable = () => census.figures().unreadable.map(({ kind, name }) => `${kind} ${name}`);
  assert.deepEqual(unreadable(), []);
  const before = new DatabaseSync(join(at.directory, "state", "state.sqlite"));
  const bodies = before.prepare("SELECT kind, name, body FROM records WHERE name IN ('v1', 'node-b')").all();
  before.exec("UPDATE records SET version = version + 1000, body = '{}' WHERE name IN ('v1', 'node-b')");
  const reasons = () => new Set(recorded.map(({ reason }) => reason));
  while (!reasons().has("VolumeUnreadable") || !reasons().has("HeartbeatUnreadable")) await sleep(5);
  const told = recorded.find(({ reason }) => reason === "VolumeUnreadable");
  assert.match(told?.message ?? "", /^volume v1 cannot be read: .*volumes v1/);
  assert.deepEqual(unreadable(), ["volumes v1", "nodes node-b"]);
  await at.store.get("devices", at.agent.deviceUuid);

  const mend = before.prepare("UPDATE records SET version = version + 1000, body = ? WHERE kind = ? AND name = ?");
  for (const { kind, name, body } of bodies) mend.run(String(body), String(kind), String(name));
  before.close();
  while (unreadable().length > 0) await sleep(5);
  await at.client.call("controller", "DeleteVolume", { volumeId: "v1" });
});
