import { fileURLToPath } from "node:url";
import { loadPackageDefinition, type ServiceDefinition } from "@grpc/grpc-js";
import { loadSync, type MethodDefinition } from "@grpc/proto-loader";
import type { ControllerDefinition } from "./gen/csi/v1/Controller.ts";
import type { IdentityDefinition } from "./gen/csi/v1/Identity.ts";
import type { NodeDefinition } from "./gen/csi/v1/Node.ts";
import type { ProtoGrpcType as CsiTypes } from "./gen/csi.ts";
import type { RegistrationDefinition } from "./gen/pluginregistration/Registration.ts";
import type { ProtoGrpcType as RegistrationTypes } from "./gen/pluginregistration.ts";

/** The services this program may serve or call, by the name used for them throughout. */
export interface ServiceDefinitions {
  identity: IdentityDefinition;
  controller: ControllerDefinition;
  node: NodeDefinition;
  registration: RegistrationDefinition;
}
export type ServiceName = keyof ServiceDefinitions;

/** The methods written out in a definition, without grpc-js's index signature. */
export type MethodsOf<Definition> = Extract<
  keyof { [Name in keyof Definition as string extends Name ? never : Name]: true },
  string
>;
export type RequestOf<Method> =
  Method extends MethodDefinition<infer Sent, infer _Response, infer Received, infer _Reply>
    ? { sent: Sent; received: Received }
    : never;
export type ResponseOf<Method> =
  Method extends MethodDefinition<infer _Request, infer Sent, infer _Received, infer Received>
    ? { sent: Sent; received: Received }
    : never;

const DIRECTORY = fileURLToPath(new URL("../../proto", import.meta.url));

/**
 * The definitions, read from proto/. 64-bit integers are bigint, so that none goes through a double; absent messages
 * are null and enums their names (an unknown number stays a number), as the generated types say.
 */
export function loadServices(): ServiceDefinitions {
  const loaded = loadPackageDefinition(
    loadSync(["csi.proto", "pluginregistration.proto"], {
      includeDirs: [DIRECTORY],
      longs: BigInt,
      enums: String,
      defaults: true,
      oneofs: true,
    }),
  ) as unknown as CsiTypes & RegistrationTypes;
  return {
    identity: loaded.csi.v1.Identity.service,
    controller: loaded.csi.v1.Controller.service,
    node: loaded.csi.v1.Node.service,
    registration: loaded.pluginregistration.Registration.service,
  } satisfies Record<ServiceName, ServiceDefinition>;
}
