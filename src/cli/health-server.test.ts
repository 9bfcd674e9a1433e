import assert from "node:assert/strict";
import { test } from "node:test";
import { HealthServer } from "./health-server.ts";

test("healthz answers always, readyz names the checks that do not hold", async () => {
  let renewed = false;
  await using server = await HealthServer.open({ port: 0, checks: { heartbeat: () => renewed, server: () => true } });
  const ask = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`);
    return `${response.status} ${await response.text()}`;
  };
  assert.equal(await ask("/healthz"), "200 ok\n");
  assert.equal(await ask("/readyz"), "503 not ready: heartbeat\n");
  renewed = true;
  assert.equal(await ask("/readyz"), "200 ok\n");
  assert.equal(await ask("/else"), "404 no such page\n");
});

test("a port that is taken is an error with its number", async () => {
  await using server = await HealthServer.open({ port: 0, checks: {} });
  await assert.rejects(HealthServer.open({ port: server.port, checks: {} }), { code: "SYSTEM", message: /EADDRINUSE/ });
});
