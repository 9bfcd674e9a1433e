import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FamfsError, silentLogger } from "../../base/index.ts";
import { Informer } from "../informer.ts";
import { exampleVolume } from "../store-conformance.ts";
import type { WatchEvent } from "./api.ts";
import { Reflector } from "./reflector.ts";
import { resources } from "./resources.ts";

/** An API server with FamfsVolumes; its watches say nothing, and end as they are told. */
class QuietServer {
  version = 1_000_000;
  volumes: string[] = [];
  lists = 0;
  readonly watchedFrom: string[] = [];
  #silent = Promise.withResolvers<never>();

  /** What a watch makes of silence. */
  breakOff(): void {
    this.#silent.reject(new FamfsError("STORE_UNAVAILABLE", "nothing came", { details: { silent: true } }));
    this.#silent = Promise.withResolvers();
  }

  request = async (): Promise<unknown> => {
    this.lists++;
    const { spec, status } = resources("n").volumes.toBody(exampleVolume);
    const items = this.volumes.map((name) => ({
      apiVersion: "famfs.csi.dev/v1alpha1",
      kind: "FamfsVolume",
      metadata: { name, resourceVersion: String(this.version), creationTimestamp: "2026-01-01T00:00:00Z", uid: name },
      spec,
      status,
    }));
    return { metadata: { resourceVersion: String(this.version) }, items };
  };

  watch = async function* (
    this: QuietServer,
    _path: string,
    { resourceVersion }: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent> {
    this.watchedFrom.push(resourceVersion ?? "");
    const stopped = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    await Promise.race([this.#silent.promise, stopped]);
    yield* [];
  }.bind(this);
}

function reflect(t: TestContext, server: QuietServer) {
  const options = { api: server, resource: resources("n").volumes, logger: silentLogger };
  const informer = new Informer<"volumes">("volumes", (sink) => new Reflector({ ...options, sink }));
  t.after(() => informer[Symbol.asyncDispose]());
  const seen = () => [...informer.list()].map(({ name }) => name);
  return { informer, seen };
}

test("a watch that was silent for too long is not asked for again from a version that may be none any more", async (t) => {
  const server = new QuietServer();
  server.volumes = ["a", "b"];
  const { seen } = reflect(t, server);
  while (server.watchedFrom.length < 1) await sleep(2);
  assert.deepEqual(seen(), ["a", "b"]);
  // etcd is restored: an older version, in which b is not there yet.
  server.version = 500;
  server.volumes = ["a"];
  server.breakOff();
  while (server.watchedFrom.length < 2) await sleep(2);
  assert.deepEqual(server.watchedFrom, ["1000000", "500"]);
  assert.deepEqual(seen(), ["a"]);
});

test("a resync reads everything, whatever the watch says, and goes on from there", async (t) => {
  const server = new QuietServer();
  server.volumes = ["a"];
  const { informer, seen } = reflect(t, server);
  while (server.watchedFrom.length < 1) await sleep(2);
  server.version = 500;
  server.volumes = ["c"];
  assert.deepEqual(seen(), ["a"], "nobody said so");
  await informer.resync();
  assert.deepEqual(seen(), ["c"]);
  while (server.watchedFrom.length < 2) await sleep(2);
  assert.equal(server.watchedFrom.at(-1), "500");
});
