import assert from "node:assert/strict";
import { test } from "node:test";
import { type DriverEvent, updateRecord } from "../state/index.ts";
import { claim, testCluster } from "./testing/fixture.ts";

test("a controller raises what the memory remembers, and notices itself when the store went back", async () => {
  const events: DriverEvent[] = [];
  await using at = await testCluster({ raiseMs: 5, events: { record: (event) => void events.push(event) } });
  await at.client.call("controller", "CreateVolume", claim("v"));
  const device = () => at.store.get("devices", at.agent.deviceUuid);
  const revision = async () => (await device())?.revision ?? 0;
  while ((await revision()) < 3) await tick();
  await updateRecord(at.store, "devices", at.agent.deviceUuid, (found) => ({ ...found, revision: 1 }));
  while ((await device())?.frozen === undefined) await tick();
  assert.match((await device())?.frozen?.reason ?? "", /a controller wrote revision \d+ of the device, and found 1/);
  assert.deepEqual([...new Set(events.map(({ reason }) => reason))], ["StoreRestored"]);
  const before = await revision();
  // It was booted since, by the record; but by which one?
  await updateRecord(at.store, "volumes", "v", (volume) => ({ ...volume, staged: { "node-a": { bootId: "older" } } }));
  for (let rounds = 0; rounds < 20; rounds++) await tick();
  assert.deepEqual(Object.keys((await at.store.get("volumes", "v"))?.staged ?? {}), ["node-a"]);
  assert.equal(await revision(), before);
  await updateRecord(at.store, "devices", at.agent.deviceUuid, (found) => ({
    ...found,
    revision: 100,
    frozen: undefined,
  }));
  while (Object.keys((await at.store.get("volumes", "v"))?.staged ?? {}).length > 0) await tick();
  while ((await revision()) <= 100) await tick();
  assert.equal((await device())?.frozen, undefined);
});

function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 10));
}
