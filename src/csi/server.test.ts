import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Client, credentials } from "@grpc/grpc-js";
import { FamfsError, type Logger, silentLogger } from "../base/index.ts";
import { CsiClient, CsiServer, type CsiServerOptions, type EndedCall, identityService, RpcError } from "./index.ts";

interface Line {
  level: string;
  fields: Record<string, unknown>;
}

function recordingLogger(lines: Line[], base: object = {}): Logger {
  const log = (level: string) => (fields: object) => {
    lines.push({ level, fields: { ...base, ...fields } });
  };
  return {
    debug: log("debug"),
    info: log("info"),
    warn: log("warn"),
    error: log("error"),
    child: (fields) => recordingLogger(lines, { ...base, ...fields }),
  };
}

async function temporaryEndpoint(): Promise<{ path: string } & AsyncDisposable> {
  const directory = await mkdtemp(join(tmpdir(), "famfs-csi-"));
  return {
    path: join(directory, "run", "csi.sock"),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

function serve(path: string, services: CsiServerOptions["services"], more: Partial<CsiServerOptions> = {}) {
  return CsiServer.open({ endpoint: `unix://${path}`, services, logger: silentLogger, ...more });
}

const codeIs = (code: string) => (error: unknown) => error instanceof RpcError && error.code === code;

test("the identity service answers over a socket that only its owner may use", async () => {
  await using endpoint = await temporaryEndpoint();
  const identity = identityService({ version: "1.2.3", ready: () => false });
  await using server = await serve(endpoint.path, { identity });
  using client = CsiClient.open(endpoint.path);
  assert.equal((await stat(server.path)).mode & 0o777, 0o600);
  assert.equal((await client.call("identity", "GetPluginInfo", {})).name, "famfs.csi.dev");
  assert.deepEqual((await client.call("identity", "Probe", {})).ready, { value: false });
});

test("64-bit integers cross the socket exactly, both ways", async () => {
  await using endpoint = await temporaryEndpoint();
  const largest = 2n ** 63n - 1n;
  let received: unknown;
  await using _server = await serve(endpoint.path, {
    controller: {
      async CreateVolume(request) {
        received = request.capacityRange;
        return { volume: { volumeId: "v", capacityBytes: largest - 2n } };
      },
      async GetCapacity() {
        return { availableCapacity: 2n ** 53n + 1n, maximumVolumeSize: { value: -(2n ** 63n) } };
      },
    },
  });
  using client = CsiClient.open(endpoint.path);
  const made = await client.call("controller", "CreateVolume", {
    name: "n",
    capacityRange: { requiredBytes: 2n ** 53n + 1n, limitBytes: largest },
  });
  assert.deepEqual(received, { requiredBytes: 2n ** 53n + 1n, limitBytes: largest });
  assert.equal(made.volume?.capacityBytes, largest - 2n);
  const capacity = await client.call("controller", "GetCapacity", {});
  assert.equal(capacity.availableCapacity, 2n ** 53n + 1n);
  assert.deepEqual(capacity.maximumVolumeSize, { value: -(2n ** 63n) });
});

test("an unknown throw is INTERNAL for that call only, logged once, and tells the client nothing", async () => {
  await using endpoint = await temporaryEndpoint();
  const lines: Line[] = [];
  await using _server = await serve(
    endpoint.path,
    {
      controller: {
        async DeleteVolume(request) {
          if (request.volumeId === "bad") throw new TypeError("x of undefined: secret-path");
          return {};
        },
      },
    },
    { logger: recordingLogger(lines) },
  );
  using client = CsiClient.open(endpoint.path);
  await assert.rejects(client.call("controller", "DeleteVolume", { volumeId: "bad" }), (error) => {
    assert.ok(codeIs("INTERNAL")(error));
    assert.doesNotMatch(String(error), /secret-path/);
    return true;
  });
  assert.deepEqual(await client.call("controller", "DeleteVolume", { volumeId: "good" }), {});
  assert.deepEqual(
    lines.map((line) => [line.level, line.fields["volume"], line.fields["code"]]),
    [
      ["error", "bad", "INTERNAL"],
      ["info", "good", "OK"],
    ],
  );
  assert.ok(lines[0]?.fields["err"] instanceof TypeError);
});

test("each call is counted once and logged once, under an id of its own, with volume and node", async () => {
  await using endpoint = await temporaryEndpoint();
  const lines: Line[] = [];
  const ended: EndedCall[] = [];
  await using _server = await serve(
    endpoint.path,
    {
      identity: identityService({ version: "1", ready: () => true }),
      controller: {
        async ControllerPublishVolume({ volumeId }, call) {
          call.logger.info({}, "on the way");
          if (volumeId === "taken") throw new FamfsError("VOLUME_BUSY", "another call is in progress");
          return {};
        },
      },
      node: {
        async NodeUnstageVolume() {
          return {};
        },
      },
    },
    { logger: recordingLogger(lines), node: "here", onEnd: (call) => ended.push(call) },
  );
  using client = CsiClient.open(endpoint.path);
  const publish = (volumeId: string) =>
    client.call("controller", "ControllerPublishVolume", { volumeId, nodeId: "there" });
  await publish("free");
  await assert.rejects(publish("taken"), codeIs("ABORTED"));
  await client.call("node", "NodeUnstageVolume", { volumeId: "free", stagingTargetPath: "/s" });
  await client.call("identity", "Probe", {});
  const fields = (names: string[]) => lines.map((line) => names.map((name) => line.fields[name]));
  const [first, , second] = lines.map((line) => Number(line.fields["id"]));
  assert.ok(first !== undefined && second === first + 1);
  assert.deepEqual(fields(["rpc", "volume", "node", "code", "id"]), [
    ["ControllerPublishVolume", "free", "there", undefined, first],
    ["ControllerPublishVolume", "free", "there", "OK", first],
    ["ControllerPublishVolume", "taken", "there", undefined, second],
    ["ControllerPublishVolume", "taken", "there", "ABORTED", second],
    ["NodeUnstageVolume", "free", "here", "OK", second + 1],
    ["Probe", undefined, "here", "OK", second + 2],
  ]);
  assert.deepEqual(
    ended.map(({ method, code }) => `${method} ${code}`),
    ["ControllerPublishVolume OK", "ControllerPublishVolume ABORTED", "NodeUnstageVolume OK", "Probe OK"],
  );
  assert.ok(ended.every(({ seconds }) => seconds > 0));
});

test("our errors become the status of their code; a long message is cut, not a broken stream", async () => {
  await using endpoint = await temporaryEndpoint();
  await using _server = await serve(endpoint.path, {
    controller: {
      async DeleteVolume() {
        throw new FamfsError("VOLUME_PUBLISHED", `volume is published ${"é".repeat(20_000)}`);
      },
    },
  });
  using client = CsiClient.open(endpoint.path);
  await assert.rejects(client.call("controller", "DeleteVolume", { volumeId: "v" }), codeIs("FAILED_PRECONDITION"));
});

test("a method that is not there answers UNIMPLEMENTED", async () => {
  await using endpoint = await temporaryEndpoint();
  await using _server = await serve(endpoint.path, { controller: {} });
  using client = CsiClient.open(endpoint.path);
  await assert.rejects(client.call("controller", "CreateSnapshot", { name: "s" }), codeIs("UNIMPLEMENTED"));
  await assert.rejects(client.call("identity", "Probe", {}), codeIs("UNIMPLEMENTED"));
});

test("every call ends in time: the server's bound, the client's deadline and cancellation reach the handler", async () => {
  await using endpoint = await temporaryEndpoint();
  const reasons: string[] = [];
  await using _server = await serve(
    endpoint.path,
    {
      controller: {
        // Never answers by itself.
        DeleteVolume: (_request, { signal, remainingMs }) => {
          assert.ok(remainingMs() <= 300);
          const { promise, reject } = Promise.withResolvers<never>();
          signal.addEventListener("abort", () => {
            reasons.push((signal.reason as FamfsError).code);
            reject(signal.reason);
          });
          return promise;
        },
      },
    },
    { maxCallMs: 300 },
  );
  using client = CsiClient.open(endpoint.path);
  const call = (options: object) => client.call("controller", "DeleteVolume", { volumeId: "v" }, options);
  await assert.rejects(call({}), codeIs("DEADLINE_EXCEEDED"));
  await assert.rejects(call({ timeoutMs: 100 }), codeIs("DEADLINE_EXCEEDED"));
  await assert.rejects(call({ signal: AbortSignal.timeout(100) }), codeIs("CANCELLED"));
  assert.equal(reasons.length >= 2, true);
  assert.equal(reasons[0], "DEADLINE_EXCEEDED");
});

test("oversized fields are refused before the handler sees them; the error names the field, not the secret", async () => {
  await using endpoint = await temporaryEndpoint();
  await using _server = await serve(endpoint.path, {
    controller: {
      async CreateVolume() {
        return {};
      },
    },
  });
  using client = CsiClient.open(endpoint.path);
  const create = (request: object) => client.call("controller", "CreateVolume", request);
  await create({ name: "n".repeat(128), secrets: { key: "s".repeat(9000) } });
  await assert.rejects(create({ name: "n".repeat(129) }), (error) => {
    assert.ok(codeIs("INVALID_ARGUMENT")(error));
    assert.match(String(error), /name has 129 bytes, the limit is 128/);
    return true;
  });
  await assert.rejects(create({ name: "n", parameters: { p: "x".repeat(4096) } }), codeIs("INVALID_ARGUMENT"));
  await assert.rejects(
    create({ name: "n", volumeCapabilities: [{ mount: { mountFlags: ["x".repeat(5000)] } }] }),
    codeIs("INVALID_ARGUMENT"),
  );
  const segments = { "famfs.csi.dev/fabric": "f".repeat(5000) };
  await assert.rejects(
    create({ name: "n", accessibilityRequirements: { requisite: [{ segments }] } }),
    codeIs("INVALID_ARGUMENT"),
  );
});

test("a stale socket is replaced; one that is served, and what is no socket, are left alone", async () => {
  await using endpoint = await temporaryEndpoint();
  const first = await serve(endpoint.path, {
    identity: identityService({ version: "1", ready: () => true }),
  });
  await assert.rejects(serve(endpoint.path, {}), /is served by another process/);
  using client = CsiClient.open(endpoint.path);
  await client.call("identity", "Probe", {});
  await first.close();
  await assert.rejects(stat(endpoint.path), { code: "ENOENT" });

  // A socket left by a process that was killed: bound, then its listener gone without unlinking.
  const listener = createServer();
  const bound = `${endpoint.path}.old`;
  await new Promise<void>((resolve) => listener.listen(bound, resolve));
  const { link } = await import("node:fs/promises");
  await link(bound, endpoint.path);
  await new Promise((resolve) => listener.close(resolve));
  assert.ok((await stat(endpoint.path)).isSocket());
  await using second = await serve(endpoint.path, {});
  assert.equal(second.path, endpoint.path);

  const file = `${endpoint.path}.txt`;
  await writeFile(file, "keep");
  await chmod(file, 0o600);
  await assert.rejects(serve(file, {}), /is not a socket/);
  assert.equal((await stat(file)).size, 4);
});

test("bytes that are no message, and messages that are too large, end one call and leave the server working", async () => {
  await using endpoint = await temporaryEndpoint();
  await using _server = await serve(endpoint.path, {
    controller: {
      async CreateVolume({ name }) {
        return { volume: { volumeId: name } };
      },
    },
  });
  const garbage = [
    Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), // a name of 4 GiB that is not there
    Buffer.from([0x0a, 0x02, 0xc3, 0x28]), // not UTF-8
    Buffer.from([0xff, 0xff, 0xff]),
    Buffer.from([0x12, 0x0b, 0x08, ...Array<number>(10).fill(0xff), 0x7f]), // a varint without end
    Buffer.alloc(3 << 20),
  ];
  const raw = new Client(`unix:${endpoint.path}`, credentials.createInsecure());
  for (const bytes of garbage) {
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    const path = "/csi.v1.Controller/CreateVolume";
    raw.makeUnaryRequest(
      path,
      () => bytes,
      (answer) => answer,
      {},
      (error) => resolve(error?.code),
    );
    await promise;
  }
  raw.close();
  using client = CsiClient.open(endpoint.path);
  assert.equal((await client.call("controller", "CreateVolume", { name: "n" })).volume?.volumeId, "n");
});

test("endpoints other than Unix sockets are refused", async () => {
  for (const endpoint of ["tcp://127.0.0.1:9000", "http://x", "unix://", `unix:///${"x".repeat(120)}`]) {
    await assert.rejects(CsiServer.open({ endpoint, services: {}, logger: silentLogger }), {
      code: "INVALID_ARGUMENT",
    });
  }
});

test("closing lets a call in progress finish, and cuts one that does not", async () => {
  await using endpoint = await temporaryEndpoint();
  const { promise: entered, resolve: enter } = Promise.withResolvers<void>();
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const server = await serve(
    endpoint.path,
    {
      controller: {
        async DeleteVolume({ volumeId }) {
          enter();
          await (volumeId === "slow" ? gate : new Promise(() => {}));
          return {};
        },
      },
    },
    { graceMs: 200 },
  );
  using client = CsiClient.open(endpoint.path);
  const slow = client.call("controller", "DeleteVolume", { volumeId: "slow" });
  const stuck = assert.rejects(client.call("controller", "DeleteVolume", { volumeId: "stuck" }), codeIs("UNAVAILABLE"));
  await entered;
  const closed = server.close();
  open();
  assert.deepEqual(await slow, {});
  await stuck;
  await closed;
});
