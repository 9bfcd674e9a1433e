export * from "./client.ts";
export { parseEndpoint } from "./endpoint.ts";
export * from "./grpc-status.ts";
export * from "./identity.ts";
export * from "./names.ts";
export * from "./proto.ts";
export * from "./requests.ts";
export * from "./rpc.ts";
export * from "./server.ts";
