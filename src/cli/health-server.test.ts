import assert from "node:assert/strict";
import { test } from "node:test";
import { FamfsError } from "../base/index.ts";
import { runChecks } from "./checks.ts";
import { HealthServer } from "./health-server.ts";

test("healthz answers always, readyz says which checks do not hold and why", async () => {
  let away = true;
  const store = async () => {
    if (away) throw new FamfsError("STORE_UNAVAILABLE", "no such API");
  };
  await using server = await HealthServer.open({ port: 0, readiness: () => ({ store, other: async () => {} }) });
  const ask = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`);
    return `${response.status} ${await response.text()}`;
  };
  assert.equal(await ask("/healthz"), "200 ok\n");
  assert.equal(await ask("/readyz"), "503 store: no such API\nother: ok\n");
  away = false;
  assert.equal(await ask("/readyz"), "200 store: ok\nother: ok\n");
  assert.equal(await ask("/else"), "404 no such page\n");
});

test("metrics are there when somebody makes them; one that fails is an error of that scrape", async () => {
  let broken = false;
  const text = async () => {
    if (broken) throw new FamfsError("INTERNAL", "no figures");
    return "up 1\n";
  };
  await using server = await HealthServer.open({
    port: 0,
    readiness: () => ({}),
    metrics: { contentType: "text/x", text },
  });
  await using without = await HealthServer.open({ port: 0, readiness: () => ({}) });
  const ask = async ({ port }: HealthServer) => {
    const response = await fetch(`http://127.0.0.1:${port}/metrics`);
    return `${response.status} ${response.headers.get("content-type")} ${await response.text()}`;
  };
  assert.equal(await ask(server), "200 text/x up 1\n");
  broken = true;
  assert.equal(await ask(server), "500 text/plain; charset=utf-8 no figures\n");
  assert.equal(await ask(without), "404 text/plain; charset=utf-8 no such page\n");
});

test("a check that never answers fails in bounded time and does not hide the others", async () => {
  const results = await runChecks({ hangs: () => new Promise(() => {}), works: async () => {} }, 20);
  assert.deepEqual(results, [
    { name: "hangs", problem: "no answer within 20 ms" },
    { name: "works", problem: undefined },
  ]);
});

test("a port that is taken is an error with its number", async () => {
  await using server = await HealthServer.open({ port: 0, readiness: () => ({}) });
  await assert.rejects(HealthServer.open({ port: server.port, readiness: () => ({}) }), {
    code: "SYSTEM",
    message: /EADDRINUSE/,
  });
});
