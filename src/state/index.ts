export * from "./embedded-store.ts";
export * from "./grants.ts";
export * from "./heartbeat.ts";
export * from "./liveness.ts";
export * from "./open-store.ts";
export * from "./parameters.ts";
export * from "./records.ts";
export * from "./store.ts";
