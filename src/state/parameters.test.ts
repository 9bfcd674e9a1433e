import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { MIB } from "../base/index.ts";
import { checkParameters, claimIn, PARAMETERS, parseVolumeParameters } from "./parameters.ts";

test("without parameters the documented defaults hold", () => {
  assert.deepEqual(parseVolumeParameters({}), {
    pool: undefined,
    dataWriters: "one",
    writerTimeoutMs: 30_000,
    sealDelayMs: 1_000,
    replayIntervalMs: 1,
    stripe: undefined,
    uid: 0,
    gid: 0,
    mode: 0o755,
    logLengthBytes: 8 * MIB,
  });
});

test("every parameter is read", () => {
  const given = {
    pool: "rack-1",
    dataWriters: "any",
    writerTimeout: "2m",
    sealDelay: "0s",
    replayInterval: "10ms",
    "stripe.buckets": "8",
    "stripe.strips": "4",
    "stripe.chunkSize": "2Mi",
    uid: "1000",
    gid: "4294967294",
    mode: "2770",
    logLength: "16777216",
  };
  assert.deepEqual(Object.keys(given).toSorted(), Object.keys(PARAMETERS).toSorted());
  assert.deepEqual(checkParameters({ ...given, "csi.storage.k8s.io/pvc/name": "claim" }), given);
  assert.deepEqual(parseVolumeParameters(given), {
    pool: "rack-1",
    dataWriters: "any",
    writerTimeoutMs: 120_000,
    sealDelayMs: 0,
    replayIntervalMs: 10,
    stripe: { buckets: 8, strips: 4, chunkBytes: 2 * MIB },
    uid: 1000,
    gid: 4294967294,
    mode: 0o2770,
    logLengthBytes: 16 * MIB,
  });
});

test("the claim is known when the provisioner names one that can be", () => {
  const given = (namespace: string, name: string) => ({
    "csi.storage.k8s.io/pvc/namespace": namespace,
    "csi.storage.k8s.io/pvc/name": name,
  });
  assert.deepEqual(claimIn(given("team-a", "weights.v2")), { namespace: "team-a", name: "weights.v2" });
  for (const [namespace, name] of [
    ["", "a"],
    ["a", ""],
    ["../a", "b"],
    ["a", "b/c"],
    ["a", "b".repeat(254)],
  ] as const) {
    assert.equal(claimIn(given(namespace, name)), undefined);
  }
  assert.equal(claimIn({}), undefined);
});

test("an unknown parameter is named together with the known ones", () => {
  for (const name of ["sealdelay", "toString", "__proto__", ""]) {
    assert.throws(() => checkParameters(Object.fromEntries([[name, "1s"]])), {
      code: "UNKNOWN_PARAMETER",
      message: `parameter "${name}" is unknown; known: ${Object.keys(PARAMETERS).join(", ")}`,
    });
  }
});

test("a wrong value names the parameter, the value and what it should be", () => {
  for (const [name, value] of [
    ["pool", "a/b"],
    ["dataWriters", "two"],
    ["writerTimeout", "30"],
    ["writerTimeout", "11m"],
    ["sealDelay", "-1s"],
    ["replayInterval", "0ms"],
    ["uid", "4294967295"],
    ["gid", "0x10"],
    ["mode", "999"],
    ["logLength", "8"],
    ["logLength", "12Mi"],
    ["logLength", "2Gi"],
    ["stripe.buckets", "8"],
    ["stripe.strips", "16"],
  ] as const) {
    assert.throws(
      () => checkParameters({ [name]: value }),
      (error: { code: string; message: string }) => {
        assert.equal(error.code, "INVALID_ARGUMENT");
        return error.message.includes(name) || error.message.includes("stripe");
      },
    );
  }
  const stripe = { "stripe.buckets": "2", "stripe.strips": "4", "stripe.chunkSize": "2Mi" };
  assert.throws(() => checkParameters(stripe), /stripe\.strips is 4, more than the 2/);
});

test("docs/parameters.md has exactly the rows of the table", () => {
  const documented = readFileSync(new URL("../../docs/parameters.md", import.meta.url), "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  const rows = Object.entries(PARAMETERS).map(([name, parameter]) => {
    const { accepts, does } = parameter;
    const fallback = "default" in parameter ? `\`${parameter.default}\`` : "–";
    return `| \`${name}\` | ${accepts} | ${fallback} | ${does} |`;
  });
  assert.deepEqual(documented, rows);
});
