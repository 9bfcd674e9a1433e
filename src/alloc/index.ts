export * from "./free-space.ts";
export * from "./pool-space.ts";
export * from "./striping.ts";
