export * from "./error.ts";
export * from "./logger.ts";
export * from "./range-set.ts";
export * from "./sorted-list.ts";
export * from "./struct.ts";
export * from "./try-lock.ts";
export * from "./units.ts";
export * from "./uuid.ts";
