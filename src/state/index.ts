export * from "./embedded-store.ts";
export * from "./records.ts";
export * from "./store.ts";
