import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";
import { loadServices } from "./proto.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** One line for each field, enum value and method below `scope`: all that decides the bytes on the wire. */
function wireFacts(file: string, scope: string): string[] {
  const parsed = new protobuf.Root();
  parsed.resolvePath = (_origin, target) =>
    target.startsWith("google/") ? `${root}/node_modules/protobufjs/${target}` : `${root}/proto/${target}`;
  parsed.loadSync(file, { keepCase: true }).resolveAll();
  const facts: string[] = [];
  const visit = (object: protobuf.ReflectionObject, path: string) => {
    const name = path === "" ? object.name : `${path}.${object.name}`;
    if (object instanceof protobuf.Type) {
      for (const field of object.fieldsArray) {
        const map = field instanceof protobuf.MapField ? `map<${field.keyType},` : "";
        const type = field.resolvedType?.fullName ?? field.type;
        const oneof = field.partOf === null ? "" : ` in ${field.partOf.name}`;
        facts.push(`${name}.${field.name} = ${field.id} ${map}${field.repeated ? "repeated " : ""}${type}${oneof}`);
      }
    } else if (object instanceof protobuf.Enum) {
      for (const [value, id] of Object.entries(object.values)) facts.push(`${name}.${value} = ${id}`);
    } else if (object instanceof protobuf.Service) {
      for (const method of object.methodsArray) {
        const stream = method.responseStream === true ? "stream " : "";
        facts.push(
          `${name}/${method.name} ${method.resolvedRequestType?.fullName} ${stream}${method.resolvedResponseType?.fullName}`,
        );
      }
    }
    if (object instanceof protobuf.Namespace) for (const nested of object.nestedArray) visit(nested, name);
  };
  for (const nested of (parsed.lookup(scope) as protobuf.Namespace).nestedArray) visit(nested, "");
  return facts.sort();
}

const digest = (facts: readonly string[]) =>
  createHash("sha256")
    .update(`${facts.join("\n")}\n`)
    .digest("hex");

test("the CSI messages are those of version 1.12: names, numbers and types of all services", () => {
  const facts = wireFacts("csi.proto", "csi.v1");
  assert.equal(facts.length, 275);
  // Computed in the same way from csi.proto of the specification, tag v1.12.0.
  assert.equal(digest(facts), "042e21be7a48d60b1a5fd8e935fdb6cde04cf2d46ca13caa2a6796fc215140ea");
});

test("the registration messages are those of the kubelet's pluginregistration/v1", () => {
  // From pkg/apis/pluginregistration/v1/api.proto of k8s.io/kubelet v0.34.4.
  assert.equal(
    digest(wireFacts("pluginregistration.proto", "pluginregistration")),
    "70b92023943f14b6a1108bcbe68f628ca78227521ea32ea05d351f861684e949",
  );
});

test("the generated types are those of the proto files", () => {
  const { status, stderr } = spawnSync(process.execPath, ["scripts/gen-proto.mjs", "--check"], {
    cwd: root,
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
});

test("the paths of the methods are those a CO calls", () => {
  const services = loadServices();
  assert.equal(services.node["NodeStageVolume"]?.path, "/csi.v1.Node/NodeStageVolume");
  assert.equal(services.registration["GetInfo"]?.path, "/pluginregistration.Registration/GetInfo");
});
